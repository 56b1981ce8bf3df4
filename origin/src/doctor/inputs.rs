//! What the doctor is told: the names of `.run/env` from its environment, options, and the configuration where it is.

use std::path::PathBuf;

use super::http::ConnectTo;
use crate::config::Settings;
use crate::secret::Secret;

/// `http(s)://host[:port]`, nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    scheme: &'static str,
    authority: String,
}

impl Base {
    /// Reads an address.
    ///
    /// # Errors
    /// A sentence that names `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let wrong = || format!("{name} must be http(s)://host[:port] without a path");
        let text = text.trim().trim_end_matches('/');
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = match scheme {
            "http" => "http",
            "https" => "https",
            _ => return Err(wrong()),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self {
            scheme,
            authority: authority.to_ascii_lowercase(),
        })
    }

    /// The whole address.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// The same host over the other scheme, on that scheme's own port.
    pub fn plain_http(&self) -> Self {
        Self {
            scheme: "http",
            authority: self.host().to_owned(),
        }
    }

    /// The same scheme and host on another port.
    pub fn with_port(&self, port: u16) -> Self {
        Self {
            scheme: self.scheme,
            authority: format!("{}:{port}", self.host()),
        }
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => host,
            _ => &self.authority,
        }
    }

    /// The port, the scheme's own where none is written.
    pub fn port(&self) -> u16 {
        let written = self.authority.get(self.host().len() + 1..);
        written
            .and_then(|port| port.parse().ok())
            .unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let host = self.host().trim_matches(['[', ']']);
        host == "localhost"
            || host.ends_with(".localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Path and query of a link of this host; none for another host's.
    pub fn target_of<'a>(&self, link: &'a str) -> Option<&'a str> {
        let rest = link.strip_prefix(self.url().as_str())?;
        rest.starts_with('/').then_some(rest)
    }
}

/// An OAuth client.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// A secret that the doctor looks for where it must not be.
#[derive(Clone, Debug)]
pub struct Known {
    /// The variable or setting it came from.
    pub name: String,
    /// The secret.
    pub value: Secret,
}

/// Everything there is to go by. What is missing makes rows `skipped`.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `EDGE_URL`: the API as its clients reach it.
    pub edge: Option<Base>,
    /// `IMAGES_URL`: where links lead.
    pub images: Option<Base>,
    /// `ORIGIN_URL`: the origin behind the edge.
    pub origin: Option<Base>,
    /// `OPERATOR_URL`: metrics and operator's page.
    pub operator: Option<Base>,
    /// `CLIENT_ID`, `CLIENT_SECRET`: a client with every scope but `admin`.
    pub client: Option<Credentials>,
    /// `LINK_KEYS`.
    pub link_keys: Option<Secret>,
    /// `PROMETHEUS_URL`, `--prometheus`.
    pub prometheus: Option<Base>,
    /// `ADVISORIES_URL`, `--advisories`: a server that speaks OSV's API; none where it is `off`.
    pub advisories: Option<Base>,
    /// `--other-images`: images hosts of other deployments.
    pub others: Vec<Base>,
    /// `ACCESS_LOG`, `--access-log`: logs of whatever stands in front.
    pub access_logs: Vec<PathBuf>,
    /// `SERVICE_LOG`, `--service-log`: the origin's own log.
    pub service_logs: Vec<PathBuf>,
    /// `SOURCE_TREE`, `--source`.
    pub source: Option<PathBuf>,
    /// The configuration, when one was given by file or variables.
    pub settings: Option<Settings>,
    /// Secrets by name, to look for and to keep out of what is printed.
    pub known: Vec<Known>,
    /// Where hosts are really to be found.
    pub connect_to: ConnectTo,
    /// Whether rows that block or spend run.
    pub intrusive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_scheme_host_and_port() {
        let base = Base::parse("EDGE_URL", "https://API.example.com/").unwrap();
        assert_eq!(base.url(), "https://api.example.com");
        assert_eq!((base.host(), base.port()), ("api.example.com", 443));
        assert_eq!(base.plain_http().url(), "http://api.example.com");
        assert_eq!(base.target_of("https://api.example.com/a?b"), Some("/a?b"));
        assert_eq!(base.target_of("https://api.example.com.evil/a"), None);
        let v6 = Base::parse("EDGE_URL", "http://[::1]:8080").unwrap();
        assert_eq!((v6.host(), v6.port()), ("[::1]", 8080));
        assert!(v6.is_loopback() && !base.is_loopback());
        for bad in [
            "",
            "api",
            "ftp://a",
            "https://a/b",
            "https://u@a",
            "https://",
        ] {
            let error = Base::parse("EDGE_URL", bad).unwrap_err();
            assert!(error.contains("EDGE_URL"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(text in "(https?://)?[ -~]{0,30}") {
            if let Ok(base) = Base::parse("X", &text) {
                prop_assert!(base.url().parse::<hyper::Uri>().is_ok() || base.url().contains(['[', ']', ':']));
                let _ = (base.host(), base.port(), base.is_loopback());
            }
        }
    }
}
