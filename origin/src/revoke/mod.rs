//! Telling the edge what is revoked.
//!
//! A decision stands in the state first; then the edge is told the root of all that is revoked ([`shared::revocation`]),
//! signed as the edge signs to us. An edge that holds something else says what, and gets the pages that differ. The
//! commands tell the edge themselves, so that a revocation takes effect while the service is down; the service says it
//! again every few seconds, since what the edge knows ages.

mod blocked;

pub use blocked::{Blocked, follow};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prometheus::Gauge;
use shared::edge_auth::{self, EdgeAuthError, HEADERS, Message};
use shared::revocation::page::parse_digests;
use shared::revocation::{Beat, MAX_TEXT};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Settings;
use crate::outbound::{Outbound, OutboundError};
use crate::publish::LiveRing;
use crate::startup::StartError;
use crate::state::revocations::Difference;
use crate::state::{State, StateError};

/// Where the edge is told.
const PATH: &str = "/.signet/revocations";
/// It is said again so often; the edge acts on it for 30 s.
const AGAIN: Duration = Duration::from_secs(10);
/// After a failure sooner: an edge that has just started opens nothing before it is told. Doubled while it fails.
const RETRY: Duration = Duration::from_millis(100);
/// Not less often than this.
const RETRY_AT_MOST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(5);
const ANSWER: usize = 256 * 1024;
/// Between two attempts of one telling what the edge lacks is sent, some megabytes at once. So many are millions of
/// entries.
const ROUNDS: usize = 64;

/// A root that nothing has: asks the edge what it holds.
const NO_ROOT: &str = "00000000000000000000000000000000";

/// What is sent: pages in messages of [`MAX_TEXT`] at most, the last of them with the root.
fn messages(taken_ms: u64, difference: &Difference) -> Vec<String> {
    let head = |root| Beat::head(taken_ms, root);
    let mut texts = vec![head(None)];
    for page in &difference.pages {
        let text = page.to_text();
        let room = MAX_TEXT - head(Some(NO_ROOT)).len();
        match texts.last_mut() {
            Some(last) if last.len() + text.len() <= room => last.push_str(&text),
            _ => texts.push(head(None) + &text),
        }
    }
    if let (Some(root), Some(last)) = (&difference.root, texts.last_mut())
        && let Some((_, pages)) = last.split_once('\n')
    {
        *last = head(Some(root)) + pages;
    }
    texts
}

/// Why the edge was not told.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// What is revoked cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The edge holds something else after all was sent: somebody else tells it, too.
    #[error(
        "the edge holds something else than it was told: is it told by another deployment, too?"
    )]
    Unsettled,
    /// The edge does not say what it holds.
    #[error("the edge does not say what it holds")]
    Unreadable,
    /// The request cannot be signed.
    #[error("the edge's address cannot be signed: {0:?}")]
    Sign(EdgeAuthError),
    /// The request cannot be made.
    #[error("the edge's address is none: {0}")]
    Address(#[from] hyper::http::Error),
    /// No answer.
    #[error("the edge does not answer: {0}")]
    Away(#[from] OutboundError),
    /// The edge did not take it.
    #[error("the edge answered {0}")]
    Refused(u16),
}

/// The edge that is to be told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Revoker {
    outbound: Outbound,
    url: String,
    ring: LiveRing,
}

impl Revoker {
    /// The configured edge; none where the service stands alone.
    ///
    /// # Errors
    /// The keyring or the system's certificates cannot be read.
    pub fn of(settings: &Settings) -> Result<Option<Self>, StartError> {
        let Some(ring) = settings.edge_keys()?.filter(|_| settings.edge.require) else {
            return Ok(None);
        };
        let url = match settings.edge.url.trim_end_matches('/') {
            "" => settings.server.url(),
            url => url.to_owned(),
        };
        Ok(Some(Self {
            outbound: Outbound::new()?,
            url,
            ring: LiveRing::new(ring),
        }))
    }

    /// Signs with this ring, as it changes.
    pub fn with(self, ring: LiveRing) -> Self {
        Self { ring, ..self }
    }

