//! Refresh tokens: families of single-use tokens, each known by its hash alone.
//!
//! The successor of a token is made of the token and a secret of its family, so that the same token, sent again within
//! the grace, gets the same successor, though no token is stored.

use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{State, StateError};

/// A token that comes again within so many seconds is a retry; later it is a theft.
pub const GRACE_SECONDS: u64 = 10;

/// Whom a family of refresh tokens was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshGrant {
    /// The user.
    pub user_id: String,
    /// The client that may use it.
    pub client_id: String,
    /// Space-separated scopes.
    pub scopes: String,
    /// When the whole family ends, in Unix seconds.
    pub expires: u64,
}

/// What becomes of a refresh token.
#[derive(Clone, PartialEq, Eq)]
pub enum Rotation {
    /// It counts, and this is its successor.
    Successor(RefreshGrant, Zeroizing<String>),
    /// None of ours, over, revoked, or another client's.
    Unknown,
    /// It was used before, and longer ago than a retry takes: its family is revoked from now on.
    Reused,
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn successor(secret: &[u8], token: &str) -> Option<Zeroizing<String>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(b"signet-refresh-v1\n");
    mac.update(token.as_bytes());
    let text = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Some(Zeroizing::new(format!("rt_{text}")))
}

struct Known {
    family: String,
    used: Option<u64>,
    grant: RefreshGrant,
    secret: Zeroizing<Vec<u8>>,
    revoked: bool,
}

fn find(tx: &Transaction<'_>, token: &str) -> Result<Option<Known>, StateError> {
    let sql =
        "SELECT f.id, t.used, f.user_id, f.client_id, f.scopes, f.expires, f.secret, f.revoked
               FROM refresh_tokens t JOIN refresh_families f ON f.id = t.family WHERE t.hash = ?1";
    Ok(tx
        .query_row(sql, [hash(token)], |row| {
            Ok(Known {
                family: row.get(0)?,
                used: row.get::<_, Option<i64>>(1)?.map(super::images::unsigned),
                grant: RefreshGrant {
                    user_id: row.get(2)?,
                    client_id: row.get(3)?,
                    scopes: row.get(4)?,
                    expires: super::images::unsigned(row.get(5)?),
                },
                secret: Zeroizing::new(row.get(6)?),
                revoked: row.get(7)?,
            })
        })
        .optional()?)
}

impl State {
    /// Begins a family with its first token. Families that are over are forgotten on the way.
    ///
    /// # Errors
    /// The state's own.
    pub async fn add_refresh_token(
        &self,
        grant: RefreshGrant,
        token: &str,
        now: u64,
    ) -> Result<(), StateError> {
        let hash = hash(token);
        let id = format!("{:032x}", rand::random::<u128>());
        let secret = Zeroizing::new(rand::random::<[u8; 32]>());
        self.transact(move |tx| {
            tx.execute("DELETE FROM refresh_families WHERE expires < ?1", [now as i64])?;
            tx.execute(
                "INSERT INTO refresh_families (id, user_id, client_id, scopes, secret, expires) VALUES (?1,?2,?3,?4,?5,?6)",
                params![id, grant.user_id, grant.client_id, grant.scopes, secret.as_slice(), grant.expires as i64],
            )?;
            tx.execute(
                "INSERT INTO refresh_tokens (hash, family) VALUES (?1, ?2)",
                params![hash, id],
            )?;
            Ok(())
        })
        .await
    }

    /// Uses a refresh token of this client at `now` (Unix seconds).
    ///
    /// # Errors
    /// The state's own.
    pub async fn rotate_refresh_token(
        &self,
        token: &str,
        client: &str,
        now: u64,
    ) -> Result<Rotation, StateError> {
        let (token, client) = (Zeroizing::new(token.to_owned()), client.to_owned());
        self.transact(move |tx| {
            let Some(known) = find(tx, &token)? else {
                return Ok(Rotation::Unknown);
            };
            if known.revoked || known.grant.expires <= now || known.grant.client_id != client {
                return Ok(Rotation::Unknown);
            }
            let Some(next) = successor(&known.secret, &token) else {
                return Ok(Rotation::Unknown);
            };
            match known.used {
                None => {
                    tx.execute(
                        "UPDATE refresh_tokens SET used = ?2 WHERE hash = ?1",
                        params![hash(&token), now as i64],
                    )?;
                    tx.execute(
                        "INSERT INTO refresh_tokens (hash, family) VALUES (?1, ?2)",
                        params![hash(&next), known.family],
                    )?;
                }
                Some(used) if now.saturating_sub(used) <= GRACE_SECONDS => {}
                Some(_) => {
                    revoke(tx, &known.family)?;
                    return Ok(Rotation::Reused);
                }
            }
            Ok(Rotation::Successor(known.grant, next))
        })
        .await
    }

