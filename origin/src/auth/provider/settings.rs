//! The section `auth.provider`.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// A trusted OpenID provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its issuer, an https address; http only on loopback. Empty: none.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our secret there, from `SIGNET_AUTH__PROVIDER__CLIENT_SECRET` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// Hosts of the provider (issuer, keys, token endpoint) that may have private addresses. Others are asked at public
    /// addresses only; an issuer on this machine needs no entry.
    pub private_hosts: Vec<String>,
    /// Audiences of tokens that clients may exchange for ours (RFC 8693); empty: only our client id.
    pub audiences: Vec<String>,
}

impl ProviderSettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if self.issuer.is_empty() {
            return Ok(());
        }
        if !is_trustworthy(&self.issuer) {
            return Err("auth.provider.issuer is no https address (http only on loopback)".into());
        }
        if self.client_id.is_empty() {
            return Err("auth.provider.client_id is empty".into());
        }
        Ok(())
    }

    pub(super) fn secret(&self) -> Result<Option<Secret>, String> {
        Secret::given(
            "auth.provider.client_secret",
            self.client_secret.as_ref(),
            self.client_secret_file.as_deref(),
        )
    }

    /// The hosts that may have private addresses.
    pub(super) fn private_hosts(&self) -> Vec<String> {
        let issuer = self.issuer.parse::<hyper::Uri>().ok();
        let issuer = issuer.as_ref().and_then(|uri| uri.host());
        let here = issuer.filter(|host| is_loopback(host)).map(str::to_owned);
        self.private_hosts.iter().cloned().chain(here).collect()
    }

    pub(super) fn accepted_audiences(&self) -> Vec<&str> {
        if self.audiences.is_empty() {
            vec![&self.client_id]
        } else {
            self.audiences.iter().map(String::as_str).collect()
        }
    }
}

/// Whether what this address says cannot be changed on the way: https, or this machine.
pub(super) fn is_trustworthy(url: &str) -> bool {
    let Ok(url) = url.parse::<hyper::Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or("");
    match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_loopback(host),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_trusted() {
        for good in [
            "https://idp.example",
            "https://idp.example/realms/a",
            "http://localhost:3000",
            "http://127.0.0.1:9",
            "http://[::1]:9",
        ] {
            assert!(is_trustworthy(good), "{good}");
        }
        for bad in [
            "http://idp.example",
            "ftp://localhost",
            "idp.example",
            "",
            "http://localhost.evil.example",
            "file:///etc/passwd",
        ] {
            assert!(!is_trustworthy(bad), "{bad}");
        }
    }
}
