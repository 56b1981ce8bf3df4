//! The path of an API call: flood shield → route → token's shield → penalty box → token → body → headers → signature → origin → answer.

use std::net::IpAddr;

use shared::access_token;
use shared::decided::{self, Decided};
use shared::edge_auth::{self, Message};
use shared::error_shape::Shape;
use shared::problem::{self, Problem};
use shared::revocation::{Kind, names_of_address};
use web_sys::{Request, Response};
use worker::Env;

use crate::bearer::{self, Bearer};
use crate::clock;
use crate::config::Config;
use crate::inbound;
use crate::js::{self, Body, Event, Lines};
use crate::limits::{self, FLOOD, FLOOD_TOKEN, Limiters, hex};
use crate::penalty;
use crate::respond::{self, Context};
use crate::revocation::{self, Known, Rule};
use crate::routes::{self, Route};
use crate::token_limit::{self, Charge};

/// The client broke off while sending.
const BODY_INCOMPLETE: Problem = Problem {
    status: 400,
    code: "body_incomplete",
    title: "The body ended before it was complete.",
};

/// Headers of the origin that are between it and the edge.
const INTERNAL_ANSWER_HEADERS: &str = CHARGED;
/// `0` when the origin charged nothing.
const CHARGED: &str = "signet-charged";

/// A call on the API's host.
pub struct Call<'a> {
    /// The request itself.
    pub request: &'a Request,
    /// What it comes with.
    pub event: &'a Event,
    /// `GET`, …
    pub method: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// Unix seconds.
    pub now: u64,
    /// The flood shields.
    pub limiters: Limiters<'a>,
}

/// Why a call does not reach the origin, or gets no answer from it.
struct Refusal {
    problem: Problem,
    limit: Option<limits::Refusal>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            limit: None,
        }
    }
}

impl From<limits::Refusal> for Refusal {
    fn from(limit: limits::Refusal) -> Self {
        Self {
            problem: problem::RATE_LIMITED,
            limit: Some(limit),
        }
    }
}

/// Answers a call: the origin's answer, or a problem.
pub async fn pass(call: &Call<'_>, env: &Env, config: &Config) -> Response {
    let request_id = hex(&js::random::<16>());
    match walk(call, env, config, &request_id).await {
        Ok(answer) => answer,
        Err(Refusal { problem, limit }) => {
            let allow = (problem == problem::METHOD_NOT_ALLOWED).then_some(routes::ALLOW);
            let context = Context {
                head: call.method == "HEAD",
                request_id: Some(&request_id),
                detail: None,
                allow,
                limit,
                shape: Shape::at(call.target),
                wish: None,
            };
            respond::problem(problem, &context)
        }
    }
}

async fn walk(
    call: &Call<'_>,
    env: &Env,
    config: &Config,
    request_id: &str,
) -> Result<Response, Refusal> {
    // First, so that it counts whatever is refused below.
    shield_address(call).await?;
    if call.target == revocation::PATH && config.revocation != Rule::Off {
        let (status, text) = revocation::receive(call, env, config).await?;
        return Ok(respond::told(status, &text, request_id));
    }
    let known = Known::now(env, config.revocation, call.now).await;
    let addresses = names_of_address(call.client);
    if known.refuses(env, addresses, call.now).await.is_some() {
        return Err(problem::ADDRESS_REVOKED.into());
    }
    let route = routes::find(call.target)?;
    if !routes::METHODS.contains(&call.method) {
        return Err(problem::METHOD_NOT_ALLOWED.into());
    }
    let inbound = js::all_headers(call.request);
    let authorization = find(&inbound, "authorization");
    shield_token(call, authorization).await?;
    let mut decided = Decided::default();
    if routes::could_generate(call.method, &route) {
        // Sent by a page of somebody else's: it must not use up what the visitor's address may do.
        let site = find(&inbound, "sec-fetch-site");
        if authorization.is_none() && site == Some("cross-site") {
            return Err(problem::CROSS_SITE.into());
        }
        if config.limits {
            let now = clock::milliseconds(js_sys::Date::now());
            let by_object = penalty::arrive(env, config.penalty, call.client, now).await?;
            decided.penalty = by_object.then_some(config.penalty);
        }
    }
    let charge = token(call, env, config, &route, (authorization, &known)).await?;
    decided.token = charge.as_ref().map(|_| config.token_rate);
    let answer = forward(call, config, &route, &inbound, decided, request_id).await;
    if let Some(charge) = charge.filter(|_| is_uncharged(answer.as_ref().ok())) {
        let env = env.clone();
        js::after_answer(call.event, async move { charge.give_back(&env).await });
    }
    let mut set = Lines::default();
    set.push("x-request-id", request_id);
    Ok(js::pass(&answer?, &set, INTERNAL_ANSWER_HEADERS))
}

