//! What the Worker is told by its variables and secrets, read and checked once per isolate.

use std::net::{IpAddr, Ipv4Addr};

use shared::client_ip;
use shared::decided::Pair;
use shared::gcra::Rate;
use shared::keyring::{Keyring, KeyringError};
use shared::referer::{InvalidHost, RefererPolicy};

use crate::revocation::Rule;

/// The Worker's settings; only [`Config::read`] makes them, so what runs was checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host (and port, where it is not the scheme's own) of signed links: `IMAGES_HOST`.
    pub images_host: String,
    /// Host of API and studio: `API_HOST`.
    pub api_host: String,
    /// Where API calls go.
    pub origin: Origin,
    /// Keys of links: `LINK_KEYS`.
    pub link_keys: Keyring,
    /// Keys of requests to the origin: `EDGE_KEYS`.
    pub edge_keys: Keyring,
    /// `REFERER_HOSTS`, `REFERER_ALLOW_LINKS`, `REFERER_ALLOW_EMPTY`, `IMAGES_SCHEME`.
    pub referer: RefererPolicy,
    /// `Cross-Origin-Resource-Policy` of pictures.
    pub resource_policy: &'static str,
    /// Where clients' addresses come from.
    pub client: ClientSource,
    /// Whether the Rate Limiting bindings and the objects that count are asked: `LIMITS`, `off` on loopback only.
    pub limits: bool,
    /// Policy `penalty-box`, arrivals within 60 s and seconds of a block: `PENALTY_RULE`.
    pub penalty: Pair,
    /// Policy `token`, requests a minute and burst: `TOKEN_RATE`.
    pub token_rate: Pair,
    /// What is done without a snapshot of revocations: `REVOCATION`.
    pub revocation: Rule,
    /// Whether whole pictures are kept at the edge for some seconds: `EDGE_CACHE`.
    pub cache: bool,
}

/// The origin's base address: `ORIGIN_URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Scheme and authority, without a slash at the end.
    pub url: String,
    /// What it will see as `Host`.
    pub authority: String,
}

/// Where the client's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSource {
    /// A header that the front overwrites (`CLIENT_IP_HEADER`). `fallback` is for callers on loopback without it.
    Header {
        /// Lower case.
        name: String,
        /// The address to take when the header is missing; only on loopback.
        fallback: Option<IpAddr>,
    },
    /// No front: every caller is on this machine.
    Loopback,
}

/// Why the Worker answers nothing but 503. Told to the operator's log only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable or secret is not set.
    Missing(&'static str),
    /// A variable's value cannot be used; the text says what is wanted.
    Invalid(&'static str, &'static str),
    /// A keyring is refused.
    Keyring(&'static str, KeyringError),
    /// A host of `REFERER_HOSTS` is none.
    Referer(InvalidHost),
    /// Links and API share one host.
    SharedHost,
    /// One key is in both keyrings.
    SharedKey,
    /// A binding is missing.
    Binding(&'static str),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name} is not set"),
            Self::Invalid(name, wanted) => write!(f, "{name} must be {wanted}"),
            Self::Keyring(name, error) => write!(f, "{name}: {error}"),
            Self::Referer(error) => write!(f, "REFERER_HOSTS: {error}"),
            Self::SharedHost => f.write_str("IMAGES_HOST and API_HOST must be two hosts"),
            Self::SharedKey => f.write_str("LINK_KEYS and EDGE_KEYS share a key"),
            Self::Binding(name) => write!(f, "the binding {name} is missing"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks everything; `get` gives a variable's or secret's value.
    ///
    /// # Errors
    /// [`ConfigError`], the first one found.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |name: &'static str| {
            get(name)
                .filter(|value| !value.trim().is_empty())
                .ok_or(ConfigError::Missing(name))
        };
        let ring = |name: &'static str| {
            Keyring::parse(&text(name)?).map_err(|error| ConfigError::Keyring(name, error))
        };
        let switch = |name: &'static str, default: bool| match get(name).as_deref() {
            None | Some("") => Ok(default),
            Some("true" | "on") => Ok(true),
            Some("false" | "off") => Ok(false),
            Some(_) => Err(ConfigError::Invalid(name, "on or off")),
        };
        let images_host = host("IMAGES_HOST", &text("IMAGES_HOST")?)?;
        let api_host = host("API_HOST", &text("API_HOST")?)?;
        if images_host == api_host {
            return Err(ConfigError::SharedHost);
        }
        let loopback = is_loopback(&images_host) && is_loopback(&api_host);
        let (link_keys, edge_keys) = (ring("LINK_KEYS")?, ring("EDGE_KEYS")?);
        if share_a_key(&link_keys, &edge_keys) {
            return Err(ConfigError::SharedKey);
        }
        let hosts = get("REFERER_HOSTS").unwrap_or_default();
        let hosts = hosts
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty());
        let mut referer = RefererPolicy::new(hosts).map_err(ConfigError::Referer)?;
        referer.allow_links = switch("REFERER_ALLOW_LINKS", true)?;
        referer.allow_empty = switch("REFERER_ALLOW_EMPTY", true)?;
        referer.https = match get("IMAGES_SCHEME").as_deref() {
            None | Some("") => !is_loopback(&images_host),
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(ConfigError::Invalid("IMAGES_SCHEME", "https or http")),
        };
        let limits = switch("LIMITS", true)?;
        if !limits && !loopback {
            return Err(ConfigError::Invalid(
                "LIMITS",
                "on where hosts are not on loopback",
            ));
        }
        Ok(Self {
            resource_policy: referer.resource_policy(&images_host),
            client: client_source(get("CLIENT_IP_HEADER"), loopback)?,
            origin: Origin::parse(&text("ORIGIN_URL")?)?,
            images_host,
            api_host,
            link_keys,
            edge_keys,
            referer,
            limits,
            revocation: match get("REVOCATION").as_deref() {
                None | Some("" | "closed") => Rule::Closed,
                Some("open") => Rule::Open,
                Some("off") => Rule::Off,
                Some(_) => return Err(ConfigError::Invalid("REVOCATION", "closed, open or off")),
            },
            cache: switch("EDGE_CACHE", false)?,
            penalty: pair(get("PENALTY_RULE"), PENALTY)
                .filter(|pair| pair.1 > 0)
                .ok_or(ConfigError::Invalid("PENALTY_RULE", "ARRIVALS/SECONDS"))?,
            token_rate: pair(get("TOKEN_RATE"), TOKEN_RATE)
                .filter(|pair| Rate::per_minute(pair.0, pair.1).is_some())
                .ok_or(ConfigError::Invalid("TOKEN_RATE", "PER-MINUTE/BURST"))?,
        })
    }
}

