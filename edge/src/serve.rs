//! The path of a link: each stage's result can only be made by that stage, so that none can be left out.

use std::net::IpAddr;

use shared::link::{self, LinkError, PermittedLink, UnverifiedLink, VerifiedLink};
use shared::problem::{self, Problem};
use shared::referer::FetchHeaders;
use shared::report;
use shared::site_file::SiteFile;
use web_sys::{Request, Response};
use worker::Bucket;

use crate::bucket::{Object, Wanted};
use crate::config::Config;
use crate::js;
use crate::limits::{self, AdmittedLink, Limiters};
use crate::respond::{self, Context, Wish};

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
pub fn permit(request: &LinkRequest<'_>, config: &Config) -> Result<Permitted, LinkError> {
    link::check_method(request.method)?;
    let told = || Told::by(request);
    let (unverified, clean) =
        UnverifiedLink::parse_tracked(request.target, || told().headers().may_be_sent_on())?;
    let verified = verify(&unverified, request, config)?;
    let link = verified.permit(&config.referer, &told().headers())?;
    Ok(Permitted {
        link,
        clean: clean.map(|clean| clean.to_string()),
    })
}

/// What the checks let pass.
pub struct Permitted {
    /// The link.
    pub link: PermittedLink,
    /// Where to send it on to, when trackers hung on it: then it opens nothing.
    pub clean: Option<String>,
}

/// What a request says about how it came to be.
struct Told([Option<String>; 5]);

impl Told {
    fn by(request: &LinkRequest<'_>) -> Self {
        let names = [
            "referer",
            "origin",
            "sec-fetch-site",
            "sec-fetch-mode",
            "sec-fetch-dest",
        ];
        Self(names.map(request.header))
    }

    fn headers(&self) -> FetchHeaders<'_> {
        let [referer, origin, site, mode, dest] = self.0.each_ref().map(Option::as_deref);
        FetchHeaders {
            referer,
            origin,
            site,
            mode,
            dest,
        }
    }
}

/// What is asked of the images host that concerns no picture.
#[derive(Clone, Debug)]
pub enum Aside {
    /// Whether the scripts of this origin, which may, are allowed to read pictures.
    Preflight(String),
    /// An icon or `robots.txt`.
    SiteFile(SiteFile),
}

impl Aside {
    /// Reads it from a request, before any link is looked at.
    pub fn of(request: &LinkRequest<'_>, config: &Config) -> Option<Self> {
        if request.method == "OPTIONS" {
            let origin = (request.header)("origin");
            return config
                .referer
                .readable_by(origin.as_deref())
                .map(|origin| Self::Preflight(origin.to_owned()));
        }
        SiteFile::at(request.target)
            .filter(|_| link::check_method(request.method).is_ok())
            .map(Self::SiteFile)
    }

    /// Under which verdict it is counted.
    pub const fn verdict(&self) -> &'static str {
        match self {
            Self::Preflight(_) => report::PREFLIGHT,
            Self::SiteFile(_) => report::SITE_FILE,
        }
    }

    /// The answer, behind the flood shield.
    ///
    /// # Errors
    /// [`ServeError::RateLimited`].
    pub async fn answer(
        &self,
        client: IpAddr,
        limiters: &Limiters<'_>,
        head: bool,
    ) -> Result<Response, ServeError> {
        if !limiters.allow_address(limits::LINKS, client).await {
            return Err(ServeError::RateLimited);
        }
        Ok(match self {
            Self::Preflight(origin) => respond::preflight(origin),
            Self::SiteFile(file) => respond::site_file(*file, head),
        })
    }
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
    if let Some(clean) = &request.clean {
        return Ok(respond::sent_on(clean, &request.wish));
    }
    Ok(respond::picture(object, &request.wish, config, request.now))
}

/// What opening a permitted link takes from its request and its isolate.
pub struct Opening<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Unix seconds.
    pub now: u64,
    /// Range and conditions.
    pub wanted: Wanted,
    /// Where to send a link on to that had trackers.
    pub clean: Option<String>,
    /// How it is to be answered.
    pub wish: Wish,
    /// The flood shields.
    pub limiters: Limiters<'a>,
    /// Whether the link is revoked.
    pub revoked: Result<(), LinkError>,
    /// The objects.
    pub bucket: &'a Bucket,
}

/// Range and conditions of a request.
pub fn wanted(request: &LinkRequest<'_>) -> Wanted {
    let [if_match, if_none_match, if_range, range] =
        ["if-match", "if-none-match", "if-range", "range"].map(request.header);
    Wanted {
        head: request.method == "HEAD",
        if_match,
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
    /// The front did not say who asks.
    NoAddress,
}

impl ServeError {
    fn problem(&self) -> Problem {
        match self {
            Self::Link(error) => error.problem(),
            Self::RateLimited => problem::RATE_LIMITED,
            Self::NotFound => problem::NOT_FOUND,
            Self::Store(_) => problem::STORE_UNAVAILABLE,
            Self::NoAddress => problem::MISCONFIGURED,
        }
    }

    /// Stable code of the answer.
    pub fn code(&self) -> &'static str {
        self.problem().code
    }
}

/// The refusal's answer; what the operator must know is logged here, once.
pub fn refuse(error: &ServeError, head: bool, request: &Request, config: &Config) -> Response {
    let wish = Wish::of(request, head, config);
    let mut context = Context {
        head,
        wish: Some(&wish),
        ..Context::default()
    };
    match error {
        ServeError::Link(LinkError::MethodNotAllowed) => context.allow = Some("GET, HEAD"),
        ServeError::RateLimited => context.limit = Some(limits::LINKS.into()),
        ServeError::Store(why) => js::log_error(&format!("edge: the bucket failed: {why}")),
        ServeError::NoAddress => js::log_error(crate::NO_ADDRESS),
        ServeError::Link(_) | ServeError::NotFound => {}
    }
    let problem = error.problem();
    if context.allow.is_none() && context.limit.is_none() {
        return respond::refusal(problem, &wish);
    }
    let request_id = limits::hex(&js::random::<16>());
    context.request_id = Some(&request_id);
    respond::problem(problem, &context)
}
