//! Calls to other servers: no redirect is followed, no answer waited for or read without a bound.

mod reach;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Builder, Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

pub use reach::Reach;
use reach::{LookUpError, Resolver};

/// Why there is no answer. Holds nothing of what was sent.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The system has no certificates to check servers by.
    #[error("no certificates of authorities: {0}")]
    Certificates(std::io::Error),
    /// The address, or one that its name leads to, may not be reached. Nothing was sent.
    #[error("the address is not public")]
    Forbidden,
    /// No connection came about. Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke.
    #[error("{0}")]
    Connection(String),
    /// Nothing came in time.
    #[error("no answer in time")]
    Late,
    /// The answer is longer than allowed.
    #[error("the answer is too long")]
    TooLong,
    /// The answer broke off.
    #[error("the answer broke off")]
    Body,
}

/// An HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

impl Outbound {
    /// A client for addresses that an operator gave.
    ///
    /// # Errors
    /// [`OutboundError::Certificates`].
    pub fn new() -> Result<Self, OutboundError> {
        Self::reaching(Reach::Anywhere, None)
    }

    /// A client that goes only where `reach` says, and waits so long for a connection.
    ///
    /// # Errors
    /// [`OutboundError::Certificates`].
    pub fn reaching(reach: Reach, connect_within: Option<Duration>) -> Result<Self, OutboundError> {
        Self::built(reach, connect_within, Client::builder(TokioExecutor::new()))
    }

    /// A client that goes only where `reach` says and keeps no connection: for callers on several runtimes, each of
    /// which would wait for another's connection.
    ///
    /// # Errors
    /// [`OutboundError::Certificates`].
    pub fn unpooled(reach: Reach) -> Result<Self, OutboundError> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        Self::built(reach, None, builder)
    }

    fn built(
        reach: Reach,
        connect_within: Option<Duration>,
        builder: Builder,
    ) -> Result<Self, OutboundError> {
        let mut http = HttpConnector::new_with_resolver(Resolver(reach));
        http.enforce_http(false);
        http.set_connect_timeout(connect_within);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(OutboundError::Certificates)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: builder.build(connector),
            reach,
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
        // An address that is written out is never looked up.
        let host = request.uri().host().unwrap_or("").trim_matches(['[', ']']);
        if host
            .parse::<IpAddr>()
            .is_ok_and(|ip| !self.reach.allows(ip))
        {
            return Err(OutboundError::Forbidden);
        }
        let exchange = async {
            let answer = self.client.request(request).await.map_err(failed)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, at_most).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => OutboundError::TooLong,
                false => OutboundError::Body,
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(within, exchange)
            .await
            .map_err(|_| OutboundError::Late)?
    }
}

fn failed(error: hyper_util::client::legacy::Error) -> OutboundError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(inner) = cause {
        if let Some(LookUpError::Forbidden) = inner.downcast_ref() {
            return OutboundError::Forbidden;
        }
        cause = inner.source();
    }
    if error.is_connect() {
        OutboundError::Unreachable(chain(&error))
    } else {
        OutboundError::Connection(chain(&error))
    }
}

/// An error with its causes: hyper's own text says only where it happened.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
