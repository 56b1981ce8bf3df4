//! Client secrets: made here, shown once, kept as SHA-256 hashes.
//!
//! A secret is 256 random bits: nobody guesses it, however fast the hash is, and there is no list of secrets that people
//! choose. So a wrong secret costs microseconds. States of older versions hold argon2id hashes, of which each check takes
//! 19 MiB and tens of milliseconds: few wait for it, and the first right secret has the hash replaced.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::Scopes;
use crate::error::ApiError;
use crate::secret::Secret;
use crate::state::{State, StateError, clients::ClientRow};

/// A client as it was just made.
#[derive(Debug)]
pub struct NewClient {
    /// `client_id`.
    pub id: String,
    /// `client_secret`, never to be seen again.
    pub secret: Secret,
    /// The user it belongs to.
    pub user_id: String,
}

/// Random text of 256 bits.
pub fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Whether a user id is `[A-Za-z0-9_-]{1,64}`.
pub fn is_user_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// Registers a client; it belongs to `user`, by default to a user of its own id.
///
/// # Errors
/// The state's own.
pub async fn add(
    state: &State,
    name: &str,
    user: Option<&str>,
    scopes: Scopes,
    now: u64,
) -> Result<NewClient, StateError> {
    let id = format!("cl_{}", &URL_SAFE_NO_PAD.encode(rand::random::<[u8; 12]>()));
    let secret = Secret::new(random_token());
    let user_id = user.map_or_else(|| id.clone(), str::to_owned);
    let secret_hash = hash(&secret);
    let row = ClientRow {
        id: id.clone(),
        name: name.to_owned(),
        secret_hash,
        user_id: user_id.clone(),
        scopes: scopes.to_string(),
        disabled: false,
        created: now,
    };
    state.add_client(row).await?;
    Ok(NewClient {
        id,
        secret,
        user_id,
    })
}

/// What a hash of ours begins with; a PHC string begins with `$`.
const SHA256: &str = "sha256:";
/// Sets these hashes apart from any other use of SHA-256.
const DOMAIN: &str = "signet-client-secret-v1\n";

fn hash(secret: &Secret) -> String {
    let digest = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(secret.expose())
        .finalize();
    format!("{SHA256}{}", URL_SAFE_NO_PAD.encode(digest))
}

fn is_argon2_of(secret: &Secret, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(secret.expose().as_bytes(), &hash)
            .is_ok()
    })
}

/// Checks of secrets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SecretChecks {
    /// Places for checks of argon2id hashes: at work and waiting.
    places: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
}

/// Checks of argon2id hashes that wait; further ones are told to come back.
const WAITING: usize = 16;
/// Seconds after which who found no place may come back.
const COME_BACK: u64 = 1;

impl Default for SecretChecks {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(1 + WAITING)),
            at_work: Arc::new(Semaphore::new(1)),
        }
    }
}

impl SecretChecks {
    /// Whether the secret is this client's. Without a client a hash is computed all the same, so that the time tells
    /// nothing about which ids exist.
    ///
    /// # Errors
    /// [`ApiError::Busy`] while too many argon2id hashes are being checked; the state's own.
    pub async fn is_of(
        &self,
        state: &State,
        client: Option<&ClientRow>,
        secret: Secret,
    ) -> Result<bool, ApiError> {
        let made = hash(&secret);
        let stored = client.map_or("", |client| client.secret_hash.as_str());
        if !stored.starts_with('$') {
            return Ok(made.as_bytes().ct_eq(stored.as_bytes()).into());
        }
        let old = stored.to_owned();
        let busy = |_| ApiError::Busy(COME_BACK);
        let _place = self.places.try_acquire().map_err(busy)?;
        let Ok(_turn) = self.at_work.acquire().await else {
            return Err(ApiError::Internal("secret checks are closed".into()));
        };
        let is_right = tokio::task::spawn_blocking(move || is_argon2_of(&secret, &old))
            .await
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        if let Some(client) = client.filter(|_| is_right) {
            state.replace_secret_hash(client, made).await?;
        }
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    async fn state_with(secret_hash: String) -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        let client = ClientRow {
            id: "cl".into(),
            name: String::new(),
            secret_hash,
            user_id: "u".into(),
            scopes: String::new(),
            disabled: false,
            created: 1,
        };
        state.add_client(client).await.unwrap();
        (folder, state)
    }