/// Whether a request cost the caller nothing at the origin, which may not have been reached.
fn is_uncharged(answer: Option<&Response>) -> bool {
    answer.is_none_or(|answer| {
        let charged = answer.headers().get(CHARGED).ok().flatten();
        charged.as_deref() == Some("0")
    })
}

/// Looks at the token, where one opens the route, and charges it for a generation.
async fn token(
    call: &Call<'_>,
    env: &Env,
    config: &Config,
    route: &Route<'_>,
    (authorization, known): (Option<&str>, &Known),
) -> Result<Option<Charge>, Refusal> {
    let token = authorization
        .and_then(access_token::bearer)
        .filter(|_| routes::takes_tokens(route.path));
    let Some(token) = token else {
        return Ok(None);
    };
    let bearer = bearer::check(token, config, call.now).await;
    let bearer = bearer.map_err(|bearer::Refused| problem::UNAUTHORIZED)?;
    if let Bearer::Known(_, names) = &bearer {
        match known.refuses(env, names.to_vec(), call.now).await {
            None => {}
            Some(Kind::Suspended) => return Err(problem::SUSPENDED.into()),
            Some(_) => return Err(problem::UNAUTHORIZED.into()),
        }
    }
    match bearer {
        Bearer::Known(jti, _) if config.limits && routes::could_generate(call.method, route) => {
            Ok(token_limit::charge(env, config.token_rate, &jti).await?)
        }
        Bearer::Known(..) | Bearer::Unknown => Ok(None),
    }
}

/// The origin's answer.
async fn forward(
    call: &Call<'_>,
    config: &Config,
    route: &Route<'_>,
    inbound: &str,
    decided: Decided,
    request_id: &str,
) -> Result<Response, Refusal> {
    let body = take_body(call, route, inbound).await?;
    let decided = decided.to_text();
    let sent = Sent {
        route,
        inbound,
        body: body.as_ref(),
        decided: decided.as_deref(),
        request_id,
    };
    let headers = outbound(call, config, &sent)?;
    let url = format!("{}{}", config.origin.url, call.target);
    let taken = body.as_ref().map(|body| &body.taken);
    let answer = js::ask_origin(&url, call.method, &headers, taken).await;
    let too_large = taken.is_some_and(Body::is_over);
    let refused = if too_large {
        problem::BODY_TOO_LARGE
    } else {
        problem::ORIGIN_UNREACHABLE
    };
    answer.ok_or_else(|| refused.into())
}

/// A header's value in a request's lines of headers; `name` in lower case.
pub fn find<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    js::header_pairs(lines)
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

async fn shield_address(call: &Call<'_>) -> Result<(), Refusal> {
    match call.limiters.allow_address(FLOOD, call.client).await {
        true => Ok(()),
        false => Err(limits::Refusal::from(FLOOD).into()),
    }
}

async fn shield_token(call: &Call<'_>, authorization: Option<&str>) -> Result<(), Refusal> {
    match authorization {
        Some(value) if !call.limiters.allow_token(FLOOD_TOKEN, value).await => {
            Err(limits::Refusal::from(FLOOD_TOKEN).into())
        }
        _ => Ok(()),
    }
}

