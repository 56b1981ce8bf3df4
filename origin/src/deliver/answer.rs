//! Answers of the images listener, with the same headers as the edge's.

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    LOCATION,
};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError, web};
use futures_util::{StreamExt, stream};
use shared::image_headers::{self, ALWAYS, VARY};
use shared::link::PermittedLink;
use shared::problem;
use shared::range::{Bytes, select};
use shared::refusal_page;
use shared::site_file::{self, SiteFile};

use super::asked::Asked;
use super::pace;
use crate::error::ApiError;
use crate::startup::App;
use crate::storage::{ByteRange, ObjectInfo};

const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");

/// What of the picture was asked for.
///
/// # Errors
/// 412, and what the store says.
pub async fn picture(
    asked: &Asked<'_>,
    app: &App,
    link: &PermittedLink,
    info: &ObjectInfo,
) -> Result<HttpResponse, ApiError> {
    let mut response = headers(app, link, info);
    let range = match select(&asked.conditions(), &info.etag, info.size) {
        Bytes::Other => return Err(ApiError::Problem(problem::PRECONDITION_FAILED)),
        Bytes::NotModified => return Ok(response.status(StatusCode::NOT_MODIFIED).finish()),
        Bytes::Unsatisfiable => {
            let error = ApiError::Problem(problem::RANGE_NOT_SATISFIABLE);
            let mut refused = refusal(&error, asked.wants_page());
            if let Ok(value) = format!("bytes */{}", info.size).parse() {
                refused.headers_mut().insert(CONTENT_RANGE, value);
            }
            return Ok(refused);
        }
        Bytes::Part { first, last } => {
            let part = image_headers::content_range(first, last, info.size);
            response.status(StatusCode::PARTIAL_CONTENT);
            response.insert_header((CONTENT_RANGE, part));
            Some(ByteRange::Between(first, last))
        }
        Bytes::Whole => None,
    };
    response.content_type(info.content_type());
    if let Some(disposition) = image_headers::content_disposition(link) {
        response.insert_header((CONTENT_DISPOSITION, disposition));
    }
    if asked.is_head() {
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
    let kept = image_headers::cache_control(link, app.clock.seconds());
    response.insert_header((CACHE_CONTROL, kept));
    response.insert_header(("cross-origin-resource-policy", app.resource_policy));
    response.insert_header((ETAG, info.etag.clone()));
    response
}

/// To a link's clean spelling. Without `Referrer-Policy`: the request that follows must say where it comes from.
pub fn sent_on(clean: &str) -> HttpResponse {
    HttpResponse::Found()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((LOCATION, clean))
        .insert_header(NOSNIFF)
        .insert_header(("x-robots-tag", "noindex"))
        .insert_header(VARY)
        .finish()
}

/// Yes to the scripts of `origin`; [`let_read`] names it.
pub fn preflight() -> HttpResponse {
    let mut response = HttpResponse::NoContent();
    for header in image_headers::PREFLIGHT {
        response.insert_header(header);
    }
    response.insert_header(VARY).finish()
}

/// What browsers and crawlers ask every host for.
pub fn site_file(file: SiteFile) -> HttpResponse {
    let (status, text) = file.answer();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    response.insert_header((CACHE_CONTROL, site_file::CACHE_CONTROL));
    response.insert_header(NOSNIFF);
    match text {
        Some(text) => response
            .content_type("text/plain; charset=utf-8")
            .body(text),
        None => response.finish(),
    }
}

/// A problem, whatever an object's key looks like (shapes go by the paths of the API), or a page.
pub fn refusal(error: &ApiError, page: bool) -> HttpResponse {
    let mut answer = error.error_response();
    insert(&mut answer, VARY.0, VARY.1);
    if !page {
        return answer;
    }
    for (name, value) in refusal_page::headers() {
        insert(&mut answer, name, &value);
    }
    insert(&mut answer, CONTENT_TYPE.as_str(), refusal_page::MEDIA_TYPE);
    answer
        .set_body(refusal_page::page(error.problem()))
        .map_into_boxed_body()
}

/// Lets the scripts of `origin` read an answer.
pub fn let_read(answer: &mut HttpResponse, origin: Option<&str>) {
    for (name, value) in origin.map(image_headers::readable_by).into_iter().flatten() {
        insert(answer, name, value);
    }
}

fn insert(answer: &mut HttpResponse, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}
