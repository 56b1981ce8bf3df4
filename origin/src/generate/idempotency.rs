//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again does not pay again.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::Bytes;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::keyring::{Key, Keyring};
use subtle::ConstantTimeEq;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::jobs::{Ended, Live};
use crate::json;
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

/// A request that can be sent again: its key, scoped to its route, with a MAC of what it asks for under the ring's
/// signing key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) key: RequestKey,
    body: Bytes,
}

/// The key of a request.
///
/// # Errors
/// `invalid_request`: not 1 to 255 printable ASCII characters, or more than one. Fronts join two into one with a comma
/// and a space, so that a key that holds both counts as two everywhere.
pub(super) fn read(
    request: &HttpRequest,
    body: &Bytes,
    ring: &Keyring,
) -> Result<Option<Keyed>, ApiError> {
    let mut values = request.headers().get_all("idempotency-key");
    let (Some(value), more) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|_| more.is_none());
    let key = key.filter(|key| {
        (1..=LONGEST).contains(&key.len())
            && key.bytes().all(|c| (0x20..0x7f).contains(&c))
            && !key.contains(", ")
    });
    let key = key.ok_or_else(|| {
        let text = "Idempotency-Key must be one of 1 to 255 printable ASCII characters, without a comma before a space";
        ApiError::Invalid(text.into())
    })?;
    let name = format!("{} {key}", request.path());
    let body_mac = body_mac(ring.signing(), &name, body);
    Ok(Some(Keyed {
        key: RequestKey { name, body_mac },
        body: body.clone(),
    }))
}

/// `v2:kid:mac`, over what was asked for: order of keys, white space and spelling of numbers make no other request.
/// Keyed, because a plain hash could be found with a dictionary of prompts.
fn body_mac(key: &Key, name: &str, body: &[u8]) -> String {
    format!("v2:{}:{}", key.kid(), mac_v2(key, name, body))
}

fn mac_v2(key: &Key, name: &str, body: &[u8]) -> String {
    match json::parse(body) {
        Ok(value) => mac(
            key,
            "signet-idempotency-v2",
            name,
            json::canonical(&value).as_bytes(),
        ),
        // Refused later, whatever it is compared with.
        Err(_) => mac(key, "signet-idempotency-v2-raw", name, body),
    }
}

fn mac(key: &Key, tag: &str, name: &str, body: &[u8]) -> String {
    let mut input = format!("{tag}\n{name}\n").into_bytes();
    input.extend_from_slice(body);
    URL_SAFE_NO_PAD.encode(key.mac(&input))
}

/// Whether a request is the one whose digest was stored, by the rule of that digest: `v2:kid:mac`, or `kid:mac` of
/// earlier releases, over the bytes of the body.
fn is_same(stored: &str, name: &str, body: &[u8], ring: &Keyring) -> bool {
    let parts: Vec<&str> = stored.split(':').collect();
    let again = match parts.as_slice() {
        ["v2", kid, _] => ring.get(kid).map(|key| mac_v2(key, name, body)),
        [kid, _] => ring
            .get(kid)
            .map(|key| mac(key, "signet-idempotency-v1", name, body)),
        _ => None,
    };
    // Under a key that is retired nothing can be compared: it is taken to be the same.
    let (Some(again), Some(first)) = (again, parts.last()) else {
        return true;
    };
    first.as_bytes().ct_eq(again.as_bytes()).into()
}

/// The job of an earlier request under this key.
///
/// # Errors
/// `idempotency_mismatch` when that request had another body.
pub(super) async fn known(
    app: &App,
    caller: &Caller,
    keyed: &Keyed,
) -> Result<Option<Known>, ApiError> {
    let key = &keyed.key;
    let Some(row) = app.state.job_by_key(&caller.user_id, &key.name).await? else {
        return Ok(None);
    };
    let first = row.key.as_ref().map_or("", |key| &key.body_mac);
    if !is_same(first, &key.name, &keyed.body, &app.publisher.ring.get()) {
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
        let read = |path, key, body: &str| {
            let body = Bytes::copy_from_slice(body.as_bytes());
            read(&request(path, key), &body, &ring()).map(|keyed| keyed.map(|keyed| keyed.key))
        };
        let first = read("/api/generate", "a", "x").unwrap().unwrap();
        assert_eq!(first, read("/api/generate", "a", "x").unwrap().unwrap());
        let other_body = read("/api/generate", "a", "y").unwrap().unwrap();
        assert_eq!(first.name, other_body.name);
        assert_ne!(first.body_mac, other_body.body_mac);
        assert_ne!(first.name, read("/v1/x", "a", "x").unwrap().unwrap().name);
        assert!(!first.body_mac.contains('x') || first.body_mac.len() > 40);
        let long = "k".repeat(256);
        for bad in ["", long.as_str(), "ä", "tab\there", "a, b"] {
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
        assert!(read(&request, &Bytes::new(), &ring()).is_err());
    }

    #[test]
    fn a_digest_is_of_what_is_asked_for_and_older_ones_are_read_by_their_own_rule() {
        let two = format!("k2:{}=,k1:{}=", "B".repeat(42) + "A", "A".repeat(43));
        let (old, new) = (ring(), Keyring::parse(&two).unwrap());
        let (name, body) = ("/api/generate k", br#"{"prompt":"x","steps":4}"#.as_slice());
        let stored = body_mac(old.signing(), name, body);
        assert!(stored.starts_with("v2:k1:"), "{stored}");
        let reordered = br#"{ "steps": 4.0, "prompt": "x" }"#.as_slice();
        let other = br#"{"prompt":"x","steps":5}"#.as_slice();
        // The key of then still verifies, whichever signs now.
        for ring in [&old, &new] {
            assert!(is_same(&stored, name, body, ring));
            assert!(is_same(&stored, name, reordered, ring));
            assert!(!is_same(&stored, name, other, ring));
            assert!(!is_same(&stored, "/api/generate l", body, ring));
        }
        let first = mac(old.signing(), "signet-idempotency-v1", name, body);
        let first = format!("k1:{first}");
        assert!(is_same(&first, name, body, &new));
        assert!(
            !is_same(&first, name, reordered, &new),
            "bytes counted then"
        );
        assert!(
            is_same("gone:AAAA", name, other, &new),
            "cannot be compared"
        );
    }
}
