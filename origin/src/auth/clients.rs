//! Client secrets: made here, shown once, kept as argon2id hashes.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Scopes;
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
    let secret_hash = hash(&secret).map_err(StateError::Other)?;
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

fn hash(secret: &Secret) -> Result<String, String> {
    Argon2::default()
        .hash_password(secret.expose().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|e| e.to_string())
}

/// Whether the secret is the client's; takes tens of milliseconds of CPU on purpose. Without a client a hash is
/// computed all the same, so that the time tells nothing about which ids exist.
pub fn verify(secret: &Secret, hash: Option<&str>) -> bool {
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2lnbmV0LW5vYm9keS1zYWx0$DLvzYBOkGVyyZx8DRd1YGkGAkYIpfdjjPv2RvMWjvGo";
    let parsed = PasswordHash::new(hash.unwrap_or(NOBODY));
    let matches = parsed.is_ok_and(|hash| {
        Argon2::default()
            .verify_password(secret.expose().as_bytes(), &hash)
            .is_ok()
    });
    matches && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_verifies() {
        let secret = Secret::new(random_token());
        let stored = hash(&secret).unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify(&secret, Some(&stored)));
        assert!(!verify(&Secret::new("other"), Some(&stored)));
        assert!(!verify(&secret, None));
        assert!(!verify(&secret, Some("not a hash")));
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