    /// What is known of a refresh token that counts at `now` (Unix seconds).
    ///
    /// # Errors
    /// The state's own.
    pub async fn refresh_token(
        &self,
        token: &str,
        now: u64,
    ) -> Result<Option<RefreshGrant>, StateError> {
        let token = Zeroizing::new(token.to_owned());
        self.transact(move |tx| {
            let known = find(tx, &token)?;
            Ok(known
                .filter(|known| !known.revoked && known.used.is_none() && known.grant.expires > now)
                .map(|known| known.grant))
        })
        .await
    }

    /// Revokes the family of a refresh token of this client; whether there is one.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_refresh_token(
        &self,
        token: &str,
        client: &str,
    ) -> Result<bool, StateError> {
        let (token, client) = (Zeroizing::new(token.to_owned()), client.to_owned());
        self.transact(move |tx| match find(tx, &token)? {
            Some(known) if known.grant.client_id == client => {
                revoke(tx, &known.family)?;
                Ok(true)
            }
            _ => Ok(false),
        })
        .await
    }
}

fn revoke(tx: &Transaction<'_>, family: &str) -> Result<(), StateError> {
    tx.execute(
        "UPDATE refresh_families SET revoked = 1 WHERE id = ?1",
        [family],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> RefreshGrant {
        RefreshGrant {
            user_id: "u".into(),
            client_id: "c".into(),
            scopes: "images:read".into(),
            expires: 10_000,
        }
    }

    async fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s")).unwrap();
        state
            .add_refresh_token(grant(), "first", 100)
            .await
            .unwrap();
        (folder, state)
    }

    async fn next(state: &State, token: &str, now: u64) -> String {
        match state.rotate_refresh_token(token, "c", now).await.unwrap() {
            Rotation::Successor(found, next) => {
                assert_eq!(found, grant());
                next.to_string()
            }
            Rotation::Unknown => "unknown".into(),
            Rotation::Reused => "reused".into(),
        }
    }

    #[tokio::test]
    async fn a_retry_within_the_grace_gets_the_same_successor() {
        let (_folder, state) = state().await;
        let second = next(&state, "first", 200).await;
        assert!(second.starts_with("rt_"));
        assert_eq!(next(&state, "first", 210).await, second);
        let third = next(&state, &second, 211).await;
        assert_ne!(third, second);
        assert_eq!(next(&state, &third, 300).await.len(), 46);
    }

    #[tokio::test]
    async fn a_token_used_again_later_kills_its_family_and_no_other() {
        let (_folder, state) = state().await;
        state
            .add_refresh_token(grant(), "other", 100)
            .await
            .unwrap();
        let second = next(&state, "first", 200).await;
        assert_eq!(next(&state, "first", 211).await, "reused");
        assert_eq!(next(&state, &second, 212).await, "unknown");
        assert!(next(&state, "other", 212).await.starts_with("rt_"));
    }

    #[tokio::test]
    async fn a_token_is_bound_to_its_client_and_its_time() {
        let (_folder, state) = state().await;
        let foreign = state.rotate_refresh_token("first", "d", 200).await.unwrap();
        assert!(foreign == Rotation::Unknown);
        assert!(!state.revoke_refresh_token("first", "d").await.unwrap());
        assert_eq!(next(&state, "first", 10_000).await, "unknown");
        assert_eq!(next(&state, "guess", 200).await, "unknown");
        assert!(state.refresh_token("first", 200).await.unwrap().is_some());
        assert!(state.revoke_refresh_token("first", "c").await.unwrap());
        assert_eq!(next(&state, "first", 200).await, "unknown");
        assert!(state.refresh_token("first", 200).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn of_many_at_once_all_get_one_successor() {
        let (_folder, state) = state().await;
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let state = state.clone();
                tokio::spawn(async move { next(&state, "first", 200).await })
            })
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for task in tasks {
            seen.insert(task.await.unwrap());
        }
        assert_eq!(seen.len(), 1);
    }
}
