//! A keyring in force: of links, or between edge and origin. Where it stands in a file, the file is followed while the
//! service runs, so that a rotation needs no restart: from one instant to the next the new ring signs and verifies.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::keyring::Keyring;

use crate::config;

/// How often the file is looked at; a rotation waits longer than that between its steps.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// The ring that signs and verifies now. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub struct LiveRing(Arc<RwLock<Arc<Keyring>>>);

/// What of a file changes when it is replaced.
type Look = (u64, u64, i64, i64);

impl LiveRing {
    /// Begins with `ring`.
    pub fn new(ring: Keyring) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(ring))))
    }

    /// The ring in force.
    pub fn get(&self) -> Arc<Keyring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, ring: Keyring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Follows `file`, which holds `what`, for ever, and tells of a change. A ring that is none is told to the log once,
    /// and the one in force stays.
    pub async fn follow(self, file: PathBuf, what: &'static str, changed: impl Fn(&Keyring)) {
        // The file may have changed since the ring was read from it: the first look reads it again.
        let mut seen = None;
        loop {
            let found = look(&file);
            if found.is_some() && found != seen {
                seen = found;
                self.read(&file, what, &changed);
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }

    /// One small local file; not worth a thread.
    fn read(&self, file: &Path, what: &'static str, changed: &impl Fn(&Keyring)) {
        match config::keyring(what, None, Some(file)) {
            Ok(Some(ring)) => {
                let kids: Vec<_> = ring.kids().collect();
                if !kids.iter().copied().eq(self.get().kids()) {
                    tracing::info!(kids = kids.join(","), "{what} changed; the first signs");
                    changed(&ring);
                }
                self.set(ring);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(error, "{what} stay as they were"),
        }
    }
}

fn look(file: &Path) -> Option<Look> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