/// A request's body on its way, with what the signature says about it.
struct Carried {
    taken: Body,
    /// `content-length`, where the whole length is known before sending.
    length: Option<u64>,
    /// `content-digest`, of a body up to 64 KB.
    digest: Option<String>,
}

async fn take_body(
    call: &Call<'_>,
    route: &Route<'_>,
    inbound: &str,
) -> Result<Option<Carried>, Refusal> {
    let declared = find(inbound, "content-length").and_then(|text| text.parse::<u64>().ok());
    let carries = matches!(call.method, "POST" | "DELETE")
        && declared != Some(0)
        && call.request.body().is_some();
    if !carries {
        return Ok(None);
    }
    if route.body_limit == 0 || declared.is_some_and(|bytes| bytes > route.body_limit) {
        return Err(problem::BODY_TOO_LARGE.into());
    }
    let taken = Body::take(
        call.request,
        declared,
        edge_auth::DIGEST_UP_TO,
        route.body_limit,
    )
    .await
    .map_err(|_| BODY_INCOMPLETE)?;
    if taken.is_over() {
        return Err(problem::BODY_TOO_LARGE.into());
    }
    let bytes = taken.bytes();
    let length = bytes
        .as_ref()
        .map_or(declared, |bytes| u64::try_from(bytes.len()).ok());
    if length.is_some_and(|bytes| bytes > route.body_limit) {
        return Err(problem::BODY_TOO_LARGE.into());
    }
    let digest = bytes.map(|bytes| edge_auth::content_digest(&bytes));
    Ok(Some(Carried {
        taken,
        length,
        digest,
    }))
}

/// What is sent on to the origin, beside the call itself.
struct Sent<'a> {
    route: &'a Route<'a>,
    inbound: &'a str,
    body: Option<&'a Carried>,
    decided: Option<&'a str>,
    request_id: &'a str,
}

/// The headers for the origin: the client's that pass, ours, and the signature over them.
fn outbound(call: &Call<'_>, config: &Config, sent: &Sent<'_>) -> Result<Lines, Refusal> {
    let Sent {
        route,
        inbound,
        body,
        decided,
        request_id,
    } = *sent;
    let client = call.client.to_string();
    // Without a body the runtime itself writes `Content-Length: 0` where the method expects one.
    let length = match body {
        Some(body) => body.length.map(|bytes| bytes.to_string()),
        None => (!matches!(call.method, "GET" | "HEAD")).then(|| "0".to_owned()),
    };
    let digest = body.and_then(|body| body.digest.as_deref());
    let mut lines = Lines::default();
    for (name, value) in js::header_pairs(inbound) {
        if inbound::passes(name, config.client.header_name()) {
            lines.push(name, value);
        }
    }
    let message = Message {
        method: call.method,
        authority: &config.origin.authority,
        path: route.path,
        query: route.query,
        headers: edge_auth::HEADERS.map(|name| match name {
            edge_auth::CLIENT_IP => Some(client.as_str()),
            "x-request-id" => Some(request_id),
            "content-length" => length.as_deref(),
            "content-digest" => digest,
            decided::HEADER => decided,
            name => find(inbound, name),
        }),
    };
    let nonce = hex(&js::random::<16>());
    let signed = edge_auth::sign(&config.edge_keys, &message, call.now, &nonce)
        .map_err(|_| problem::MALFORMED_HEADER)?;
    for (name, value) in [
        (edge_auth::CLIENT_IP, client.as_str()),
        ("x-request-id", request_id),
        ("signature-input", &signed.signature_input),
        ("signature", &signed.signature),
    ] {
        lines.push(name, value);
    }
    for (name, value) in [("content-digest", digest), (decided::HEADER, decided)] {
        if let Some(value) = value {
            lines.push(name, value);
        }
    }
    Ok(lines)
}
