//! Token-signing keys and their rotation.
//!
//! A new key is shown in the JWKS for a while before it signs, so that others know it by then; the one before is shown
//! until the last token it signed has expired.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::metadata::KEPT_SECONDS;
use crate::state::{State, StateError, keys::SigningKeyRow};

/// Seconds from a key's making to its first signature.
pub const LEAD_SECONDS: u64 = 2 * KEPT_SECONDS;
/// Seconds after which no token of a superseded key is alive: the longest life, and clocks that differ.
const OVERLAP_SECONDS: u64 = 3600 + 120;

/// One key.
pub(super) struct Key {
    kid: String,
    signing: SigningKey,
    verifying: VerifyingKey,
    signs_from: u64,
}

impl Key {
    /// A key whose public half is this one; it signs with another.
    #[cfg(test)]
    pub(super) fn of_public(public: &[u8; 32]) -> Option<Self> {
        Some(Self {
            kid: "test".into(),
            signing: SigningKey::from_bytes(&[7; 32]),
            verifying: VerifyingKey::from_bytes(public).ok()?,
            signs_from: 0,
        })
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// Strict: refuses small-order keys and non-canonical signatures.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.verifying.verify_strict(message, &signature).is_ok())
    }
}

/// The keys that count, newest first.
pub(super) struct Ring(Vec<Key>);

impl Ring {
    /// # Errors
    /// A stored key that cannot be read.
    pub(super) fn read(rows: &[SigningKeyRow], now: u64) -> Result<Self, StateError> {
        let mut keys: Vec<Key> = Vec::new();
        for row in rows {
            // Superseded long ago.
            if keys
                .last()
                .is_some_and(|newer| newer.signs_from + OVERLAP_SECONDS < now)
            {
                break;
            }
            let signing = SigningKey::from_pkcs8_der(&row.pkcs8)
                .map_err(|_| StateError::Damaged(format!("signing key {}", row.kid)))?;
            keys.push(Key {
                kid: row.kid.clone(),
                verifying: signing.verifying_key(),
                signing,
                signs_from: row.created + LEAD_SECONDS,
            });
        }
        Ok(Self(keys))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn kids(&self) -> Vec<&str> {
        self.0.iter().map(Key::kid).collect()
    }

    /// The newest that has been shown long enough; else the oldest there is.
    pub(super) fn signing(&self, now: u64) -> Option<&Key> {
        let shown = self.0.iter().find(|key| key.signs_from <= now);
        shown.or(self.0.last())
    }

    /// When the key that signs at `now` began to.
    pub(super) fn signing_since(&self, now: u64) -> Option<u64> {
        // A service's first key signs from its making on.
        let key = self.signing(now)?;
        Some(
            key.signs_from
                .min(now)
                .max(key.signs_from.saturating_sub(LEAD_SECONDS)),
        )
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.kid == kid)
    }

    pub(super) fn jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .0
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid,
                    "x": URL_SAFE_NO_PAD.encode(key.verifying.as_bytes()),
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// A fresh key; its id is made of its public half.
///
/// # Errors
/// The key cannot be written as PKCS#8.
pub fn new_key(now: u64) -> Result<SigningKeyRow, StateError> {
    let signing = SigningKey::from_bytes(&Zeroizing::new(rand::random::<[u8; 32]>()));
    let pkcs8 = signing
        .to_pkcs8_der()
        .map_err(|error| StateError::Other(error.to_string()))?;
    let digest = Sha256::digest(signing.verifying_key().as_bytes());
    let kid: String = URL_SAFE_NO_PAD.encode(digest).chars().take(16).collect();
    Ok(SigningKeyRow {
        kid,
        pkcs8: Zeroizing::new(pkcs8.as_bytes().to_vec()),
        created: now,
    })
}

/// Adds a key that will sign in a while, and forgets those whose tokens are all over. With `at_once` it signs from now
/// on and every older key, and so every token, counts no more: for a key that leaked. The new key's id.
///
/// # Errors
/// The state's own.
pub async fn rotate(state: &State, at_once: bool, now: u64) -> Result<String, StateError> {
    let known = state.signing_keys().await?;
    let mut key = new_key(now)?;
    let removed_before = if at_once {
        key.created = now.saturating_sub(LEAD_SECONDS);
        // Also those that were made a moment ago.
        u64::MAX
    } else {
        let ring = Ring::read(&known, now)?;
        let kept = ring.0.last();
        kept.map_or(0, |kept| kept.signs_from - LEAD_SECONDS)
    };
    let kid = key.kid.clone();
    state
        .replace_signing_keys_before(removed_before, key)
        .await?;
    Ok(kid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    async fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s")).unwrap();
        let first = new_key(NOW).unwrap();
        state.first_signing_key(first).await.unwrap();
        (folder, state)
    }

    async fn ring(state: &State, now: u64) -> Ring {
        Ring::read(&state.signing_keys().await.unwrap(), now).unwrap()
    }

    #[tokio::test]
    async fn a_new_key_is_shown_before_it_signs_and_the_old_one_after() {
        let (_folder, state) = state().await;
        let old = ring(&state, NOW)
            .await
            .signing(NOW)
            .unwrap()
            .kid()
            .to_owned();
        let rotated = NOW + 10_000;
        let new = rotate(&state, false, rotated).await.unwrap();
        let at = async |now: u64| {
            let ring = ring(&state, now).await;
            (ring.signing(now).unwrap().kid().to_owned(), ring.len())
        };
        assert_eq!(at(rotated).await, (old.clone(), 2));
        assert_eq!(at(rotated + LEAD_SECONDS - 1).await, (old.clone(), 2));
        assert_eq!(at(rotated + LEAD_SECONDS).await, (new.clone(), 2));
        let last = rotated + LEAD_SECONDS + OVERLAP_SECONDS;
        assert_eq!(at(last).await, (new.clone(), 2));
        assert_eq!(at(last + 1).await, (new, 1));
        rotate(&state, false, last + 1).await.unwrap();
        assert_eq!(
            state.signing_keys().await.unwrap().len(),
            2,
            "the oldest is forgotten"
        );
    }

    #[tokio::test]
    async fn a_leaked_key_is_gone_at_once() {
        let (_folder, state) = state().await;
        let new = rotate(&state, true, NOW).await.unwrap();
        let ring = ring(&state, NOW).await;
        assert_eq!(
            (ring.signing(NOW).unwrap().kid(), ring.len()),
            (new.as_str(), 1)
        );
    }
}
