//! How far a sweep came, in a small file beside the state, so that the next one goes on there.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Older than this a cursor is forgotten and the sweep starts anew, in seconds.
const STALE: u64 = 24 * 3600;

/// The note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The last key that was decided about.
    pub after: Option<String>,
    /// When, in Unix seconds.
    pub noted: u64,
}

impl Cursor {
    /// Reads the note; none, a damaged and a stale one alike start at the beginning.
    pub fn read(file: &Path, now: u64) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let noted: Self = serde_json::from_slice(&text).unwrap_or_default();
        if now.saturating_sub(noted.noted) < STALE {
            noted
        } else {
            Self::default()
        }
    }

    /// Notes where to go on.
    pub(super) fn note(&mut self, file: &Path, after: String, now: u64) -> std::io::Result<()> {
        self.after = Some(after);
        self.noted = now;
        let part = file.with_extension("part");
        std::fs::write(&part, serde_json::to_vec(self)?)?;
        std::fs::rename(part, file)
    }

    /// Forgets the note.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(file: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
