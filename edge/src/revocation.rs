//! What the edge knows to be revoked. So far nothing brings a snapshot to the edge, so nothing is known there: links
//! die by their own time and by removing their key.

use shared::link::{LinkError, PermittedLink};
use shared::revocation::Snapshot;

/// The state of knowledge: nothing, or a snapshot that the origin made.
#[derive(Default)]
pub struct Known(Option<Snapshot>);

impl Known {
    /// A snapshot given by a test.
    #[cfg(feature = "test-hooks")]
    pub fn of(snapshot: Snapshot) -> Self {
        Self(Some(snapshot))
    }

    /// Whether the link still opens at `now` (Unix seconds). A stale snapshot is a failure and closes.
    ///
    /// # Errors
    /// [`LinkError::Revoked`].
    pub fn check(&self, link: &PermittedLink, now: u64) -> Result<(), LinkError> {
        match &self.0 {
            None => Ok(()),
            Some(snapshot) if snapshot.is_stale(now) => Err(LinkError::Revoked),
            Some(snapshot) => snapshot.check(link),
        }
    }
}
