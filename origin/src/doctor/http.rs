//! Requests as a client of the deployment sends them: any spelling of a target, no redirect followed, one connection
//! each, nothing waited for or read without a bound.

mod ask;

use std::collections::HashMap;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower_service::Service;

pub use ask::Ask;
use ask::Body;

use super::Finding;
use crate::outbound::chain;

/// As much of an answer as is read: pictures of an upload fit.
const AT_MOST: usize = 32 << 20;

/// Where a host and port are really to be found: `api.example.com:443` → `127.0.0.1:8443`.
pub type ConnectTo = HashMap<String, String>;

/// Opens connections, elsewhere where the operator says so.
#[derive(Clone, Debug)]
struct Dialer {
    tcp: HttpConnector,
    elsewhere: ConnectTo,
}

impl Service<Uri> for Dialer {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let secure = to.scheme_str() == Some("https");
        let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let place = format!("{}:{port}", to.host().unwrap_or_default());
        let other = self.elsewhere.get(&place);
        let other = other.and_then(|place| format!("http://{place}/").parse().ok());
        self.tcp.call(other.unwrap_or(to))
    }
}

/// The client.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpsConnector<Dialer>, Body>,
    /// Sent with every request to the deployment.
    always: HeaderMap,
}

/// One answer that came.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// No answer came; says where from and why.
#[derive(Debug, thiserror::Error)]
#[error("{method} {place} got no answer: {reason}")]
pub struct NoAnswer {
    method: Method,
    place: String,
    reason: String,
}

impl From<NoAnswer> for Finding {
    fn from(error: NoAnswer) -> Self {
        Self::Fail(error.to_string())
    }
}

impl Http {
    /// # Errors
    /// The system has no certificates to check servers by.
    pub fn new(elsewhere: ConnectTo) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dialer { tcp, elsewhere });
        let mut always = HeaderMap::new();
        let agent = concat!("signet-doctor/", env!("CARGO_PKG_VERSION"));
        always.insert("user-agent", HeaderValue::from_static(agent));
        Ok(Self {
            // A connection that the other side closed meanwhile would look like a failure.
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector),
            always,
        })
    }

    /// The same client, seen by a deployment on loopback as this address.
    #[must_use]
    pub fn as_address(&self, address: &str) -> Self {
        let mut other = self.clone();
        if let Ok(value) = HeaderValue::try_from(address) {
            other.always.insert("cf-connecting-ip", value);
        }
        other
    }

    /// Sends and reads the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`]; an answer of any status is none.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, NoAnswer> {
        let path = ask.target.split('?').next().unwrap_or_default();
        let place = format!("{}{path}", ask.base.url());
        let method = ask.method.clone();
        let failed = |reason: String| NoAnswer {
            method: method.clone(),
            place: place.clone(),
            reason,
        };
        let within = ask.within;
        let request = self
            .request(ask)
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|error| chain(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, AT_MOST).collect().await;
            let body = body.map_err(|_| "the answer is too long or broke off".to_owned())?;
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(failed(format!("not within {} s", within.as_secs()))),
        }
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Body>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", ask.base.url(), ask.target))
            .body(ask.body.stream())?;
        *request.headers_mut() = self.always.clone();
        request.headers_mut().extend(ask.headers);
        Ok(request)
    }
}

impl Answer {
    /// A header's text, of its first line.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and code, for evidence: `403 bad_signature`.
    pub fn told(&self) -> String {
        let json = self.json();
        let code = json.get("code").or_else(|| json.get("error"));
        match code.and_then(|code| code.as_str()) {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    /// The first policy named by `RateLimit`.
    pub fn policy(&self) -> Option<&str> {
        self.header("ratelimit")?.split('"').nth(1)
    }
}
