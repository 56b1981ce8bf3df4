//! Links to which mail programs, ad networks and social sites hung their own parameters. Such a link opens nothing; what
//! it says without them is judged, and a person is sent there.

use super::{LinkError, UnverifiedLink};

/// Parameters that say where somebody came from and nothing else; docs/links.md publishes them. None is a name that a
/// link may have.
const NAMES: [&str; 39] = [
    "ScCid",
    "_bta_c",
    "_bta_tid",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "_ke",
    "_kx",
    "dclid",
    "epik",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "hsCtaTracking",
    "igsh",
    "igshid",
    "irclickid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "ml_subscriber",
    "ml_subscriber_hash",
    "msclkid",
    "oly_anon_id",
    "oly_enc_id",
    "rb_clickid",
    "s_cid",
    "srsltid",
    "ttclid",
    "twclid",
    "vero_id",
    "wbraid",
    "wickedid",
    "yclid",
    "ysclid",
];

/// Beginnings of families of such parameters.
const FAMILIES: [&str; 5] = ["utm_", "mtm_", "pk_", "hsa_", "matomo_"];

/// Whether a parameter of this name is one of the published list.
pub fn is_tracker(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
        || FAMILIES.iter().any(|family| {
            name.strip_prefix(family)
                .is_some_and(|rest| (1..=32).contains(&rest.len()) && rest.bytes().all(is_word))
        })
}

const fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-')
}

/// A link's target without the trackers that hung on it, in its one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanTarget<'a> {
    path: &'a str,
    query: &'a str,
}

impl std::fmt::Display for CleanTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}?{}", self.path, self.query)
    }
}

impl<'a> UnverifiedLink<'a> {
    /// As [`Self::parse`], and where that finds a link with known trackers before or after its parameters, which
    /// `may_be_sent_on` ([`crate::referer::FetchHeaders::may_be_sent_on`]), the link without them and where to send it
    /// on to, once all that is asked of a link holds for it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_tracked(
        target: &'a str,
        may_be_sent_on: impl FnOnce() -> bool,
    ) -> Result<(Self, Option<CleanTarget<'a>>), LinkError> {
        match Self::parse(target) {
            Err(LinkError::Malformed) => {
                let (clean, link) = without_trackers(target)
                    .filter(|_| may_be_sent_on())
                    .ok_or(LinkError::Malformed)?;
                Ok((link, Some(clean)))
            }
            parsed => Ok((parsed?, None)),
        }
    }
}

fn without_trackers(target: &str) -> Option<(CleanTarget<'_>, UnverifiedLink<'_>)> {
    let (path, whole) = target.split_once('?')?;
    let is_tracked = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        is_tracker(name) && value.bytes().all(|c| c.is_ascii_graphic() && c != b'#')
    };
    let mut query = whole;
    while let Some((_, rest)) = query.split_once('&').filter(|(pair, _)| is_tracked(pair)) {
        query = rest;
    }
    while let Some((rest, _)) = query.rsplit_once('&').filter(|(_, pair)| is_tracked(pair)) {
        query = rest;
    }
    let link = UnverifiedLink::parse_parts(path, query)?;
    Some((CleanTarget { path, query }, link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: &str =
        "/generated/u/a.png?exp=1800003600&kid=k1&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn only_known_trackers_around_a_link_are_taken_off() {
        assert!(NAMES.is_sorted());
        let (path, query) = LINK.split_once('?').unwrap();
        for tracked in [
            format!("{LINK}&fbclid=IwAR0x_y-z"),
            format!("{LINK}&utm_source=a%20b&utm_medium=mail"),
            format!("{LINK}&fbclid"),
            format!("{LINK}&gclid="),
            format!("{path}?utm_id=1&{query}"),
            format!("{path}?_gl=1*x&{query}&msclkid=2"),
        ] {
            let (_, clean) = UnverifiedLink::parse_tracked(&tracked, || true).unwrap();
            assert_eq!(clean.unwrap().to_string(), LINK, "{tracked}");
            let kept = UnverifiedLink::parse_tracked(&tracked, || false);
            assert_eq!(kept.unwrap_err(), LinkError::Malformed, "{tracked}");
        }
        let (_, clean) = UnverifiedLink::parse_tracked(LINK, || true).unwrap();
        assert_eq!(clean, None);
        for other in [
            path.to_owned(),
            format!("{path}?fbclid=1"),
            format!("{path}?utm_source=1&fbclid=1"),
            format!("{LINK}&amp;fbclid=1"),
            format!("{LINK}&fbclid=1&"),
            format!("{LINK}&&fbclid=1"),
            format!("{LINK}&v=1"),
            format!("{LINK}&v=1&fbclid=1"),
            format!("{LINK}&fbclid=1&v=1"),
            format!("{LINK}&FBCLID=1"),
            format!("{LINK}&%66bclid=1"),
            format!("{LINK}&utm_=1"),
            format!("{LINK}&utm_a%62=1"),
            format!("{LINK}&fbclid=ä"),
            format!("{LINK}&fbclid=1#x"),
            format!("{LINK}&fbclid=1\n"),
            LINK.replace("&kid", "&fbclid=1&kid"),
            format!("/{LINK}&fbclid=1"),
            format!("/temp/j.png?{query}&fbclid=1"),
        ] {
            assert!(
                UnverifiedLink::parse_tracked(&other, || true).is_err(),
                "{other}"
            );
        }
    }

    #[test]
    fn no_tracker_has_a_name_that_links_use() {
        for name in ["dl", "dn", "ep", "exp", "ip", "kid", "sig"] {
            assert!(!is_tracker(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_targets_never_panic_and_what_is_left_is_a_link(before in "(fbclid=x&|utm_a&|v=1&|&){0,3}", after in "(&gclid=[a-z]{0,3}|&utm_b|&v|&|#){0,3}", target in ".{0,60}") {
            let _ = UnverifiedLink::parse_tracked(&target, || true);
            let (path, query) = LINK.split_once('?').unwrap();
            let whole = format!("{path}?{before}{query}{after}");
            if let Ok((_, Some(clean))) = UnverifiedLink::parse_tracked(&whole, || true) {
                prop_assert_eq!(clean.to_string(), LINK);
                prop_assert!(UnverifiedLink::parse(&whole).is_err());
            }
        }
    }
}
