//! What happened at the edge, as counter deltas on their way to the origin: a line each, `link VERDICT KID N` or
//! `limited POLICY N`. The origin takes words it knows and nothing else, so that no report can grow its metrics.

use crate::keyring::Keyring;

/// Where the origin takes a report.
pub const PATH: &str = "/.signet/counts";
/// Longest report in bytes; one holds some dozens of lines.
pub const MAX_TEXT: usize = 16 * 1024;
/// `kid` of a link that names no key of the ring.
pub const UNKNOWN_KID: &str = "unknown";

/// A link with trackers, sent to its clean spelling.
pub const REDIRECTED: &str = "redirected";
/// A browser asked whether a page's script may read a picture.
pub const PREFLIGHT: &str = "preflight";
/// An icon or `robots.txt`, which browsers and crawlers ask every host for.
pub const SITE_FILE: &str = "site_file";

/// Verdicts on a request to the images host: `ok`, one of the three that concern no picture, else the code of the answer.
pub const VERDICTS: [&str; 15] = [
    "ok",
    REDIRECTED,
    PREFLIGHT,
    SITE_FILE,
    "method_not_allowed",
    "malformed_link",
    "bad_signature",
    "link_expired",
    "life_too_long",
    "ip_mismatch",
    "referer_denied",
    "rate_limited",
    "link_revoked",
    "not_found",
    "store_unavailable",
];

/// Whether a verdict concerns no picture: nothing was opened, and nobody refused.
pub fn is_aside(verdict: &str) -> bool {
    [REDIRECTED, PREFLIGHT, SITE_FILE].contains(&verdict)
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request on the images host.
    Link {
        /// One of [`VERDICTS`].
        verdict: &'a str,
        /// The ring's key that it names, else [`UNKNOWN_KID`].
        kid: &'a str,
    },
    /// A request that a limit of this name refused.
    Limited(&'a str),
}

/// A report under construction, or one that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(String);

impl Report {
    /// Adds `count` of `event`. Words hold no white space; what no longer fits is left out.
    pub fn push(&mut self, event: Event<'_>, count: u32) {
        let line = match event {
            Event::Link { verdict, kid } => format!("link {verdict} {kid} {count}\n"),
            Event::Limited(policy) => format!("limited {policy} {count}\n"),
        };
        if self.0.len() + line.len() <= MAX_TEXT {
            self.0.push_str(&line);
        }
    }

    /// The text to send.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a report; `None` when any line of it is none.
pub fn parse(text: &str) -> Option<Vec<(Event<'_>, u32)>> {
    if text.len() > MAX_TEXT || !text.ends_with('\n') {
        return None;
    }
    text.lines().map(line).collect()
}

fn line(line: &str) -> Option<(Event<'_>, u32)> {
    let mut words = line
        .split(' ')
        .map(|word| Some(word).filter(|it| !it.is_empty()));
    let mut next = || words.next().flatten();
    let event = match next()? {
        "link" => Event::Link {
            verdict: next()?,
            kid: next()?,
        },
        "limited" => Event::Limited(next()?),
        _ => return None,
    };
    let count = next()?;
    let plain = words.next().is_none()
        && (1..=10).contains(&count.len())
        && count.bytes().all(|c| c.is_ascii_digit());
    if plain {
        Some((event, count.parse().ok()?))
    } else {
        None
    }
}

/// The ring's key that a link's raw target names, whatever else is wrong with it; for counting only.
pub fn kid_named<'r>(target: &str, ring: &'r Keyring) -> Option<&'r str> {
    let (_, query) = target.split_once('?')?;
    let named = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("kid="))?;
    ring.kids().find(|kid| *kid == named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_pushed_is_read_again() {
        let mut report = Report::default();
        let ok = Event::Link {
            verdict: "ok",
            kid: "k1",
        };
        report.push(ok, 7);
        report.push(Event::Limited("links"), u32::MAX);
        assert_eq!(
            parse(report.as_str()),
            Some(vec![(ok, 7), (Event::Limited("links"), u32::MAX)])
        );
    }

    #[test]
    fn only_icons_preflights_and_redirects_concern_no_picture() {
        let asides: Vec<_> = VERDICTS.into_iter().filter(|it| is_aside(it)).collect();
        assert_eq!(asides, ["redirected", "preflight", "site_file"]);
    }

    #[test]
    fn a_report_stays_within_its_size() {
        let mut report = Report::default();
        for _ in 0..10_000 {
            report.push(Event::Limited("links"), 1);
        }
        assert!(report.as_str().len() <= MAX_TEXT && parse(report.as_str()).is_some());
    }

    #[test]
    fn other_texts_are_no_report() {
        for bad in [
            "",
            "x",
            "link ok k1 1",
            "link ok 1\n",
            "link ok k1 -1\n",
            "link ok k1 +1\n",
            "link ok k1 1 \n",
            "link ok k1 99999999999\n",
            "limited 1\n",
            "other a 1\n",
            "limited a 1\n\n",
            "limited  1\n",
            "limited a 4294967296\n",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_kids_of_the_ring_are_named() {
        let ring = Keyring::parse("k1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=").unwrap();
        assert_eq!(kid_named("/a?exp=1&kid=k1&sig=x", &ring), Some("k1"));
        for target in ["/a", "/a?kid=k2", "/kid=k1", "/a?akid=k1", "/a?kid=k1x"] {
            assert_eq!(kid_named(target, &ring), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "(link|limited)?[ a-z0-9\n]{0,40}\n|.{0,60}") {
            let _ = parse(&text);
        }
    }
}
