//! What was revoked before its time, as the origin tells the edge.
//!
//! Everything revoked is an [`Entry`] that ends by itself. Entries lie in [`PAGES`] pages by a digest of what they name,
//! and each page has a digest of its own ([`page`]): origin and edge compare digests and send only pages that differ, so
//! that a million entries cost no more than what has changed, and a lost or repeated message mends itself. An isolate of
//! the edge holds no entries but a [`filter`]: what it does not know is not revoked; what it may know is asked for once
//! more, exactly. [`snapshot`] is how older origins told it.

pub mod entry;
pub mod filter;
pub mod page;
pub mod snapshot;

use std::net::IpAddr;

pub use entry::{Entry, Kind, NEVER, Name};
pub use filter::{Filter, MAX_FILTER};
pub use page::{Beat, PAGES, Page};

use crate::client_ip;
use crate::link::{LinkError, PermittedLink};

/// Seconds for which what is known may be acted on without looking for newer.
pub const FRESH: u64 = 30;
/// Seconds after which what is known is a failure and must not be acted on as if it were fresh.
pub const MAX_AGE: u64 = 60;
/// Longest message of the origin, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Entries that must work, within [`MAX_FILTER`] and with one unneeded second look in a hundred at most. Beyond it
/// everything goes on, with more second looks.
pub const MANY: u64 = 1_000_000;
/// Entries of single links, tokens and addresses together, beyond which no more links and addresses are taken. Tokens
/// end within the hour; owners, epochs and clients are as many as there are users.
pub const MAX_SINGLE: u64 = 500_000;

/// Whether what was known at `taken_ms` (Unix milliseconds) may be acted on at `now` (Unix seconds) without looking
/// for newer.
pub fn is_fresh(taken_ms: u64, now: u64) -> bool {
    now.abs_diff(taken_ms / 1000) <= FRESH
}

/// Whether it is too old to be relied on. What comes from the future is no better: the clocks differ too much for its
/// age to be known.
pub fn is_stale(taken_ms: u64, now: u64) -> bool {
    now.abs_diff(taken_ms / 1000) > MAX_AGE
}

/// What may have been revoked of a link that `client` opens, as far as its address is known.
pub fn names_of_link(link: &PermittedLink, client: Option<IpAddr>) -> Vec<Name> {
    let owner = link.key().owner().map(Name::owner);
    let mut names = vec![Name::link(link.fingerprint())];
    names.extend(owner);
    names.extend(client.into_iter().flat_map(names_of_address));
    names
}

/// The groups that an address lies in.
pub fn names_of_address(client: IpAddr) -> Vec<Name> {
    let group = client_ip::group(client);
    let mut names = vec![Name::address(group.narrow, false)];
    names.extend(group.wide.map(|wide| Name::address(wide, true)));
    names
}

/// Judges a link by entries, of which those count that are about one of its `names` ([`names_of_link`]).
///
/// # Errors
/// [`LinkError::Revoked`] for a revoked link or address, an older epoch, or a suspended owner.
pub fn judge(
    link: &PermittedLink,
    names: &[Name],
    entries: &[Entry],
    now: u64,
) -> Result<(), LinkError> {
    let closes = |entry: &Entry| {
        entry.ends > now
            && match entry.kind {
                Kind::Epoch => link.epoch() < entry.value,
                Kind::Suspended | Kind::Link | Kind::Address => true,
                Kind::Client | Kind::Token => false,
            }
            && names.iter().any(|name| name.is_of(entry))
    };
    if entries.iter().any(closes) {
        Err(LinkError::Revoked)
    } else {
        Ok(())
    }
}

/// A number in its one spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_or_from_the_future_is_stale() {
        let stale = |now| is_stale(1_000_000, now);
        assert!(!stale(1_000) && !stale(1_060) && !stale(940));
        assert!(stale(1_061) && stale(939));
        assert!(is_fresh(1_000_000, 1_030) && !is_fresh(1_000_000, 1_031));
    }

    #[test]
    fn an_address_is_asked_for_by_every_group_around_it() {
        let names = |text: &str| -> Vec<String> {
            let names = names_of_address(text.parse().unwrap()).into_iter();
            names.map(|name| name.to_string()).collect()
        };
        assert_eq!(names("203.0.113.7"), ["address 203.0.113.7"]);
        assert_eq!(
            names("2001:db8:1:2::9"),
            ["address 2001:db8:1:2::/64", "address 2001:db8:1::/48"]
        );
        // A /48 and the first /64 of it are two groups.
        assert_eq!(
            names("2001:db8:1::9"),
            ["address 2001:db8:1::/64", "address 2001:db8:1::/48"]
        );
    }
}
