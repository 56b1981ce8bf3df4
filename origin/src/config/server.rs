//! The sections `server` and `images`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::link::MAX_LIFE;
use shared::referer::RefererPolicy;

use crate::secret::Secret;
use crate::tls::TlsSettings;

/// Listeners and host names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The public listener. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// The operator listener: metrics, health, the operator's page. On loopback or a private network.
    pub operator_bind: SocketAddr,
    /// The API's public address, as clients write it. Empty: `http://` and `bind`.
    pub url: String,
    /// More host names under which the public listener answers, each with or without a port.
    pub hosts: Vec<String>,
    /// More host names under which the operator listener answers.
    pub operator_hosts: Vec<String>,
    /// A file into which the bound addresses are written as JSON once everything answers. Empty: none.
    pub ready_file: PathBuf,
    /// Seconds after which a connection is cut whose client takes nothing of what it is sent: 1 to 600.
    pub stalled_seconds: u32,
    /// TLS of the public and the images listener.
    pub tls: TlsSettings,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: loopback(8080),
            operator_bind: loopback(9090),
            url: String::new(),
            hosts: Vec::new(),
            operator_hosts: Vec::new(),
            ready_file: PathBuf::new(),
            stalled_seconds: 20,
            tls: TlsSettings::default(),
        }
    }
}

/// Scheme and authority of an address, without what follows.
fn origin_of(url: &str) -> String {
    let end = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(end..).unwrap_or("");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    format!(
        "{}{}",
        url.get(..end).unwrap_or(""),
        authority.to_ascii_lowercase()
    )
}

/// The host of an address, without its port.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap_or(url);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or("");
    }
    authority.split(':').next().unwrap_or("")
}

/// Whether a host name is this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn is_base_url(url: &str) -> bool {
    let plain = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    plain.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']'))
    })
}

impl ServerSettings {
    /// The API's public address without a trailing slash.
    pub fn url(&self) -> String {
        if self.url.is_empty() {
            format!("http://{}", self.bind)
        } else {
            origin_of(&self.url)
        }
    }

    /// Whether the API is reached over HTTPS.
    pub fn is_https(&self) -> bool {
        self.url().starts_with("https://")
    }

    /// Origins from which the studio's page may send.
    pub fn origins(&self) -> Vec<String> {
        let url = self.url();
        let mut all = vec![url.clone()];
        if is_loopback_host(host_of(&url)) {
            let scheme = if self.is_https() { "https" } else { "http" };
            all.extend(self.hosts().iter().map(|host| format!("{scheme}://{host}")));
        }
        all
    }

    /// Host names of the public listener.
    pub fn hosts(&self) -> Vec<String> {
        let url = self.url();
        let mut all: Vec<String> = self
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect();
        all.push(url.split("://").nth(1).unwrap_or("").into());
        if self.bind.ip().is_loopback() {
            all.extend(loopback_names(self.bind.port()));
        }
        all
    }

    /// Host names of the operator listener.
    pub fn operator_hosts(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .operator_hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect();
        all.extend(loopback_names(self.operator_bind.port()));
        all
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if !self.url.is_empty() && !is_base_url(&self.url) {
            return Err("server.url must be http(s)://host[:port] without a path".into());
        }
        if !(1..=600).contains(&self.stalled_seconds) {
            return Err(format!(
                "server.stalled_seconds is {}; it must be 1 to 600",
                self.stalled_seconds
            ));
        }
        Ok(())
    }
}

fn loopback_names(port: u16) -> Vec<String> {
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .map(|host| format!("{host}:{port}"))
        .collect()
}

/// The images host and its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesSettings {
    /// The images host's public address, `http(s)://host[:port]`. Empty: `http://localhost` and the port of `bind`.
    pub url: String,
    /// Whether this service delivers links itself. Off when an edge does.
    pub deliver: bool,
    /// The images listener.
    pub bind: SocketAddr,
    /// Life of a link in seconds, at most 7 days.
    pub link_seconds: u64,
    /// The end of a link that was asked for without a `ttl` is rounded up to a multiple of so many seconds, so that a page
    /// rendered again within them shows the same links and browsers keep the pictures that they have. 0: it is not.
    pub grain_seconds: u64,
    /// The link keyring `kid:key,…`: from the environment only. Without one, and only where this service delivers its
    /// links itself, one is made and kept beside the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Secret>,
    /// A file that holds the keyring, instead of `keys`.
    pub keys_file: Option<PathBuf>,
    /// Hosts whose pages may embed pictures, as `host`, `*.host`, each with or without `:port`. The studio's own host
    /// is always among them.
    pub allowed_hosts: Vec<String>,
    /// Whether links on foreign pages may be followed.
    pub allow_links: bool,
    /// Whether requests without any sign of a page pass: programs.
    pub allow_empty: bool,
}

impl Default for ImagesSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            deliver: true,
            bind: loopback(8081),
            link_seconds: 3600,
            grain_seconds: 300,
            keys: None,
            keys_file: None,
            allowed_hosts: Vec::new(),
            allow_links: true,
            allow_empty: true,
        }
    }
}

impl ImagesSettings {
    /// The images host's public address without a trailing slash.
    pub fn url(&self) -> String {
        if self.url.is_empty() {
            format!("http://localhost:{}", self.bind.port())
        } else {
            origin_of(&self.url)
        }
    }

    /// Host names of the images listener.
    pub fn hosts(&self) -> Vec<String> {
        let mut all = vec![self.url().split("://").nth(1).unwrap_or("").to_owned()];
        if self.bind.ip().is_loopback() {
            all.extend(loopback_names(self.bind.port()));
        }
        all
    }

    /// The referer policy, with the studio's host among the allowed ones.
    ///
    /// # Errors
    /// A sentence that names the host at fault.
    pub fn referers(&self, studio_url: &str) -> Result<RefererPolicy, String> {
        let own = studio_url.split("://").nth(1).unwrap_or("");
        let hosts = self.allowed_hosts.iter().map(String::as_str).chain([own]);
        let mut policy =
            RefererPolicy::new(hosts).map_err(|error| format!("images.allowed_hosts: {error}"))?;
        policy.allow_links = self.allow_links;
        policy.allow_empty = self.allow_empty;
        policy.https = self.url().starts_with("https://");
        Ok(policy)
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if !self.url.is_empty() && !is_base_url(&self.url) {
            return Err("images.url must be http(s)://host[:port] without a path".into());
        }
        if !(1..=MAX_LIFE).contains(&self.link_seconds) {
            return Err(format!(
                "images.link_seconds is {}; links live 1 second to 7 days",
                self.link_seconds
            ));
        }
        if self.grain_seconds > MAX_LIFE {
            return Err("images.grain_seconds is over 7 days".into());
        }
        if !self.deliver && self.keys.is_none() && self.keys_file.is_none() {
            return Err("an edge delivers the links and there are no link keys (SIGNET_IMAGES__KEYS or images.keys_file)".into());
        }
        self.referers("http://localhost").map(|_| ())
    }
}
