//! The link keyring of the service, and files that only its user may read.

use std::path::{Path, PathBuf};

use shared::keyring::Keyring;

use super::StartError;
use crate::config::Settings;

/// The link keyring: configured, or for the embedded service one made at the first start and kept beside the state.
pub(crate) fn configured_link_keys(settings: &Settings) -> Result<Keyring, StartError> {
    if let Some(ring) = settings.link_keys()? {
        return Ok(ring);
    }
    let file = own_link_keys(settings);
    if !file.exists() {
        let text = crate::cli::new_keyring("local");
        write_private(&file, text.expose())?;
    }
    crate::config::keyring("the kept link keys", None, Some(&file))?
        .ok_or_else(|| "no link keys".into())
}

/// Where the embedded service keeps the keyring that it made.
fn own_link_keys(settings: &Settings) -> PathBuf {
    settings.state.file.with_file_name("link-keys")
}

/// The file that holds the link keyring; none when it comes from a variable.
pub(crate) fn link_key_file(settings: &Settings) -> Option<PathBuf> {
    match (&settings.images.keys, &settings.images.keys_file) {
        (Some(_), _) => None,
        (None, Some(file)) => Some(file.clone()),
        (None, None) => Some(own_link_keys(settings)),
    }
}

/// Writes a file of mode 600, whole or not at all.
pub(crate) fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let partial = file.with_extension("partial");
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(partial, file)
}
