//! All middleware, in order, with the reason beside each.
//!
//! | order | what | why |
//! |---|---|---|
//! | 1 | request id | every answer can be found in the log |
//! | 2 | host | a name that is not ours is answered 421 before anything else looks at the request |
//! | 3 | one spelling of the path | what rules compare must be what the router matches |
//! | 4 | no token in the query | it would stand in logs and referers |
//! | 5 | edge | who the client is; nobody around the edge |
//! | 6 | penalty box | arrivals of what could generate, refused ones included |
//! | 7 | what is left of a body | a client who is refused while it sends must hear the answer |
//! | 8 | counting | answers by route template and status |

use std::borrow::Cow;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError, web};
use futures_util::FutureExt;
use prometheus::IntCounter;
use shared::decided::Pair;
use shared::error_shape::Shape;
use shared::hex::hex;
use shared::{plain_path, problem, secret_in_query};

use crate::auth::Recognised;
use crate::edge_trust::{self, ClientAddress, DecidedAtEdge};
use crate::error::{ApiError, Told};
use crate::startup::App;
use crate::telemetry::trace::Begun;
use crate::telemetry::{Metrics, RequestId};
use crate::unread::Unread;
use crate::watch::Refused;

/// Templates of the routes whose arrivals the penalty box counts.
const GENERATION_ROUTES: [&str; 4] = [
    "/api/generate",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
];

/// The public listener's.
pub async fn public(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run(request, next, async |request, app| {
        known_host(request, &app.settings.server.hosts())?;
        plain_path(request)?;
        no_token_in_query(request)?;
        edge_trust::admit(request).await
    })
    .await
}

/// Whether the route that matches could make pictures: what the penalty box counts.
fn could_generate(request: &ServiceRequest) -> bool {
    let pattern = || request.match_pattern();
    request.method() == Method::POST
        && pattern().is_some_and(|pattern| GENERATION_ROUTES.contains(&pattern.as_str()))
}

/// Counts an arrival of what could generate; elsewhere, and where no address is known, there is none. What a page of
/// another site sent without a token is refused and not counted: it must not use up what the visitor's address may do.
async fn arrive(request: &ServiceRequest, app: &App) -> Result<(), ApiError> {
    if !could_generate(request) {
        return Ok(());
    }
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site == Some(b"cross-site") && !headers.contains_key(AUTHORIZATION) {
        return Err(ApiError::CrossSite);
    }
    let address = request.extensions().get::<ClientAddress>().copied();
    let Some(address) = address else {
        return Ok(());
    };
    let arrived = app.limits.arrive(address.0, app.clock.nanos()).await;
    let at_edge = request.extensions().get::<DecidedAtEdge>().copied();
    let limits = app.limits.settings();
    let ours = Pair(
        limits.penalty_arrivals,
        u32::try_from(limits.penalty_seconds).unwrap_or(u32::MAX),
    );
    // What the edge decided by the same numbers is only counted here, for the usage report.
    if at_edge.is_some_and(|it| it.0.penalty == Some(ours)) {
        return Ok(());
    }
    Ok(arrived?)
}

/// The images listener's: links speak for themselves.
pub async fn images(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run(request, next, async |request, app| {
        known_host(request, &app.settings.images.hosts())
    })
    .await
}

/// The operator listener's.
pub async fn operator(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run(request, next, async |request, app| {
        known_host(request, &app.settings.server.operator_hosts())?;
        plain_path(request)
    })
    .await
}

async fn run(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    check: impl AsyncFnOnce(&ServiceRequest, &App) -> Result<(), ApiError>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let app = request.app_data::<web::Data<App>>().cloned();
    let app = app.ok_or_else(|| ApiError::Internal("no app data".into()))?;
    let caller = request.headers().get("traceparent");
    let caller = caller.and_then(|value| value.to_str().ok());
    if let Some(begun) = app.tracer.begin(caller, &id) {
        request.extensions_mut().insert(begun);
    }
    let checked = match check(&request, &app).await {
        Ok(()) => arrive(&request, &app).await,
        refused => refused,
    };
    let unread = Unread::of(&mut request);
    let mut response = match checked {
        Ok(()) => match AssertUnwindSafe(next.call(request)).catch_unwind().await {
            Ok(Ok(response)) => shaped(response.map_into_boxed_body()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(panicked(&app, &id)),
        },
        Err(error) => {
            let answer = error.answer_at(request.path());
            request.into_response(answer)
        }
    };
    // Who sends too slowly is not waited for once more.
    if let Some(unread) = unread.filter(|_| response.status() != StatusCode::REQUEST_TIMEOUT) {
        unread.drain().await;
    }
    if app.settings.telemetry.collect {
        count(&app, &response, &id);
    }
    trace(&app, &response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), value);
    }
    // Every refusal and failure gives its charge back, but for a job that ran; a replay is not charged at all.
    let told = response.response().extensions().get::<Told>().copied();
    let refused = response.status().as_u16() >= 400 && !told.is_some_and(|told| told.is_charged);
    if refused || response.headers().contains_key("idempotency-replayed") {
        response.headers_mut().insert(
            HeaderName::from_static("signet-charged"),
            HeaderValue::from_static("0"),
        );
    }
    Ok(response)
}

