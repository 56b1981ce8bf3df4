//! Keyrings, from a variable or from a file whose name a setting gives.

use std::path::Path;

use shared::keyring::Keyring;

use super::Settings;
use crate::secret::Secret;

impl Settings {
    /// The link keyring when one is configured.
    ///
    /// # Errors
    /// A sentence that names the setting and shows nothing of a key.
    pub fn link_keys(&self) -> Result<Option<Keyring>, String> {
        keyring(
            "images.keys",
            self.images.keys.as_ref(),
            self.images.keys_file.as_deref(),
        )
    }

    /// The edge's keyring when one is configured.
    ///
    /// # Errors
    /// A sentence that names the setting and shows nothing of a key.
    pub fn edge_keys(&self) -> Result<Option<Keyring>, String> {
        keyring(
            "edge.keys",
            self.edge.keys.as_ref(),
            self.edge.keys_file.as_deref(),
        )
    }
}

/// When a file was written, Unix seconds.
pub(crate) fn key_file_time(file: &Path) -> Option<u64> {
    let written = std::fs::metadata(file).ok()?.modified().ok()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// The keyring `name` from its text or its file; `None` when neither is given.
///
/// # Errors
/// A sentence that begins with `name`.
pub(crate) fn keyring(
    name: &str,
    text: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<Keyring>, String> {
    let text = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(format!("{name}: set either the keys or the file, not both"));
        }
        (Some(text), None) => text.clone(),
        (None, Some(file)) => Secret::new(
            std::fs::read_to_string(file)
                .map_err(|error| format!("{name}: {}: {error}", file.display()))?,
        ),
        (None, None) => return Ok(None),
    };
    Keyring::parse(text.expose())
        .map(Some)
        .map_err(|error| format!("{name}: {error}"))
}
