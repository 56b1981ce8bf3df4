//! What was revoked, as a snapshot stamped with its time. Plain data: who carries it, and how fast, is the edge's part.

use std::collections::{HashMap, HashSet};

use crate::link::{LinkError, PermittedLink};

/// Seconds after which a snapshot is a failure and must not be acted on as if it were fresh.
pub const MAX_AGE: u64 = 60;

/// Revoked links, epochs and owners, as known at `taken_at` (Unix seconds).
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the origin made it.
    pub taken_at: u64,
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

    /// Whether it is too old to be relied on at `now` (Unix seconds). One from the future is no better: the clocks
    /// differ too much for its age to be known.
    pub fn is_stale(&self, now: u64) -> bool {
        now.abs_diff(self.taken_at) > MAX_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_older_than_a_minute_or_from_the_future_is_stale() {
        let snapshot = Snapshot {
            taken_at: 1_000,
            ..Snapshot::default()
        };
        assert!(!snapshot.is_stale(1_000) && !snapshot.is_stale(1_060) && !snapshot.is_stale(940));
        assert!(snapshot.is_stale(1_061) && snapshot.is_stale(939));
    }
}
