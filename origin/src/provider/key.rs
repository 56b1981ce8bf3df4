//! The provider's key, in force. Where it stands in a file, the file is followed while the service runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::Settings;
use crate::secret::Secret;

/// How often the file is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Longest key in bytes.
const LONGEST: usize = 4096;

/// The key that is sent now; none for a provider without. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub(super) struct LiveKey(Arc<RwLock<Option<Secret>>>);

impl LiveKey {
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn open(settings: &Settings) -> Result<Self, String> {
        Ok(Self(Arc::new(RwLock::new(first(settings)?))))
    }

    /// The value of `Authorization`, marked as sensitive.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let text = Zeroizing::new(format!("Bearer {}", key.as_ref()?.expose()));
        // The key was checked when it was read.
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Follows `file` for ever. A key that is none is told to the log once, and the one in force stays.
    ///
    /// # Errors
    /// The system gives no signal handler.
    pub(super) fn follow(self, file: PathBuf) -> std::io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            let mut complained = false;
            loop {
                tokio::select! {
                    _ = hangups.recv() => complained = false,
                    () = tokio::time::sleep(FOLLOW_EVERY) => {}
                }
                complained = self.read(&file, complained);
            }
        });
        Ok(())
    }

    /// One small local file; not worth a thread. Whether it was no key.
    fn read(&self, file: &Path, complained: bool) -> bool {
        match from_file(file) {
            Ok(key) => {
                let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
                if live.as_ref() != Some(&key) {
                    tracing::info!("the provider's key changed");
                    *live = Some(key);
                }
                false
            }
            Err(error) => {
                if !complained {
                    tracing::error!(error, "the provider's key stays as it was");
                }
                true
            }
        }
    }
}

/// The key as configured.
///
/// # Errors
/// A sentence that names the setting and shows nothing of the key.
pub(super) fn first(settings: &Settings) -> Result<Option<Secret>, String> {
    match (&settings.key, &settings.key_file) {
        (Some(_), Some(_)) => Err("provider.key: set either the key or the file, not both".into()),
        (Some(key), None) => checked(key.clone()).map(Some),
        (None, Some(file)) => from_file(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn from_file(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("provider.key_file: {}: {error}", file.display()))?;
    let text = Zeroizing::new(text);
    checked(Secret::new(text.trim()))
}

fn checked(key: Secret) -> Result<Secret, String> {
    let text = key.expose();
    let is_fit = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
    if is_fit {
        Ok(key)
    } else {
        Err(format!(
            "provider.key must be 1 to {LONGEST} printable ASCII characters without spaces"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_key_leaves_the_key_in_force_and_nothing_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-first\n").unwrap();
        let settings = Settings {
            key_file: Some(file.clone()),
            ..Settings::default()
        };
        let key = LiveKey::open(&settings).unwrap();
        let sent = |key: &LiveKey| key.authorization().unwrap().to_str().unwrap().to_owned();
        assert_eq!(sent(&key), "Bearer sk-first");
        for bad in ["", "   \n", "two words", "ümlaut", "a\nb"] {
            std::fs::write(&file, bad).unwrap();
            assert!(key.read(&file, false), "{bad:?}");
            assert_eq!(sent(&key), "Bearer sk-first");
        }
        std::fs::write(&file, "sk-second").unwrap();
        assert!(!key.read(&file, false));
        assert_eq!(sent(&key), "Bearer sk-second");
        let shown = format!("{key:?} {settings:?} {:?}", key.authorization());
        assert!(!shown.contains("sk-"), "{shown}");
        std::fs::remove_file(&file).unwrap();
        assert!(key.read(&file, false));
        assert_eq!(sent(&key), "Bearer sk-second");
    }
}
