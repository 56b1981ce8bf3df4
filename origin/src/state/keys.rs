//! Token-signing keys.

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
