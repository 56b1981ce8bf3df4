//! The path of a link: each stage's result can only be made by that stage, so that none can be left out.

use std::net::IpAddr;

use shared::link::{self, LinkError, PermittedLink, UnverifiedLink, VerifiedLink};
use shared::problem::{self, Problem};
use shared::referer::FetchHeaders;
use web_sys::Response;
use worker::Bucket;

use crate::bucket::{Object, Wanted};
use crate::config::Config;
use crate::js;
use crate::limits::{self, AdmittedLink, Limiters};
use crate::respond::{self, Context};

/// A request on the images host. Headers are asked for only when a check needs them.
pub struct LinkRequest<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
    /// Looks up the client's address; `None` when the front did not say.
    pub client: &'a dyn Fn() -> Option<IpAddr>,
    /// Unix seconds.
    pub now: u64,
    /// Looks up a header.
    pub header: &'a dyn Fn(&str) -> Option<String>,
}

/// The checks that need no I/O: method, shape, MAC, time, address, referer.
///
/// # Errors
/// [`LinkError`], in the contract's order.
pub fn permit(request: &LinkRequest<'_>, config: &Config) -> Result<PermittedLink, LinkError> {
    link::check_method(request.method)?;
    let verified = verify(&UnverifiedLink::parse(request.target)?, request, config)?;
    let [referer, site, mode, dest] = [
        "referer",
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
    ]
    .map(request.header);
    verified.permit(
        &config.referer,
        &FetchHeaders {
            referer: referer.as_deref(),
            site: site.as_deref(),
            mode: mode.as_deref(),
            dest: dest.as_deref(),
        },
    )
}

/// The client's address is looked up only for a link that names one: a bad MAC is refused without it.
fn verify<'a>(
    link: &UnverifiedLink<'a>,
    request: &LinkRequest<'_>,
    config: &Config,
) -> Result<VerifiedLink<'a>, LinkError> {
    let at = |client| link.clone().verify(&config.link_keys, request.now, client);
    match at(None) {
        Err(LinkError::IpMismatch) => at((request.client)()),
        verdict => verdict,
    }
}

/// What comes after the checks where not the whole picture is wanted: limit, revocations, bucket, answer.
///
/// # Errors
/// [`ServeError`].
pub async fn open(
    link: PermittedLink,
    request: &Opening<'_>,
    config: &Config,
) -> Result<Response, ServeError> {
    let admitted =
        AdmittedLink::admit(link, request.client, &request.limiters, request.revoked).await?;
    let object = Object::open(request.bucket, admitted, &request.wanted).await?;
    Ok(respond::picture(
        object,
        request.wanted.head,
        config,
        request.now,
    ))
}

/// What opening a permitted link takes from its request and its isolate.
pub struct Opening<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Unix seconds.
    pub now: u64,
    /// Range and conditions.
    pub wanted: Wanted,
    /// The flood shields.
    pub limiters: Limiters<'a>,
    /// Whether the link is revoked.
    pub revoked: Result<(), LinkError>,
    /// The objects.
    pub bucket: &'a Bucket,
}

/// Range and conditions of a request.
pub fn wanted(request: &LinkRequest<'_>) -> Wanted {
    let [if_none_match, if_range, range] =
        ["if-none-match", "if-range", "range"].map(request.header);
    Wanted {
        head: request.method == "HEAD",
        if_none_match,
        if_range,
        range,
    }
}

/// Why no picture is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeError {
    /// A check of the link.
    Link(LinkError),
    /// Over the limit of links.
    RateLimited,
    /// No such object.
    NotFound,
    /// The bucket failed; the text is for the log.
    Store(String),
}

impl ServeError {
    fn problem(&self) -> Problem {
        match self {
            Self::Link(error) => error.problem(),
            Self::RateLimited => problem::RATE_LIMITED,
            Self::NotFound => problem::NOT_FOUND,
            Self::Store(_) => problem::STORE_UNAVAILABLE,
        }
    }

    /// Stable code of the answer.
    pub fn code(&self) -> &'static str {
        self.problem().code
    }
}

/// The refusal's answer; what the operator must know is logged here, once.
pub fn refuse(error: &ServeError, head: bool) -> Response {
    let mut context = Context {
        head,
        ..Context::default()
    };
    match error {
        ServeError::Link(LinkError::MethodNotAllowed) => context.allow = Some("GET, HEAD"),
        ServeError::RateLimited => context.limit = Some(limits::LINKS.into()),
        ServeError::Store(why) => js::log_error(&format!("edge: the bucket failed: {why}")),
        ServeError::Link(_) | ServeError::NotFound => {}
    }
    let problem = error.problem();
    if context.allow.is_none() && context.limit.is_none() {
        return respond::refusal(problem, head);
    }
    let request_id = limits::hex(&js::random::<16>());
    context.request_id = Some(&request_id);
    respond::problem(problem, &context)
}
