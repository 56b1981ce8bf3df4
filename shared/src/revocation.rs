//! What was revoked, as a snapshot stamped with its time. The origin writes it, the edge reads it; who carries it, and
//! how fast, is theirs.
//!
//! As text every entry is a line ended by LF:
//!
//! ```text
//! signet-revoked-v1 {unix-milliseconds}
//! epoch {owner} {epoch}
//! link {first 16 bytes of SHA-256 of the sig, in hex} {exp}
//! suspended {owner}
//! ```

use std::collections::{HashMap, HashSet};

use crate::link::{LinkError, PermittedLink};

/// Seconds for which a snapshot may be acted on without looking for a newer one.
pub const FRESH: u64 = 30;
/// Seconds after which a snapshot is a failure and must not be acted on as if it were fresh.
pub const MAX_AGE: u64 = 60;
/// Longest text of a snapshot in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;

const HEAD: &str = "signet-revoked-v1";

/// Revoked links, epochs and owners, as known at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When the origin made it, in Unix milliseconds: two of one second are told apart.
    pub taken_ms: u64,
    /// Revoked links by fingerprint, with the end of the link's life, after which the entry may go.
    pub links: HashMap<[u8; 16], u64>,
    /// Links of an owner with a smaller epoch are refused.
    pub epochs: HashMap<String, u64>,
    /// Owners none of whose links open.
    pub suspended: HashSet<String>,
}

impl Snapshot {
    /// Whether the link still opens.
    ///
    /// # Errors
    /// [`LinkError::Revoked`] for a revoked link, an older epoch, or a suspended owner.
    pub fn check(&self, link: &PermittedLink) -> Result<(), LinkError> {
        let revoked = self.links.contains_key(link.fingerprint())
            || link.key().owner().is_some_and(|owner| {
                self.suspended.contains(owner)
                    || self
                        .epochs
                        .get(owner)
                        .is_some_and(|&epoch| link.epoch() < epoch)
            });
        if revoked {
            Err(LinkError::Revoked)
        } else {
            Ok(())
        }
    }

    /// Reads the text of a snapshot; anything unknown in it makes it none, since what is not understood may revoke.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').filter(|_| text.len() <= MAX_TEXT)?;
        let mut lines = text.split('\n');
        let mut snapshot = Self {
            taken_ms: number(lines.next()?.strip_prefix(HEAD)?.strip_prefix(' ')?)?,
            ..Self::default()
        };
        for line in lines {
            let mut words = line.split(' ');
            match (words.next()?, words.next()?, words.next(), words.next()) {
                ("epoch", owner, Some(epoch), None) => {
                    snapshot.epochs.insert(name(owner)?, number(epoch)?);
                }
                ("link", print, Some(exp), None) => {
                    snapshot.links.insert(fingerprint(print)?, number(exp)?);
                }
                ("suspended", owner, None, None) => {
                    snapshot.suspended.insert(name(owner)?);
                }
                _ => return None,
            }
        }
        Some(snapshot)
    }

    /// Its text, entries in order.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(
            self.epochs
                .iter()
                .map(|(owner, epoch)| format!("epoch {owner} {epoch}\n")),
        );
        lines.extend(
            self.links
                .iter()
                .map(|(print, exp)| format!("link {:032x} {exp}\n", u128::from_be_bytes(*print))),
        );
        lines.extend(
            self.suspended
                .iter()
                .map(|owner| format!("suspended {owner}\n")),
        );
        lines.sort_unstable();
        format!("{HEAD} {}\n{}", self.taken_ms, lines.concat())
    }

    /// Whether it may be acted on at `now` (Unix seconds) without looking for a newer one.
    pub fn is_fresh(&self, now: u64) -> bool {
        now.abs_diff(self.taken_ms / 1000) <= FRESH
    }

    /// Whether it is too old to be relied on at `now` (Unix seconds). One from the future is no better: the clocks
    /// differ too much for its age to be known.
    pub fn is_stale(&self, now: u64) -> bool {
        now.abs_diff(self.taken_ms / 1000) > MAX_AGE
    }
}

/// A number in its one spelling.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// An owner, as object keys have them.
fn name(text: &str) -> Option<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// 32 lower-case hex digits.
fn fingerprint(text: &str) -> Option<[u8; 16]> {
    let plain = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let number = u128::from_str_radix(text, 16).ok();
    number
        .filter(|_| text.len() == 32 && text.bytes().all(plain))
        .map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let owner = "[A-Za-z0-9_-]{1,64}";
        (
            any::<u64>(),
            prop::collection::hash_map(any::<[u8; 16]>(), any::<u64>(), 0..5),
            prop::collection::hash_map(owner, any::<u64>(), 0..5),
            prop::collection::hash_set(owner, 0..5),
        )
            .prop_map(|(taken_ms, links, epochs, suspended)| Snapshot {
                taken_ms,
                links,
                epochs,
                suspended,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(snapshot in any_snapshot()) {
            prop_assert_eq!(Snapshot::parse(&snapshot.to_text()), Some(snapshot));
        }

        #[test]
        fn arbitrary_text_never_panics_and_has_one_spelling(text in "signet-revoked-v1 [0-9]{0,21}\n((epoch|link|suspended) [ -~]{0,40}\n?){0,3}|.{0,60}") {
            if let Some(snapshot) = Snapshot::parse(&text) {
                prop_assert_eq!(Snapshot::parse(&snapshot.to_text()), Some(snapshot));
            }
        }
    }

    #[test]
    fn what_is_not_understood_makes_no_snapshot() {
        let good = "signet-revoked-v1 5\nepoch a 1\nlink 000102030405060708090a0b0c0d0e0f 9\nsuspended b\n";
        assert_eq!(
            Snapshot::parse(good).map(|it| it.to_text()).as_deref(),
            Some(good)
        );
        for bad in [
            "",
            "\n",
            "signet-revoked-v1\n",
            "signet-revoked-v1 5",
            "signet-revoked-v2 5\n",
            "signet-revoked-v1 05\n",
            "signet-revoked-v1 5\nepoch a\n",
            "signet-revoked-v1 5\nepoch a 1 2\n",
            "signet-revoked-v1 5\nepoch a/b 1\n",
            "signet-revoked-v1 5\nlink 00 1\n",
            "signet-revoked-v1 5\nlink 000102030405060708090A0B0C0D0E0F 9\n",
            "signet-revoked-v1 5\nsuspended \n",
            "signet-revoked-v1 5\n\n",
            "signet-revoked-v1 5\nallow a\n",
            "signet-revoked-v1 5\nsuspended b\r\n",
            "signet-revoked-v1 +5\n",
        ] {
            assert_eq!(Snapshot::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_snapshot_older_than_a_minute_or_from_the_future_is_stale() {
        let snapshot = Snapshot {
            taken_ms: 1_000_000,
            ..Snapshot::default()
        };
        assert!(!snapshot.is_stale(1_000) && !snapshot.is_stale(1_060) && !snapshot.is_stale(940));
        assert!(snapshot.is_stale(1_061) && snapshot.is_stale(939));
    }
}