    fn argon2(secret: &Secret) -> String {
        let hash = Argon2::default().hash_password(secret.expose().as_bytes());
        hash.unwrap().to_string()
    }

    #[tokio::test]
    async fn only_the_right_secret_is_right_and_costs_no_argon2() {
        let secret = Secret::new(random_token());
        let (_folder, state) = state_with(hash(&secret)).await;
        let client = state.client("cl").await.unwrap();
        assert!(client.as_ref().unwrap().secret_hash.starts_with("sha256:"));
        let checks = SecretChecks::default();
        let _taken = checks.places.try_acquire_many(1 + WAITING as u32).unwrap();
        let is_of = async |client: Option<&ClientRow>, secret: &str| {
            let found = checks.is_of(&state, client, Secret::new(secret)).await;
            found.unwrap()
        };
        let client = client.as_ref();
        assert!(is_of(client, secret.expose()).await);
        assert!(!is_of(client, "other").await);
        assert!(!is_of(client, "").await);
        assert!(!is_of(None, secret.expose()).await);
        assert!(!is_of(None, "").await);
        // The hash itself is no secret, and what is no hash is nobody's.
        assert!(!is_of(client, &hash(&secret)).await);
        let odd = ClientRow {
            secret_hash: "not a hash".into(),
            ..client.unwrap().clone()
        };
        assert!(!is_of(Some(&odd), "not a hash").await);
    }

    #[tokio::test]
    async fn a_hash_of_an_older_state_is_read_and_replaced_at_its_next_use() {
        let secret = Secret::new(random_token());
        let (_folder, state) = state_with(argon2(&secret)).await;
        let old = state.client("cl").await.unwrap().unwrap();
        let checks = SecretChecks::default();
        let wrong = checks.is_of(&state, Some(&old), Secret::new("x")).await;
        assert!(!wrong.unwrap());
        let same = state.client("cl").await.unwrap().unwrap();
        assert_eq!(
            same.secret_hash, old.secret_hash,
            "a wrong secret replaces nothing"
        );
        let right = checks.is_of(&state, Some(&old), secret.clone()).await;
        assert!(right.unwrap());
        let new = state.client("cl").await.unwrap().unwrap();
        assert_eq!(new.secret_hash, hash(&secret));
        let _taken = checks.places.try_acquire_many(1 + WAITING as u32).unwrap();
        let right = checks.is_of(&state, Some(&new), secret).await;
        assert!(right.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_many_checks_of_old_hashes_a_few_wait_and_the_others_are_told_to_come_back() {
        let secret = Secret::new(random_token());
        let (_folder, state) = state_with(argon2(&secret)).await;
        let old = state.client("cl").await.unwrap().unwrap();
        let checks = SecretChecks::default();
        let all: Vec<_> = (0..200)
            .map(|_| {
                let (checks, state, old) = (checks.clone(), state.clone(), old.clone());
                tokio::spawn(
                    async move { checks.is_of(&state, Some(&old), Secret::new("wrong")).await },
                )
            })
            .collect();
        let mut busy = 0;
        for one in all {
            match one.await.unwrap() {
                Ok(is_right) => assert!(!is_right),
                Err(ApiError::Busy(_)) => busy += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(busy >= 100, "{busy}");
    }

    #[test]
    fn user_ids_have_their_alphabet() {
        assert!(is_user_id("usr_1-A") && is_user_id(&"a".repeat(64)));
        for bad in ["", "a/b", "a b", "ä", ".."] {
            assert!(!is_user_id(bad), "{bad}");
        }
        assert!(!is_user_id(&"a".repeat(65)));
    }
}