impl Origin {
    fn parse(url: &str) -> Result<Self, ConfigError> {
        const WANTED: &str = "http(s)://host[:port] without a path";
        let invalid = ConfigError::Invalid("ORIGIN_URL", WANTED);
        let url = url.trim().trim_end_matches('/').to_ascii_lowercase();
        let (authority, default_port) =
            match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
                (Some(rest), _) => (rest, ":443"),
                (None, Some(rest)) => (rest, ":80"),
                (None, None) => return Err(invalid),
            };
        let authority = host("ORIGIN_URL", authority).map_err(|_| invalid)?;
        // As HTTP clients write `Host`: without the scheme's own port.
        let authority = authority
            .strip_suffix(default_port)
            .unwrap_or(&authority)
            .to_owned();
        Ok(Self { url, authority })
    }
}

/// 30 arrivals in 60 s; more block for 600 s.
const PENALTY: Pair = Pair(30, 600);

/// 20 a minute, and 5 more at once.
const TOKEN_RATE: Pair = Pair(20, 5);

/// Two numbers, the first above 0.
fn pair(text: Option<String>, default: Pair) -> Option<Pair> {
    match text.as_deref().map(str::trim) {
        None | Some("") => Some(default),
        Some(text) => Pair::parse(text).filter(|pair| pair.0 > 0),
    }
}

/// `host` or `host:port`, lower case.
fn host(name: &'static str, text: &str) -> Result<String, ConfigError> {
    let text = text.trim().to_ascii_lowercase();
    let plain = !text.is_empty()
        && text.bytes().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']' | b'_')
        });
    if plain {
        Ok(text)
    } else {
        Err(ConfigError::Invalid(name, "host or host:port"))
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn client_source(header: Option<String>, loopback: bool) -> Result<ClientSource, ConfigError> {
    const WANTED: &str =
        "the name of a header that the front overwrites, since the hosts are not on loopback";
    let name = header.unwrap_or_default().trim().to_ascii_lowercase();
    match (name.is_empty(), loopback) {
        (true, true) => Ok(ClientSource::Loopback),
        (true, false) => Err(ConfigError::Invalid("CLIENT_IP_HEADER", WANTED)),
        (false, _) if !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') => {
            Err(ConfigError::Invalid("CLIENT_IP_HEADER", WANTED))
        }
        (false, _) => Ok(ClientSource::Header {
            name,
            fallback: loopback.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }),
    }
}

impl ClientSource {
    /// The header that carries the address, lower case.
    pub fn header_name(&self) -> Option<&str> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::Loopback => None,
        }
    }

    /// The client's address; `None` when the front did not say, or wrote no address: then nothing is served.
    pub fn address(&self, header: impl FnOnce(&str) -> Option<String>) -> Option<IpAddr> {
        match self {
            Self::Loopback => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Self::Header { name, fallback } => match header(name) {
                Some(text) => client_ip::parse(&text),
                None => *fallback,
            },
        }
    }
}

