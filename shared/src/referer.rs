//! Who may embed a picture: the referer policy, a first sieve in front of nothing but verified links, and whose scripts
//! may read it (the CORS protocol of the Fetch standard).

/// The request headers the policy reads, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchHeaders<'a> {
    /// `Referer`. Several of them, joined by commas and spaces, are no URL, and so that of no allowed page.
    pub referer: Option<&'a str>,
    /// `Origin`, as `referer`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'a str>,
    /// `Sec-Fetch-Mode`.
    pub mode: Option<&'a str>,
    /// `Sec-Fetch-Dest`.
    pub dest: Option<&'a str>,
}

impl FetchHeaders<'_> {
    /// Whether somebody follows a link, or saves what it opens (`empty`), in a browser that says so.
    pub fn is_top_navigation(&self) -> bool {
        self.mode == Some("navigate") && matches!(self.dest, Some("document" | "empty"))
    }

    /// Whether a link with trackers is sent on to its clean spelling: for people, not for what a page embeds. Programs, and
    /// browsers before 2023, say nothing about how their requests came to be.
    pub fn may_be_sent_on(&self) -> bool {
        self.is_top_navigation() || (self.site, self.mode, self.dest) == (None, None, None)
    }
}

/// Allowed hosts and what happens to requests that name no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefererPolicy {
    hosts: Vec<HostPattern>,
    /// Whether a link on a foreign page may be followed (a top-level navigation).
    pub allow_links: bool,
    /// Whether requests with neither `Referer` nor `Sec-Fetch-Site` pass (programs).
    pub allow_empty: bool,
    /// Whether pictures are served over https; an `Origin` must have their scheme.
    pub https: bool,
}

/// `example.com`, `*.example.com` (one or more whole labels in front), each with or without `:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPattern {
    /// The host without the wildcard, lower case.
    host: Box<str>,
    wildcard: bool,
    port: Option<u16>,
}

/// The text at fault is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHost(pub String);

impl std::fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is not a host, *.host, host:port or *.host:port",
            self.0
        )
    }
}

impl std::error::Error for InvalidHost {}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.into());
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = split_port(rest).ok_or_else(invalid)?;
        let host = host.to_ascii_lowercase();
        if !is_host(&host) || (wildcard && host.starts_with('[')) {
            return Err(invalid());
        }
        Ok(Self {
            host: host.into(),
            wildcard,
            port,
        })
    }

    fn matches(&self, host: &str, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        if !self.wildcard {
            return host.eq_ignore_ascii_case(&self.host);
        }
        // At least one whole label in front: never `evil-example.com` for `*.example.com`.
        host.len()
            .checked_sub(self.host.len() + 1)
            .is_some_and(|labels| {
                labels > 0
                    && host.as_bytes().get(labels) == Some(&b'.')
                    && host
                        .get(labels + 1..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(&self.host))
            })
    }
}

/// Splits `host[:port]`, `[v6][:port]`; `None` when the port is no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let host_end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(host_end)?;
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(port) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        _ => None,
    }
}

