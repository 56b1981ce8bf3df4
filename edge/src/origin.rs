//! Requests of the edge's own to the origin: signed like those that it passes on, but no client is behind them.

use shared::edge_auth::{self, Message};

use crate::config::Config;
use crate::js::{self, Body, Lines};
use crate::limits::hex;

/// Instead of a client's address.
const NO_CLIENT: &str = "0.0.0.0";
const TEXT: &str = "text/plain";
/// Longer documents are not taken, in characters.
const MAX_DOCUMENT: u32 = 64 * 1024;

/// The document at `path`, waiting for `wait` seconds; none when it cannot be had, the cause is logged.
pub async fn get(config: &Config, path: &str, now: u64, wait: u64) -> Option<String> {
    let lines = signed(config, "GET", path, None, now)?;
    js::document(&url(config, path), &lines, wait, MAX_DOCUMENT).await
}

/// Sends a text; the answer's status, or none when there is no answer.
pub async fn post(config: &Config, path: &str, text: &str, now: u64) -> Option<u16> {
    let lines = signed(config, "POST", path, Some(text), now)?;
    let body = Body::of(text);
    let answer = js::ask_origin(&url(config, path), "POST", &lines, Some(&body)).await?;
    Some(answer.status())
}

fn url(config: &Config, path: &str) -> String {
    format!("{}{path}", config.origin.url)
}

fn signed(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<&str>,
    now: u64,
) -> Option<Lines> {
    let length = body.map(|text| text.len().to_string());
    let digest = body.map(|text| edge_auth::content_digest(text.as_bytes()));
    let message = Message {
        method,
        authority: &config.origin.authority,
        path,
        query: None,
        headers: edge_auth::HEADERS.map(|name| match name {
            edge_auth::CLIENT_IP => Some(NO_CLIENT),
            "content-type" => body.map(|_| TEXT),
            "content-length" => length.as_deref(),
            "content-digest" => digest.as_deref(),
            _ => None,
        }),
    };
    let nonce = hex(&js::random::<16>());
    let signed = edge_auth::sign(&config.edge_keys, &message, now, &nonce).ok()?;
    let mut lines = Lines::default();
    for (name, value) in [
        (edge_auth::CLIENT_IP, Some(NO_CLIENT)),
        ("content-type", body.map(|_| TEXT)),
        ("content-digest", digest.as_deref()),
        ("signature-input", Some(&signed.signature_input)),
        ("signature", Some(&signed.signature)),
    ] {
        if let Some(value) = value {
            lines.push(name, value);
        }
    }
    Some(lines)
}
