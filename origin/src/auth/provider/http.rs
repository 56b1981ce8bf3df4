//! Asking the provider: short, bounded, without redirects, and only at public addresses but where an operator named the
//! host. The provider's documents say where its keys and its token endpoint are; they must not send us into our own network.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri, header};

use super::ProviderError;
use super::settings::{ProviderSettings, is_trustworthy};
use crate::outbound::{Outbound, OutboundError, Reach};

const WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 256 * 1024;

/// A client for one provider.
#[derive(Clone, Debug)]
pub(super) struct Http {
    public: Outbound,
    anywhere: Outbound,
    /// Hosts that may have private addresses.
    private_hosts: Vec<String>,
}

impl Http {
    /// # Errors
    /// The system has no certificates.
    pub(super) fn new(settings: &ProviderSettings) -> Result<Self, String> {
        let open =
            |reach| Outbound::unpooled(reach).map_err(|error| format!("auth.provider: {error}"));
        Ok(Self {
            public: open(Reach::Public { loopback: false })?,
            anywhere: open(Reach::Anywhere)?,
            private_hosts: settings.private_hosts(),
        })
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
        let answer = self
            .client_for(request.uri())
            .send(request, WITHIN, MAX_BODY)
            .await
            .map_err(|error| {
                match error {
                OutboundError::Forbidden => away(
                    "its address is not public; auth.provider.private_hosts names hosts that may be"
                        .into(),
                ),
                error => away(error.to_string()),
            }
            })?;
        let status = answer.status();
        if status.is_client_error() {
            return Err(ProviderError::Token("the provider refused"));
        }
        if !status.is_success() {
            return Err(away(format!("status {status}")));
        }
        Ok(answer.into_body())
    }

    fn client_for(&self, uri: &Uri) -> &Outbound {
        let host = uri.host().unwrap_or("");
        let is_named = |known: &String| known.eq_ignore_ascii_case(host);
        match self.private_hosts.iter().any(is_named) {
            true => &self.anywhere,
            false => &self.public,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(issuer: &str, private_hosts: &[&str], url: &str) -> Result<Bytes, ProviderError> {
        let settings = ProviderSettings {
            issuer: issuer.into(),
            private_hosts: private_hosts.iter().map(ToString::to_string).collect(),
            ..ProviderSettings::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Http::new(&settings).unwrap().get(url))
    }

    #[test]
    fn a_providers_documents_send_us_nowhere_private_unless_the_host_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_refused = |issuer: &str, named: &[&str], url: &str| {
            let error = asked(issuer, named, url).unwrap_err().to_string();
            error.contains("private_hosts")
        };
        for url in [
            "https://10.0.0.1/jwks",
            "https://169.254.169.254/latest",
            "https://[::1]:9/jwks",
            "https://[fd00::1]/jwks",
            "https://localhost:9/jwks",
        ] {
            assert!(is_refused("https://idp.example", &[], url), "{url}");
        }
        // Nothing was sent: nobody has called.
        let here = format!("https://127.0.0.1:{port}/jwks");
        assert!(is_refused("https://idp.example", &[], &here));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        // A host that is named is asked, in capitals too; another one is not.
        let error = asked(
            "https://idp.example",
            &["LocalHost"],
            &format!("https://localhost:{port}/"),
        );
        assert!(!error.unwrap_err().to_string().contains("private_hosts"));
        assert!(is_refused("https://idp.example", &["localhost"], &here));
        // An issuer on this machine is named by being one.
        let error = asked("http://127.0.0.1:1", &[], "http://127.0.0.1:1/x").unwrap_err();
        assert!(!error.to_string().contains("private_hosts"), "{error}");
    }
}
