//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again does not pay again.

use std::sync::Arc;

use actix_web::HttpRequest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::keyring::{Key, Keyring};
use subtle::ConstantTimeEq;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::jobs::{Ended, Live};
use crate::startup::App;
use crate::state::jobs::RequestKey;

/// Longest key.
const LONGEST: usize = 255;

/// What became of the request that came first.
pub(super) enum Known {
    /// It is under way.
    Live(Arc<Live>),
    /// It ended: the job's id and cost, and how.
    Ended(String, u64, Ended),
    /// Another process has it, or nobody has begun with it again: the job's id and cost, and whether it runs.
    HandedOver(String, u64, bool),
}

/// The key of this request, scoped to its route, with a MAC of the body under the ring's signing key.
///
/// # Errors
/// `invalid_request`: not 1 to 255 printable ASCII characters, or more than one.
pub(super) fn read(
    request: &HttpRequest,
    body: &[u8],
    ring: &Keyring,
) -> Result<Option<RequestKey>, ApiError> {
    let mut values = request.headers().get_all("idempotency-key");
    let (Some(value), more) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|_| more.is_none());
    let key = key.filter(|key| {
        (1..=LONGEST).contains(&key.len()) && key.bytes().all(|c| (0x20..0x7f).contains(&c))
    });
    let key = key.ok_or_else(|| {
        ApiError::Invalid("Idempotency-Key must be 1 to 255 printable ASCII characters".into())
    })?;
    let name = format!("{} {key}", request.path());
    let body_mac = body_mac(ring.signing(), &name, body);
    Ok(Some(RequestKey { name, body_mac }))
}

/// `kid:mac`. Keyed, because a plain hash of a body could be found with a dictionary of prompts.
fn body_mac(key: &Key, name: &str, body: &[u8]) -> String {
    let mut input = format!("signet-idempotency-v1\n{name}\n").into_bytes();
    input.extend_from_slice(body);
    format!("{}:{}", key.kid(), URL_SAFE_NO_PAD.encode(key.mac(&input)))
}

/// The job of an earlier request under this key.
///
/// # Errors
/// `idempotency_mismatch` when that request had another body.
pub(super) async fn known(
    app: &App,
    caller: &Caller,
    key: &RequestKey,
) -> Result<Option<Known>, ApiError> {
    let Some(row) = app.state.job_by_key(&caller.user_id, &key.name).await? else {
        return Ok(None);
    };
    let first = row.key.as_ref().map_or("", |key| &key.body_mac);
    let equal: bool = first.as_bytes().ct_eq(key.body_mac.as_bytes()).into();
    // After a rotation the first body's MAC is under another key: it is then taken to be the same.
    let comparable = first.split(':').next() == key.body_mac.split(':').next();
    if comparable && !equal {
        return Err(ApiError::IdempotencyMismatch);
    }
    if let Some(live) = app.jobs.find(&caller.user_id, &row.id) {
        return Ok(Some(Known::Live(live)));
    }
    let row = match row.end {
        Some(_) => Some(row),
        // It may have ended between the two looks.
        None => app.state.job_by_key(&caller.user_id, &key.name).await?,
    };
    Ok(row.map(|row| match Ended::of(&row) {
        Some(ended) => Known::Ended(row.id, row.milliunits, ended),
        None => Known::HandedOver(row.id, row.milliunits, row.running),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn ring() -> Keyring {
        Keyring::parse(&format!("k1:{}=", "A".repeat(43))).unwrap()
    }

    #[test]
    fn keys_are_scoped_to_the_route_and_bodies_are_told_apart() {
        let request = |path: &str, key: &str| {
            let request = TestRequest::post().uri(path);
            request
                .insert_header(("idempotency-key", key))
                .to_http_request()
        };
        let read = |path, key, body: &str| read(&request(path, key), body.as_bytes(), &ring());
        let first = read("/api/generate", "a", "x").unwrap().unwrap();
        assert_eq!(first, read("/api/generate", "a", "x").unwrap().unwrap());
        let other_body = read("/api/generate", "a", "y").unwrap().unwrap();
        assert_eq!(first.name, other_body.name);
        assert_ne!(first.body_mac, other_body.body_mac);
        assert_ne!(first.name, read("/v1/x", "a", "x").unwrap().unwrap().name);
        assert!(!first.body_mac.contains('x') || first.body_mac.len() > 40);
        let long = "k".repeat(256);
        for bad in ["", long.as_str(), "ä", "tab\there"] {
            assert!(read("/api/generate", bad, "x").is_err(), "{bad:?}");
        }
        assert!(read("/api/generate", &long[1..], "x").is_ok());
    }

    #[test]
    fn two_keys_in_one_request_are_none() {
        let request = TestRequest::post()
            .append_header(("idempotency-key", "a"))
            .append_header(("idempotency-key", "b"))
            .to_http_request();
        assert!(read(&request, b"", &ring()).is_err());
    }
}