/// Equal keys have equal MACs; the rings do not show their bytes.
fn share_a_key(a: &Keyring, b: &Keyring) -> bool {
    let probe = |ring: &Keyring| -> Vec<[u8; 32]> {
        ring.kids()
            .filter_map(|kid| ring.get(kid))
            .map(|key| key.mac(b"signet: is this key in both rings?"))
            .collect()
    };
    let others = probe(b);
    probe(a).iter().any(|mac| others.contains(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(changes: &'a [(&'a str, &'a str)]) -> Result<Config, ConfigError> {
        let key = |letter: &str| format!("{}A=", letter.repeat(42));
        Config::read(|name| {
            if let Some((_, value)) = changes.iter().find(|(other, _)| *other == name) {
                return Some((*value).to_owned());
            }
            Some(match name {
                "IMAGES_HOST" => "localhost:8787".into(),
                "API_HOST" => "127.0.0.1:8787".into(),
                "ORIGIN_URL" => "http://127.0.0.1:8080/".into(),
                "LINK_KEYS" => format!("k1:{}", key("a")),
                "EDGE_KEYS" => format!("e1:{}", key("b")),
                _ => return None,
            })
        })
    }

    #[test]
    fn a_complete_configuration_is_read() {
        let config = with(&[]).unwrap();
        assert_eq!(config.origin.authority, "127.0.0.1:8080");
        assert_eq!(config.origin.url, "http://127.0.0.1:8080");
        assert_eq!(config.client, ClientSource::Loopback);
        assert!(config.limits && config.referer.allow_links && config.referer.allow_empty);
    }

    #[test]
    fn no_key_a_short_key_and_equal_ids_or_keys_are_refused() {
        let short = "k1:c2hvcnQ=";
        let key = format!("{}A=", "a".repeat(42));
        let twice = format!("k1:{key},k1:{}A=", "c".repeat(42));
        let same = format!("k1:{key},k2:{key}");
        assert_eq!(
            with(&[("LINK_KEYS", "")]).unwrap_err(),
            ConfigError::Missing("LINK_KEYS")
        );
        assert_eq!(
            with(&[("EDGE_KEYS", " ")]).unwrap_err(),
            ConfigError::Missing("EDGE_KEYS")
        );
        for bad in [short, &twice, &same] {
            assert!(
                matches!(
                    with(&[("LINK_KEYS", bad)]),
                    Err(ConfigError::Keyring("LINK_KEYS", _))
                ),
                "{bad}"
            );
        }
        assert_eq!(
            with(&[("EDGE_KEYS", &format!("e9:{key}"))]).unwrap_err(),
            ConfigError::SharedKey
        );
    }

    #[test]
    fn off_loopback_limits_stay_on_and_addresses_come_from_a_header() {
        let public = [
            ("IMAGES_HOST", "img.example.com"),
            ("API_HOST", "api.example.com"),
        ];
        let and = |more: &[(&'static str, &'static str)]| with(&[&public[..], more].concat());
        assert!(matches!(
            and(&[]),
            Err(ConfigError::Invalid("CLIENT_IP_HEADER", _))
        ));
        let header = ("CLIENT_IP_HEADER", "CF-Connecting-IP");
        assert!(matches!(
            and(&[header, ("LIMITS", "off")]),
            Err(ConfigError::Invalid("LIMITS", _))
        ));
        let config = and(&[header]).unwrap();
        assert_eq!(config.client.address(|_| None), None);
        assert_eq!(config.client.address(|_| Some("x".into())), None);
        assert_eq!(
            config
                .client
                .address(|name| (name == "cf-connecting-ip").then(|| "::ffff:192.0.2.1".into())),
            "192.0.2.1".parse().ok()
        );
    }

    #[test]
    fn one_host_for_both_and_odd_origins_are_refused() {
        assert_eq!(
            with(&[("API_HOST", "LOCALHOST:8787")]).unwrap_err(),
            ConfigError::SharedHost
        );
        for bad in [
            "ftp://a",
            "a:80",
            "http://a/b",
            "http://u@a",
            "http://",
            "http://a?b",
        ] {
            assert!(
                matches!(
                    with(&[("ORIGIN_URL", bad)]),
                    Err(ConfigError::Invalid("ORIGIN_URL", _))
                ),
                "{bad}"
            );
        }
        let https = with(&[("ORIGIN_URL", "https://Origin.example.com:443")]).unwrap();
        assert_eq!(https.origin.authority, "origin.example.com");
    }

    #[test]
    fn pictures_are_served_over_https_but_on_loopback_or_where_it_is_said() {
        let public = [
            ("IMAGES_HOST", "img.example.com"),
            ("CLIENT_IP_HEADER", "x-real-ip"),
        ];
        let https = |more: &[(&'static str, &'static str)]| {
            with(&[&public[..], more].concat()).map(|config| config.referer.https)
        };
        assert_eq!(with(&[]).map(|config| config.referer.https), Ok(false));
        assert_eq!(https(&[]), Ok(true));
        assert_eq!(https(&[("IMAGES_SCHEME", "http")]), Ok(false));
        assert_eq!(
            https(&[("IMAGES_SCHEME", "HTTP")]),
            Err(ConfigError::Invalid("IMAGES_SCHEME", "https or http"))
        );
    }

    #[test]
    fn debug_output_holds_no_key() {
        let text = format!("{:?}", with(&[]).unwrap());
        assert!(text.contains("REDACTED") && !text.contains(&"a".repeat(20)));
    }
}
