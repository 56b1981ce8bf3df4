//! The whole body of a request: bounded, in time, and the one that the edge signed.

use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::{Error, FromRequest, HttpRequest, web};
use shared::edge_auth::{DIGEST_UP_TO, content_digest};
use shared::problem::{self, Problem};

use crate::error::ApiError;
use crate::startup::App;

/// How long a body may take to arrive. Without it a few slow senders hold all connections.
const LONGEST: Duration = Duration::from_secs(30);

const TOO_SLOW: Problem = Problem {
    status: 408,
    code: "body_timeout",
    title: "The body did not arrive in time.",
};

/// A body within the route's limit. Handlers take this and never `web::Bytes`, so that no route forgets to compare the
/// digest that the edge signed.
#[derive(Debug)]
pub struct SignedBody(pub web::Bytes);

impl std::ops::Deref for SignedBody {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FromRequest for SignedBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let arriving = web::Bytes::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let body = tokio::time::timeout(LONGEST, arriving)
                .await
                .map_err(|_| ApiError::Problem(TOO_SLOW))?;
            let body = body.map_err(|error| refusal(&error))?;
            if !is_signed(&request, Some(&body)) {
                return Err(ApiError::Problem(problem::EDGE_ONLY));
            }
            Ok(Self(body))
        })
    }
}

/// Whether a body is what the edge signed, where only the edge is believed: `whole` is all of it, or nothing when it is
/// longer than [`DIGEST_UP_TO`] and not held in memory. For the handlers that read bodies by themselves.
pub fn is_signed(request: &HttpRequest, whole: Option<&[u8]>) -> bool {
    let from_edge = request
        .app_data::<web::Data<App>>()
        .is_some_and(|app| app.edge_keys.is_some());
    let good = !from_edge
        || match whole {
            Some(body) => digest_matches(request, body),
            None => !request.headers().contains_key("content-digest"),
        };
    if !good {
        tracing::warn!("a body is not the one that the edge signed");
    }
    good
}

fn refusal(error: &Error) -> ApiError {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => ApiError::Problem(problem::BODY_TOO_LARGE),
        _ => ApiError::Invalid("the body did not arrive whole".into()),
    }
}

/// Whether a body is the one whose digest the signature covers. Above [`DIGEST_UP_TO`] the edge sends none.
fn digest_matches(request: &HttpRequest, body: &[u8]) -> bool {
    match request.headers().get("content-digest") {
        Some(value) => value
            .to_str()
            .is_ok_and(|value| value == content_digest(body)),
        None => body.is_empty() || body.len() > DIGEST_UP_TO,
    }
}
