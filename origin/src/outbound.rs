//! Calls to other servers: no redirect is followed, no answer waited for or read without a bound.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// Why there is no answer. Holds nothing of what was sent.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The system has no certificates to check servers by.
    #[error("no certificates of authorities: {0}")]
    Certificates(std::io::Error),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// Nothing came in time.
    #[error("no answer in time")]
    Late,
    /// The answer is longer than allowed, or broke off.
    #[error("the answer is too long or broke off")]
    Body,
}

/// An HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Outbound {
    /// # Errors
    /// [`OutboundError::Certificates`].
    pub fn new() -> Result<Self, OutboundError> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(OutboundError::Certificates)?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Sends and reads the whole answer: within so long, at most so many bytes.
    ///
    /// # Errors
    /// [`OutboundError`]; an answer of any status is none.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
        at_most: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let exchange = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| OutboundError::Connection(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, at_most).collect().await;
            let body = body.map_err(|_| OutboundError::Body)?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(within, exchange)
            .await
            .map_err(|_| OutboundError::Late)?
    }
}

/// An error with its causes: hyper's own text says only where it happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
