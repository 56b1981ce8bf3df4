//! Asking the provider: short, bounded, without redirects.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::ProviderError;
use super::settings::is_trustworthy;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 256 * 1024;

/// A client for one provider.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    /// # Errors
    /// The system has no certificates.
    pub(super) fn new() -> Result<Self, String> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("auth.provider: no root certificates: {error}"))?
            .https_or_http()
            .enable_http1()
            .build();
        // No idle connections: each runtime of the service may ask, and each would wait for another's connection.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { client })
    }

    pub(super) async fn get(&self, url: &str) -> Result<Bytes, ProviderError> {
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        self.send(url, request, Bytes::new()).await
    }

    pub(super) async fn post(
        &self,
        url: &str,
        form: String,
        authorization: Option<String>,
    ) -> Result<Bytes, ProviderError> {
        let mut request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.send(url, request, form.into()).await
    }

    async fn send(
        &self,
        url: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Bytes, ProviderError> {
        let away = |reason: String| ProviderError::Away(reason);
        if !is_trustworthy(url) {
            return Err(away("an address that is not https".into()));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| away(error.to_string()))?;
        let asked = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            if !status.is_success() {
                return Err(if status.is_client_error() {
                    ProviderError::Token("the provider refused")
                } else {
                    away(format!("status {status}"))
                });
            }
            let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            body.map(|body| body.to_bytes())
                .map_err(|error| away(error.to_string()))
        };
        tokio::time::timeout(WITHIN, asked)
            .await
            .map_err(|_| away("no answer in time".into()))?
    }
}