/// What a handler refused, in the shape that the path's clients read.
fn shaped(mut response: ServiceResponse) -> ServiceResponse {
    let shape = Shape::at(response.request().path());
    let error = response.response().error();
    let body = error
        .filter(|_| shape != Shape::Problem)
        .and_then(Error::as_error::<ApiError>)
        .map(|error| error.body(shape));
    let Some(body) = body else { return response };
    let media_type = HeaderValue::from_static(shape.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response.map_body(|_, _| BoxBody::new(body))
}

/// The answer of a handler that panicked; what is known of the panic stands in the log by now.
fn panicked(app: &App, id: &str) -> Error {
    app.metrics
        .requests
        .with_label_values(&["panicked", "500"])
        .inc();
    let problem = ApiError::Internal(format!("request {id} panicked"));
    let mut answer = problem.error_response();
    if let Ok(value) = HeaderValue::from_str(id) {
        let name = HeaderName::from_static("x-request-id");
        answer.headers_mut().insert(name, value);
    }
    InternalError::from_response("panicked", answer).into()
}

/// Ends the request's span, and tells a log that wants details of the request: by its route, never by what came with it.
fn trace(app: &App, response: &ServiceResponse, id: &str) {
    let request = response.request();
    let begun = request.extensions().get::<Begun>().copied();
    let wanted = tracing::enabled!(target: "signet::request", tracing::Level::DEBUG);
    if begun.is_none() && !wanted {
        return;
    }
    let route = request.match_pattern().unwrap_or_else(|| "other".into());
    let status = response.status().as_u16();
    let method = request.method().as_str();
    if let Some(begun) = begun {
        app.tracer.end(&begun, method, &route, status, id);
    }
    if wanted && KNOWN_METHODS.contains(&method) {
        tracing::debug!(target: "signet::request", method, route, status, request_id = id);
    }
}

/// A client may make a method up; only these are told.
const KNOWN_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Counts an answer: in the metrics by route template and status, in the operators' watch by who and why.
fn count(app: &App, response: &ServiceResponse, id: &str) {
    let request = response.request();
    let status = response.status();
    let route = match request.app_data::<Route>() {
        Some(route) => {
            route.count(&app.metrics, status);
            Cow::Borrowed(route.template)
        }
        // Matched once more, which costs more than all the rest here.
        None => {
            let pattern = request.match_pattern().unwrap_or_else(|| "other".into());
            let labels = [pattern.as_str(), status.as_str()];
            app.metrics.requests.with_label_values(&labels).inc();
            Cow::Owned(pattern)
        }
    };
    let peer = || request.peer_addr().map(|peer| peer.ip().to_canonical());
    let extensions = request.extensions();
    let address = extensions.get::<ClientAddress>().map(|address| address.0);
    let recognised = extensions.get::<Recognised>();
    if status.as_u16() < 400 {
        return app.watch.answered(recognised, address);
    }
    let told = response.response().extensions().get::<Told>().copied();
    let policy = told.and_then(|told| told.policy);
    if let Some(policy) = policy {
        app.metrics.limited.with_label_values(&[policy]).inc();
    }
    let refused = Refused {
        route,
        status: status.as_u16(),
        code: told.map_or_else(|| word(status), |told| told.code),
        policy,
        address: address.or_else(peer),
        user: recognised.map(|known| Arc::clone(&known.user)),
        request_id: id.to_owned(),
    };
    app.watch.refused(refused, recognised);
}

/// A route as its answers are counted: its template, and the counters of the statuses that it answered so far.
#[derive(Debug)]
pub struct Route {
    template: &'static str,
    counters: RefCell<Vec<(StatusCode, IntCounter)>>,
}

impl Route {
    /// The route of this template.
    pub fn new(template: &'static str) -> Self {
        Self {
            template,
            counters: RefCell::default(),
        }
    }

    fn count(&self, metrics: &Metrics, status: StatusCode) {
        let mut counters = self.counters.borrow_mut();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == status) {
            return counter.inc();
        }
        let labels = [self.template, status.as_str()];
        let counter = metrics.requests.with_label_values(&labels);
        counter.inc();
        counters.push((status, counter));
    }
}

/// For answers that are no problem of ours: RFC 6749's, and what the framework answers by itself.
fn word(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        413 => "body_too_large",
        500.. => "failed",
        _ => "refused",
    }
}

/// The edge's id when it is one of the form we make, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let given = request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        (8..=64).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    given
        .filter(is_plain)
        .map_or_else(|| hex(&rand::random::<[u8; 16]>()), str::to_owned)
}

/// # Errors
/// 421 for a host that is not in the list; names are compared with and without a port.
fn known_host(request: &ServiceRequest, hosts: &[String]) -> Result<(), ApiError> {
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| {
            let mut values = request.headers().get_all("host");
            let first = values
                .next()
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            if values.next().is_some() { None } else { first }
        });
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|c| c.is_ascii_digit()) => bare,
        _ => host.as_str(),
    };
    let known = hosts.iter().any(|known| *known == host || *known == bare);
    if known {
        Ok(())
    } else {
        Err(ApiError::Problem(problem::UNKNOWN_HOST))
    }
}

fn plain_path(request: &ServiceRequest) -> Result<(), ApiError> {
    match plain_path::is_plain(request.path()) {
        true => Ok(()),
        false => Err(ApiError::Problem(problem::NOT_FOUND)),
    }
}

fn no_token_in_query(request: &ServiceRequest) -> Result<(), ApiError> {
    if secret_in_query::is_in(request.query_string()) {
        Err(ApiError::Problem(problem::TOKEN_IN_QUERY))
    } else {
        Ok(())
    }
}
