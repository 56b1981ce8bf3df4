//! Prompts as the log knows them: a keyed hash, since a plain one is read back with a dictionary.

use std::sync::Mutex;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::clock::Clock;

/// A key hashes for at most a week; equal prompts are counted within one key id.
const KEY_LIFE: u64 = 7 * 24 * 3600;

struct Current {
    kid: String,
    key: Zeroizing<[u8; 32]>,
    since: u64,
}

/// Hashes prompts under a key that lives in memory only and changes weekly.
pub struct PromptHasher {
    clock: Clock,
    current: Mutex<Current>,
}

impl std::fmt::Debug for PromptHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PromptHasher(REDACTED)")
    }
}

fn fresh(now: u64) -> Current {
    let id: String = rand::random::<[u8; 4]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Current {
        kid: format!("p-{id}"),
        key: Zeroizing::new(rand::random()),
        since: now,
    }
}

impl PromptHasher {
    /// Starts with a fresh key.
    pub fn new(clock: Clock) -> Self {
        let current = Mutex::new(fresh(clock.seconds()));
        Self { clock, current }
    }

    /// `hmac-sha256:{kid}:{mac}` over the NFKC, trimmed, lower-cased prompt.
    pub fn hash(&self, prompt: &str) -> String {
        let now = self.clock.seconds();
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.saturating_sub(current.since) >= KEY_LIFE {
            *current = fresh(now);
        }
        let folded: String = prompt.nfkc().collect::<String>().trim().to_lowercase();
        // HMAC takes keys of any length.
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(current.key.as_slice()) else {
            return String::new();
        };
        mac.update(folded.as_bytes());
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("hmac-sha256:{}:{hex}", current.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_prompts_have_one_hash_for_a_week() {
        let clock = Clock::manual(1_000);
        let hasher = PromptHasher::new(clock.clone());
        let first = hasher.hash("A red  apple");
        assert_eq!(first, hasher.hash("  a RED  apple "));
        assert_eq!(hasher.hash("ﬁsh"), hasher.hash("fish"));
        assert_ne!(first, hasher.hash("a red apple"));
        clock.advance(KEY_LIFE);
        assert_ne!(first, hasher.hash("A red  apple"));
        assert!(first.starts_with("hmac-sha256:p-") && !first.contains("apple"));
    }
}
