//! The embedded images listener: the edge's walk of a link, by the same shared code, over this service's own store.

mod pace;

use std::net::IpAddr;

use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError, web};
use futures_util::{StreamExt, stream};
use shared::image_headers::{self, ALWAYS};
use shared::link::{LinkError, PermittedLink, UnverifiedLink, check_method};
use shared::problem;
use shared::range::{Bytes, Conditions, select};
use shared::referer::FetchHeaders;
use shared::report;
use shared::revocation;

use crate::edge_trust::address_of;
use crate::error::{ApiError, answer};
use crate::startup::App;
use crate::storage::{ByteRange, ObjectInfo, StoreError};

/// Every request of the images listener.
pub async fn serve(request: HttpRequest, app: web::Data<App>) -> HttpResponse {
    let client = address_of(&request, &app.settings.edge.client_address_header);
    let link = match permit(&request, &app, client) {
        Ok(link) => link,
        Err(error) => {
            let (target, ring) = (request.uri().path_and_query(), app.publisher.ring.get());
            let kid = target
                .and_then(|target| report::kid_named(target.as_str(), &ring))
                .unwrap_or(report::UNKNOWN_KID);
            app.metrics
                .links
                .with_label_values(&[error.problem().code, kid])
                .inc();
            app.watch.links(false, 1);
            return answer(error.problem());
        }
    };
    let opened = open(&request, &app, &link, client).await;
    let verdict = opened
        .as_ref()
        .map_or_else(|error| error.problem().code, |_| "ok");
    app.metrics
        .links
        .with_label_values(&[verdict, link.kid()])
        .inc();
    app.watch.links(opened.is_ok(), 1);
    // A problem, whatever an object's key looks like: shapes go by the paths of the API.
    opened.unwrap_or_else(|error| error.error_response())
}

/// What comes after the checks: limit, revocations, object.
async fn open(
    request: &HttpRequest,
    app: &App,
    link: &PermittedLink,
    client: Option<IpAddr>,
) -> Result<HttpResponse, ApiError> {
    // Without an address nothing can be limited: then nothing is served, as at the edge.
    let client = client.ok_or(ApiError::Problem(problem::MISCONFIGURED))?;
    app.limits.link(client, app.clock.nanos())?;
    if let Err(error) = revoked(app, link, client).await? {
        return Err(ApiError::Problem(error.problem()));
    }
    object(request, app, link).await
}

fn permit(
    request: &HttpRequest,
    app: &App,
    client: Option<IpAddr>,
) -> Result<PermittedLink, LinkError> {
    check_method(request.method().as_str())?;
    let text = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let headers = FetchHeaders {
        referer: text("referer"),
        site: text("sec-fetch-site"),
        mode: text("sec-fetch-mode"),
        dest: text("sec-fetch-dest"),
    };
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str());
    UnverifiedLink::parse(target)?
        .verify(&app.publisher.ring.get(), app.clock.seconds(), client)?
        .permit(&app.referers, &headers)
}

/// The state itself is at hand here, so there is nothing that could be old: the same entries as at the edge, judged alike.
async fn revoked(
    app: &App,
    link: &PermittedLink,
    client: IpAddr,
) -> Result<Result<(), LinkError>, ApiError> {
    let names = revocation::names_of_link(link, Some(client));
    let entries = app.state.revoked_among(names.clone()).await?;
    let now = app.clock.seconds();
    Ok(revocation::judge(link, &names, &entries, now))
}

/// The object under the link's key, or under the one it moved to.
async fn find(app: &App, link: &PermittedLink) -> Result<ObjectInfo, StoreError> {
    match app.store.head(link.key()).await {
        Err(StoreError::NotFound) => match link.key().counterpart() {
            Some(other) => app.store.head(&other).await,
            None => Err(StoreError::NotFound),
        },
        found => found,
    }
}

async fn object(
    request: &HttpRequest,
    app: &App,
    link: &PermittedLink,
) -> Result<HttpResponse, ApiError> {
    let info = find(app, link).await?;
    let text = |name: header::HeaderName| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let is_head = request.method() == Method::HEAD;
    let conditions = Conditions {
        if_none_match: text(header::IF_NONE_MATCH),
        if_range: text(header::IF_RANGE),
        range: text(header::RANGE).filter(|_| !is_head),
    };
    let chosen = select(&conditions, &info.etag, info.size);
    let mut response = headers(app, link, &info);
    let range = match chosen {
        Bytes::NotModified => return Ok(response.status(StatusCode::NOT_MODIFIED).finish()),
        Bytes::Unsatisfiable => {
            let mut refused = answer(problem::RANGE_NOT_SATISFIABLE);
            if let Ok(value) = format!("bytes */{}", info.size).parse() {
                refused.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return Ok(refused);
        }
        Bytes::Part { first, last } => {
            response.status(StatusCode::PARTIAL_CONTENT);
            response.insert_header((
                header::CONTENT_RANGE,
                image_headers::content_range(first, last, info.size),
            ));
            Some(ByteRange::Between(first, last))
        }
        Bytes::Whole => None,
    };
    response.content_type(info.content_type());
    if is_head {
        // A body of the true length that is never polled: an empty one would answer `Content-Length: 0`.
        let unsent = stream::empty::<Result<web::Bytes, ApiError>>();
        return Ok(response.body(SizedStream::new(info.size, unsent)));
    }
    let object = app.store.get(&info.key, range).await?;
    let length = object.span.1;
    let body = object.body.map(|part| part.map_err(ApiError::from));
    let grace = app.settings.server.stalled_seconds;
    let body = pace::paced(body, app.clock.clone(), grace);
    Ok(response.no_chunking(length).streaming(body))
}

fn headers(app: &App, link: &PermittedLink, info: &ObjectInfo) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for header in ALWAYS {
        response.insert_header(header);
    }
    response.insert_header((
        header::CACHE_CONTROL,
        image_headers::cache_control(link, app.clock.seconds()),
    ));
    response.insert_header(("cross-origin-resource-policy", app.resource_policy));
    response.insert_header((header::ETAG, info.etag.clone()));
    if let Some(disposition) = image_headers::content_disposition(link) {
        response.insert_header((header::CONTENT_DISPOSITION, disposition));
    }
    response
}