/// Labels of letters, digits and inner hyphens (underscores are seen in the wild), or a bracketed IPv6 address.
fn is_host(host: &str) -> bool {
    if let Some(v6) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Host and port of an http(s) URL as browsers write it into `Referer`. `None` for anything else: user names, odd
/// schemes, several URLs and characters that parsers disagree about are never an allowed host. What follows the host may
/// hold raw bytes beyond ASCII, as old browsers send them.
fn referer_host(referer: &str) -> Option<(&str, Option<u16>)> {
    if referer.bytes().any(|c| c <= b' ' || c == 0x7f) {
        return None;
    }
    let scheme = |name: &str| {
        referer
            .get(..name.len())
            .filter(|start| start.eq_ignore_ascii_case(name))
    };
    let (start, default_port) = match (scheme("https://"), scheme("http://")) {
        (Some(start), _) => (start, 443),
        (None, Some(start)) => (start, 80),
        (None, None) => return None,
    };
    let rest = referer.get(start.len()..)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = split_port(authority)?;
    is_host(host).then_some((host, Some(port.unwrap_or(default_port))))
}

impl RefererPolicy {
    /// A policy with these allowed hosts; links may be followed and programs pass.
    ///
    /// # Errors
    /// [`InvalidHost`] names the first text that is no host pattern.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHost> {
        let hosts = hosts
            .into_iter()
            .map(HostPattern::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            allow_links: true,
            allow_empty: true,
            https: true,
        })
    }

    fn is_allowed(&self, host: &str, port: Option<u16>) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }

    /// The policy's table, first match wins.
    pub fn allows(&self, headers: &FetchHeaders<'_>) -> bool {
        let followed = self.allow_links && headers.is_top_navigation();
        if let Some(referer) = headers.referer.filter(|referer| !referer.is_empty()) {
            let allowed =
                referer_host(referer).is_some_and(|(host, port)| self.is_allowed(host, port));
            return allowed || followed;
        }
        if self.readable_by(headers.origin).is_some() {
            return true;
        }
        match headers.site {
            Some("none" | "same-origin" | "same-site") => true,
            Some(_) => followed,
            None => self.allow_empty,
        }
    }

    /// The `Origin` whose scripts may read what we answer: one of an allowed host, under the pictures' own scheme, as
    /// browsers write it (RFC 6454 section 7). `null`, which any sandboxed frame can have, never is.
    pub fn readable_by<'a>(&self, origin: Option<&'a str>) -> Option<&'a str> {
        let scheme = if self.https { "https://" } else { "http://" };
        let origin = origin?;
        let (host, port) = split_port(origin.strip_prefix(scheme)?)?;
        let port = port.unwrap_or(if self.https { 443 } else { 80 });
        (is_host(host) && self.is_allowed(host, Some(port))).then_some(origin)
    }

    /// `Cross-Origin-Resource-Policy` of pictures on `images_host`: `cross-origin` when an allowed host lies on
    /// another site, else `same-site`. Without the public suffix list a site is taken to be the images host's parent
    /// domain, when that has at least two labels.
    pub fn resource_policy(&self, images_host: &str) -> &'static str {
        let images = split_port(images_host)
            .map_or(images_host, |(host, _)| host)
            .to_ascii_lowercase();
        let is_address = images.starts_with('[') || images.parse::<std::net::Ipv4Addr>().is_ok();
        let site = match images.split_once('.') {
            Some((_, parent)) if !is_address && parent.contains('.') => parent,
            _ => images.as_str(),
        };
        let same_site = |host: &str| {
            host == site
                || (!is_address
                    && host
                        .strip_suffix(site)
                        .is_some_and(|labels| labels.ends_with('.')))
        };
        if self.hosts.iter().all(|pattern| same_site(&pattern.host)) {
            "same-site"
        } else {
            "cross-origin"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RefererPolicy {
        RefererPolicy::new(["example.com", "*.example.com", "127.0.0.1:8787"]).unwrap()
    }

    fn from(referer: &str) -> bool {
        policy().allows(&FetchHeaders {
            referer: Some(referer),
            ..FetchHeaders::default()
        })
    }

    #[test]
    fn only_whole_labels_match() {
        for good in [
            "https://example.com/",
            "https://example.com",
            "http://a.example.com/x?y",
            "https://A.B.EXAMPLE.com:444/",
            "http://127.0.0.1:8787/",
        ] {
            assert!(from(good), "{good}");
        }
        for bad in [
            "https://evil-example.com/",
            "https://example.com.evil/",
            "https://example.com@evil/",
            "https://evil/?https://example.com/",
            "https://evil#example.com",
            "ftp://example.com/",
            "example.com",
            "https://",
            "https://.example.com/",
            "https://example.com./",
            "https://example.com:x/",
            "https://example.com\\@evil/",
            "http://127.0.0.1/",
            "http://127.0.0.1:8788/",
            "https://exam\u{fe52}ple.com/",
            "null",
            "about:blank",
            "https://[::1/",
        ] {
            assert!(!from(bad), "{bad}");
        }
    }

    #[test]
    fn the_table_is_followed_without_a_referer() {
        let ask = |site, mode, dest| {
            policy().allows(&FetchHeaders {
                site,
                mode,
                dest,
                ..FetchHeaders::default()
            })
        };
        assert!(
            ask(Some("none"), None, None)
                && ask(Some("same-origin"), None, None)
                && ask(Some("same-site"), None, None)
        );
        assert!(!ask(Some("cross-site"), Some("no-cors"), Some("image")));
        assert!(!ask(Some("cross-site"), Some("navigate"), Some("iframe")));
        assert!(ask(Some("cross-site"), Some("navigate"), Some("document")));
        assert!(ask(Some("cross-site"), Some("navigate"), Some("empty")));
        assert!(!ask(Some("cross-site"), Some("cors"), Some("empty")));
        assert!(!ask(Some("nonsense"), None, None));
        assert!(ask(None, None, None));
        let strict = RefererPolicy {
            allow_links: false,
            allow_empty: false,
            ..policy()
        };
        assert!(!strict.allows(&FetchHeaders::default()));
        assert!(!strict.allows(&FetchHeaders {
            site: Some("cross-site"),
            mode: Some("navigate"),
            dest: Some("document"),
            ..FetchHeaders::default()
        }));
    }

    #[test]
    fn the_origin_of_an_allowed_page_stands_in_for_a_missing_referer() {
        let ask = |origin, referer| {
            policy().allows(&FetchHeaders {
                origin: Some(origin),
                referer,
                site: Some("cross-site"),
                mode: Some("cors"),
                dest: Some("image"),
            })
        };
        assert!(ask("https://example.com", None));
        assert!(ask("https://a.example.com:8443", Some("")));
        assert!(!ask("https://example.com", Some("https://evil.test/")));
        for foreign in [
            "https://evil.test",
            "null",
            "",
            "http://example.com",
            "https://example.com/",
            "example.com",
            "https://example.com, https://example.com",
            "https://example.com https://evil.test",
            "https://evil.test@example.com",
            "HTTPS://example.com",
            "https://example.com.",
            "https://example.com:",
        ] {
            assert!(!ask(foreign, None), "{foreign}");
            assert_eq!(policy().readable_by(Some(foreign)), None, "{foreign}");
        }
        let plain = RefererPolicy {
            https: false,
            ..policy()
        };
        assert_eq!(
            plain.readable_by(Some("http://127.0.0.1:8787")),
            Some("http://127.0.0.1:8787")
        );
        assert_eq!(plain.readable_by(Some("https://example.com")), None);
        assert_eq!(plain.readable_by(None), None);
    }

    #[test]
    fn two_referers_are_none_of_ours_and_raw_bytes_behind_the_host_do_no_harm() {
        assert!(!from("https://example.com/, https://example.com/"));
        assert!(!from("https://example.com/a b"));
        assert!(from("https://example.com/gr\u{f6}\u{df}e"));
        assert!(from("https://example.com/\u{fffd}"));
        assert!(!from("https://ex\u{e4}mple.com/"));
    }

    #[test]
    fn odd_host_patterns_are_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "*.*.b",
            "-a",
            "a:",
            "a:99999",
            "https://a",
            "a/b",
            "[::1",
            "*.[::1]",
        ] {
            assert!(RefererPolicy::new([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn pictures_are_cross_origin_only_when_an_allowed_host_is_another_site() {
        let corp = |hosts: &[&str], images: &str| {
            RefererPolicy::new(hosts.iter().copied())
                .unwrap()
                .resource_policy(images)
        };
        assert_eq!(corp(&[], "images.example.com"), "same-site");
        assert_eq!(
            corp(
                &["app.example.com", "*.example.com", "example.com"],
                "images.example.com"
            ),
            "same-site"
        );
        assert_eq!(corp(&["other.org"], "images.example.com"), "cross-origin");
        assert_eq!(
            corp(&["evilexample.com"], "images.example.com"),
            "cross-origin"
        );
        assert_eq!(corp(&["127.0.0.1:8787"], "localhost:8787"), "cross-origin");
        assert_eq!(corp(&["localhost"], "localhost:8787"), "same-site");
    }

    proptest! {
        #[test]
        fn arbitrary_origins_never_panic_and_nothing_foreign_may_read(origin in "(https?://)?[a-z.@:,\\/ ?\\[\\]-]{0,40}(example\\.com)?[:/a-z0-9]{0,4}|.{0,40}") {
            if let Some(origin) = policy().readable_by(Some(&origin)) {
                let rest = origin.strip_prefix("https://").unwrap();
                let host = rest.split(':').next().unwrap();
                prop_assert!(host == "example.com" || host.ends_with(".example.com"), "{origin}");
                prop_assert!(rest.bytes().all(|c| c.is_ascii_alphanumeric() || b".:-_".contains(&c)));
            }
        }

        #[test]
        fn arbitrary_referers_never_panic_and_nothing_foreign_passes(referer in ".{1,60}|https?://[a-z.@:\\\\/#?\\[\\]-]{0,40}") {
            if from(&referer) {
                let host = referer.split("://").nth(1).unwrap().split(['/', '?', '#', ':']).next().unwrap().to_ascii_lowercase();
                prop_assert!(host == "example.com" || host.ends_with(".example.com") || host == "127.0.0.1", "{referer}");
            }
        }
    }
}
