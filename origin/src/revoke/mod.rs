//! Telling the edge what is revoked.
//!
//! A decision stands in the state first; then the whole of what is revoked goes to the edge as a snapshot
//! ([`shared::revocation`]), signed as the edge signs to us. The commands tell the edge themselves, so that a revocation
//! takes effect while the service is down; the service says it again every few seconds, since a snapshot ages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use shared::edge_auth::{self, EdgeAuthError, HEADERS, Message};
use shared::revocation::MAX_TEXT;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Settings;
use crate::outbound::{Outbound, OutboundError};
use crate::publish::LiveRing;
use crate::startup::StartError;
use crate::state::{State, StateError};

/// Where the edge takes a snapshot.
const PATH: &str = "/.signet/revocations";
/// A snapshot is made anew so often; the edge acts on one for 30 s.
const AGAIN: Duration = Duration::from_secs(10);
/// After a failure sooner: an edge that has just started opens nothing before it is told. Doubled while it fails.
const RETRY: Duration = Duration::from_millis(100);
/// Not less often than this.
const RETRY_AT_MOST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(5);
const ANSWER: usize = 64 * 1024;

/// Why the edge was not told.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// What is revoked cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// More is revoked than a snapshot holds.
    #[error("more is revoked than a snapshot holds ({MAX_TEXT} bytes)")]
    TooMuch,
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

    /// Sends what is revoked now.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn tell(&self, state: &State, clock: &Clock) -> Result<(), RevokeError> {
        let text = state
            .revocations(clock.nanos() / 1_000_000)
            .await?
            .to_text();
        if text.len() > MAX_TEXT {
            return Err(RevokeError::TooMuch);
        }
        let request = self.request(text, clock.seconds())?;
        let answer = self.outbound.send(request, WITHIN, ANSWER).await?;
        match answer.status().as_u16() {
            204 => Ok(()),
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

    /// Tells the edge for ever: regularly, and at once when something was decided here.
    pub async fn keep_telling(self, state: State, clock: Clock, decided: Arc<Notify>) {
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
