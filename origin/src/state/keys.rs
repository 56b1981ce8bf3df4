//! Token-signing keys.

use rusqlite::OptionalExtension;
use zeroize::Zeroizing;

use super::{State, StateError};

/// An Ed25519 key in PKCS#8 DER.
#[derive(Clone)]
pub struct SigningKeyRow {
    /// Its id in tokens.
    pub kid: String,
    /// The private key.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// Unix seconds.
    pub created: u64,
}

impl State {
    /// All keys, newest first.
    ///
    /// # Errors
    /// The state's own.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        self.transact(|tx| {
            let mut statement = tx.prepare(
                "SELECT kid, pkcs8, created FROM signing_keys ORDER BY created DESC, rowid DESC",
            )?;
            let rows = statement
                .query_map([], |row| {
                    Ok(SigningKeyRow {
                        kid: row.get(0)?,
                        pkcs8: Zeroizing::new(row.get(1)?),
                        created: super::images::unsigned(row.get(2)?),
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    /// Since when (Unix seconds) a key of a ring signs: first seen now, or for the first of its ring when it was
    /// `written`.
    ///
    /// # Errors
    /// The state's own.
    pub async fn key_seen(
        &self,
        ring: &'static str,
        kid: &str,
        now: u64,
        written: u64,
    ) -> Result<u64, StateError> {
        let kid = kid.to_owned();
        self.transact(move |tx| {
            let known: Option<i64> = tx
                .prepare_cached("SELECT since FROM keys_seen WHERE ring = ?1 AND kid = ?2")?
                .query_row((ring, &kid), |row| row.get(0))
                .optional()?;
            if let Some(since) = known {
                return Ok(super::images::unsigned(since));
            }
            let first = "SELECT NOT EXISTS (SELECT 1 FROM keys_seen WHERE ring = ?1)";
            let is_first: bool = tx.query_row(first, [ring], |row| row.get(0))?;
            let since = if is_first { written.min(now) } else { now };
            tx.execute(
                "INSERT INTO keys_seen (ring, kid, since) VALUES (?1, ?2, ?3)",
                rusqlite::params![ring, kid, since as i64],
            )?;
            Ok(since)
        })
        .await
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`StateError::Exists`] for a `kid` that is taken.
    pub async fn add_signing_key(&self, key: SigningKeyRow) -> Result<(), StateError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO signing_keys (kid, pkcs8, created) VALUES (?1, ?2, ?3)",
                rusqlite::params![key.kid, key.pkcs8.as_slice(), key.created as i64],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes the keys that were made before `created` (Unix seconds); how many.
    ///
    /// # Errors
    /// The state's own.
    pub async fn remove_signing_keys_before(&self, created: u64) -> Result<usize, StateError> {
        self.transact(move |tx| {
            Ok(tx.execute(
                "DELETE FROM signing_keys WHERE created < ?1",
                [created as i64],
            )?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_as_old_as_its_first_signature_and_the_first_one_as_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        assert_eq!(state.key_seen("link", "k1", 1_000, 400).await.unwrap(), 400);
        assert_eq!(
            state.key_seen("link", "k1", 2_000, 1_900).await.unwrap(),
            400
        );
        assert_eq!(
            state.key_seen("link", "k2", 3_000, 100).await.unwrap(),
            3_000
        );
        assert_eq!(
            state.key_seen("edge", "k2", 5_000, 9_000).await.unwrap(),
            5_000
        );
    }
}
