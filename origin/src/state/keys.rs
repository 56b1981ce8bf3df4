//! Token-signing keys.

use rusqlite::{OptionalExtension, Transaction, params};
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

fn all(tx: &Transaction<'_>) -> Result<Vec<SigningKeyRow>, StateError> {
    let mut statement = tx.prepare_cached(
        "SELECT kid, pkcs8, created FROM signing_keys ORDER BY created DESC, kid",
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
}

/// Adds a key, the newest in any case: which one that is, all origins must agree on.
fn add(tx: &Transaction<'_>, key: &SigningKeyRow) -> Result<(), StateError> {
    tx.execute(
        "INSERT INTO signing_keys (kid, pkcs8, created)
         VALUES (?1, ?2, MAX(?3, (SELECT COALESCE(MAX(created) + 1, 0) FROM signing_keys)))",
        params![key.kid, key.pkcs8.as_slice(), key.created as i64],
    )?;
    Ok(())
}

impl State {
    /// All keys, newest first.
    ///
    /// # Errors
    /// The state's own.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        self.transact(all).await
    }

    /// Adds the first key, where there is none yet; all keys, newest first. Of many origins that start at once one adds
    /// its key, and the others get that.
    ///
    /// # Errors
    /// The state's own.
    pub async fn first_signing_key(
        &self,
        key: SigningKeyRow,
    ) -> Result<Vec<SigningKeyRow>, StateError> {
        self.transact(move |tx| {
            // Asked in the statement too: written while Redis was away, it is replayed where there may be one by then.
            tx.execute(
                "INSERT INTO signing_keys (kid, pkcs8, created)
                 SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM signing_keys)",
                params![key.kid, key.pkcs8.as_slice(), key.created as i64],
            )?;
            all(tx)
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
                params![ring, kid, since as i64],
            )?;
            Ok(since)
        })
        .await
    }

    /// Removes the keys that were made before `created` (Unix seconds) and adds one, in one step: no origin ever finds
    /// none.
    ///
    /// # Errors
    /// [`StateError::Exists`] for a `kid` that is taken.
    pub async fn replace_signing_keys_before(
        &self,
        created: u64,
        key: SigningKeyRow,
    ) -> Result<(), StateError> {
        self.transact(move |tx| {
            let made_before = i64::try_from(created).unwrap_or(i64::MAX);
            tx.execute("DELETE FROM signing_keys WHERE created < ?1", [made_before])?;
            add(tx, &key)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_that_start_at_once_one_makes_the_first_key_and_all_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        let starts = (0..8).map(|n| {
            let state = State::open(&file).unwrap();
            let key = SigningKeyRow {
                kid: format!("k{n}"),
                pkcs8: Zeroizing::new(vec![n]),
                created: 1_000 + u64::from(n),
            };
            async move { state.first_signing_key(key).await.unwrap() }
        });
        let found = futures_util::future::join_all(starts).await;
        for keys in &found {
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].kid, found[0][0].kid);
        }
    }

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