    /// Tells what is revoked now: the root of it, then what differs, until the edge holds the same.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn tell(&self, state: &State, clock: &Clock) -> Result<(), RevokeError> {
        state.forget_revoked(clock.seconds()).await?;
        let mut held: Option<BTreeMap<u16, u64>> = None;
        for _ in 0..ROUNDS {
            // Before the state is read: what is decided meanwhile is newer than this says.
            let taken_ms = clock.nanos() / 1_000_000;
            let difference = match held.take() {
                None => Difference {
                    pages: Vec::new(),
                    root: Some(state.revoked_root().await?),
                },
                Some(held) => state.revoked_beyond(held).await?,
            };
            let is_all = difference.root.is_some();
            let mut lacks = None;
            for text in messages(taken_ms, &difference) {
                lacks = self.put(text, clock.seconds()).await?;
            }
            match lacks {
                None if is_all => return Ok(()),
                None => {
                    held = self
                        .put(Beat::head(taken_ms, Some(NO_ROOT)), clock.seconds())
                        .await?
                }
                lacks => held = lacks,
            }
        }
        Err(RevokeError::Unsettled)
    }

    /// Sends one message; what the edge holds, where that is something else than the message says.
    async fn put(&self, text: String, now: u64) -> Result<Option<BTreeMap<u16, u64>>, RevokeError> {
        let request = self.request(text, now)?;
        let answer = self.outbound.send(request, WITHIN, ANSWER).await?;
        match answer.status().as_u16() {
            204 => Ok(None),
            409 => std::str::from_utf8(answer.body())
                .ok()
                .and_then(parse_digests)
                .map(Some)
                .ok_or(RevokeError::Unreadable),
            status => Err(RevokeError::Refused(status)),
        }
    }

    fn request(&self, text: String, now: u64) -> Result<Request<Full<Bytes>>, RevokeError> {
        let digest = edge_auth::content_digest(text.as_bytes());
        let length = text.len().to_string();
        let message = Message {
            method: "PUT",
            authority: self.url.split("://").nth(1).unwrap_or(""),
            path: PATH,
            query: None,
            headers: HEADERS.map(|name| match name {
                "content-type" => Some("text/plain"),
                "content-length" => Some(length.as_str()),
                "content-digest" => Some(digest.as_str()),
                _ => None,
            }),
        };
        let nonce = uuid::Uuid::from_bytes(rand::random()).simple().to_string();
        let signed =
            edge_auth::sign(&self.ring.get(), &message, now, &nonce).map_err(RevokeError::Sign)?;
        let request = Request::put(format!("{}{PATH}", self.url))
            .header("content-type", "text/plain")
            .header("content-length", &length)
            .header("content-digest", &digest)
            .header("signature-input", signed.signature_input)
            .header("signature", signed.signature);
        Ok(request.body(Full::new(Bytes::from(text)))?)
    }

    /// Tells the edge for ever: regularly, and at once when something was decided here. `told` gets the time of each
    /// success, in Unix seconds.
    pub async fn keep_telling(
        self,
        state: State,
        clock: Clock,
        decided: Arc<Notify>,
        told_at: Gauge,
    ) {
        // One that never was told is as old as this process.
        told_at.set(clock.seconds() as f64);
        let (mut failing, mut retry) = (false, RETRY);
        loop {
            let told = self.tell(&state, &clock).await;
            match &told {
                Ok(()) if failing => tracing::info!("the edge knows again what is revoked"),
                Err(error) if !failing => {
                    tracing::error!(%error, "the edge was not told what is revoked");
                }
                _ => {}
            }
            failing = told.is_err();
            if !failing {
                told_at.set(clock.seconds() as f64);
            }
            retry = if failing {
                (retry * 2).min(RETRY_AT_MOST)
            } else {
                RETRY
            };
            let pause = tokio::time::sleep(if failing { retry } else { AGAIN });
            tokio::select! {
                () = pause => {}
                () = decided.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::revocation::page::paged;
    use shared::revocation::{Entry, Kind, NEVER};

    #[test]
    fn what_is_sent_keeps_within_the_edges_bound_and_the_last_message_has_the_root() {
        let owner = |n| {
            Entry::new(
                Kind::Suspended,
                &format!("{}{n:032}", "u".repeat(32)),
                0,
                NEVER,
            )
        };
        let pages = paged((0..30_000).filter_map(owner).collect());
        let all = Difference {
            pages,
            root: Some("a".repeat(32)),
        };
        let texts = messages(5, &all);
        assert!(texts.len() >= 3);
        let read: Vec<Beat> = texts
            .iter()
            .map(|text| Beat::parse(text).unwrap())
            .collect();
        assert!(texts.iter().all(|text| text.len() <= MAX_TEXT));
        let sent: Vec<_> = read.iter().flat_map(|beat| beat.pages.clone()).collect();
        assert_eq!(sent, all.pages);
        let with_root = read.iter().filter(|beat| beat.root.is_some()).count();
        assert!(with_root == 1 && read.last().unwrap().root == all.root);
        let some = Difference { root: None, ..all };
        let texts = messages(5, &some);
        assert!(
            texts
                .iter()
                .all(|text| Beat::parse(text).unwrap().root.is_none())
        );
        let nothing = Difference {
            pages: Vec::new(),
            root: Some("b".repeat(32)),
        };
        assert_eq!(
            messages(5, &nothing),
            [format!("signet-revoked-v2 5 {}\n", "b".repeat(32))]
        );
    }
}
