//! Prompts as the log knows them: a keyed hash, since a plain one is read back with a dictionary.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::prompt_keys::PromptKeys;
use super::prompt_shared::agree;
use crate::clock::Clock;
use crate::state::server::{Server, ServerError};

/// How often the file is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// A prompt's name in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptHash {
    /// Under the key in force.
    pub now: String,
    /// Under the key before, while that is kept.
    pub before: Option<String>,
}

/// Seconds that all origins get to agree on the next key before one goes on by itself.
const PATIENCE: u64 = 10;

/// Hashes prompts under the keys of one file, which follows what all origins agree on where they share a server.
#[derive(Debug)]
pub struct PromptHasher {
    clock: Clock,
    file: PathBuf,
    server: Option<Server>,
    keys: RwLock<Arc<PromptKeys>>,
}

impl PromptHasher {
    /// Takes the keys of `file`, which is made where it is not there.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn open(file: PathBuf, clock: Clock) -> std::io::Result<Self> {
        let keys = PromptKeys::keep(&file, clock.seconds())?;
        Ok(Self {
            clock,
            file,
            server: None,
            keys: RwLock::new(Arc::new(keys)),
        })
    }

    /// Takes the keys that all origins of this server share, where there is one; the file's while it is away.
    ///
    /// # Errors
    /// As [`PromptHasher::open`].
    pub(crate) async fn open_with(
        server: Option<Server>,
        file: PathBuf,
        clock: Clock,
    ) -> std::io::Result<Self> {
        if let Some(server) = &server {
            // Without a file it takes what there is, and makes no key that would be the latest.
            let own = file
                .exists()
                .then(|| PromptKeys::keep(&file, clock.seconds()))
                .transpose()?;
            follow_others(server, own.as_ref(), &file, clock.seconds()).await?;
        }
        let hasher = Self::open(file, clock)?;
        Ok(Self { server, ..hasher })
    }

    fn keys(&self) -> Arc<PromptKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what stands in the file, and changes it when it is time. A file that cannot be used does not keep a key
    /// in force past its week.
    pub fn refresh(&self) {
        let now = self.clock.seconds();
        let known = self.keys();
        let keys = match PromptKeys::keep(&self.file, now) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::error!(%error, "the prompt-hash keys cannot be kept");
                if !known.is_due(now) {
                    return;
                }
                known.next(now)
            }
        };
        if keys.kid() != known.kid() {
            tracing::info!(kid = keys.kid(), "prompts are hashed under another key");
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Follows the file for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            if let Some(server) = &self.server {
                let (own, now) = (self.keys(), self.clock.seconds());
                if let Err(error) = follow_others(server, Some(&own), &self.file, now).await {
                    tracing::error!(%error, "the prompt-hash keys cannot be kept");
                }
            }
            // One small local file; not worth a thread.
            self.refresh();
        }
    }

    /// When the key in force was made, Unix seconds.
    pub fn since(&self) -> u64 {
        self.keys().since()
    }

    /// `hmac-sha256:{kid}:{mac}` over the NFKC, trimmed, case-folded prompt.
    pub fn hash(&self, prompt: &str) -> PromptHash {
        let now = self.clock.seconds();
        let patience = self.server.as_ref().map_or(0, |_| PATIENCE);
        if self.keys().is_due(now.saturating_sub(patience)) {
            self.refresh();
        }
        let keys = self.keys();
        PromptHash {
            now: keys.hash(prompt),
            before: keys.hash_before(prompt, now),
        }
    }
}

/// Has the file follow what all origins agree on; while the server is away nothing happens.
async fn follow_others(
    server: &Server,
    own: Option<&PromptKeys>,
    file: &Path,
    now: u64,
) -> std::io::Result<()> {
    match agree(server, own, now).await {
        Ok(keys) => keys.follow(file).map(drop),
        Err(ServerError::Away(_)) => Ok(()),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::prompt_keys::{OVERLAP, WEEK};
    use super::*;

    #[test]
    fn equal_prompts_have_one_hash_for_a_week_and_a_bridge_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000);
        let open = || PromptHasher::open(folder.path().join("keys"), clock.clone()).unwrap();
        let hasher = open();
        let first = hasher.hash("A red  apple").now;
        assert_eq!(first, hasher.hash("  a RED  apple ").now);
        assert_eq!(hasher.hash("ﬁsh"), hasher.hash("fish"));
        assert_ne!(first, hasher.hash("a red apple").now);
        for (one, other) in [
            ("Die STRASSE", "die straße"),
            ("STRAẞE", "strasse"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "οδος"),
            ("ᾼ", "αι"),
            ("İ", "i\u{307}"),
        ] {
            assert_eq!(hasher.hash(one), hasher.hash(other), "{one} {other}");
        }
        assert_ne!(hasher.hash("ı"), hasher.hash("i"));
        assert_eq!(
            open().hash("A red  apple").now,
            first,
            "after a restart too"
        );
        assert!(first.starts_with("hmac-sha256:p-") && !first.contains("apple"));
        clock.advance(WEEK);
        let next = hasher.hash("A red  apple");
        assert_ne!(next.now, first);
        assert_eq!(next.before, Some(first));
        clock.advance(OVERLAP);
        assert_eq!(hasher.hash("A red  apple").before, None);
    }

    #[test]
    fn a_file_that_is_gone_keeps_no_key_in_force_past_its_week() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000);
        let hasher = PromptHasher::open(folder.path().join("sub-keys"), clock.clone()).unwrap();
        let first = hasher.hash("x").now;
        std::fs::write(folder.path().join("sub-keys"), "broken").unwrap();
        hasher.refresh();
        assert_eq!(hasher.hash("x").now, first);
        clock.advance(WEEK);
        assert_ne!(hasher.hash("x").now, first);
    }
}
