//! Who people are at their providers, and access tokens that were revoked before their time.

use rusqlite::{OptionalExtension, params};

use shared::revocation::Kind;

use super::revocations::bar;
use super::{State, StateError};

impl State {
    /// The user of a subject at an issuer; made at the first sight of it.
    ///
    /// # Errors
    /// The state's own.
    pub async fn user_of_subject(
        &self,
        issuer: &str,
        subject: &str,
        now: u64,
    ) -> Result<String, StateError> {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        let fresh = format!("usr_{:032x}", rand::random::<u128>());
        self.transact(move |tx| {
            let known: Option<String> = tx
                .query_row(
                    "SELECT user_id FROM subjects WHERE issuer = ?1 AND subject = ?2",
                    [&issuer, &subject],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(known) = known {
                return Ok(known);
            }
            tx.execute(
                "INSERT INTO subjects (issuer, subject, user_id, created) VALUES (?1, ?2, ?3, ?4)",
                params![issuer, subject, fresh, now as i64],
            )?;
            Ok(fresh.clone())
        })
        .await
    }

    /// Writes down that an access token counts no more; it is forgotten once it has expired by itself.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_token(&self, jti: &str, expires: u64) -> Result<(), StateError> {
        let jti = jti.to_owned();
        self.transact(move |tx| bar(tx, Kind::Token, &jti, 0, expires))
            .await
    }

    /// Access tokens that were revoked and have not expired: id and expiry.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_tokens(&self, now: u64) -> Result<Vec<(String, u64)>, StateError> {
        let entries = self.revoked_of(Kind::Token, now, u32::MAX).await?;
        let tokens = entries.into_iter();
        Ok(tokens.map(|entry| (entry.name, entry.ends)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::clients::is_user_id;

    #[tokio::test]
    async fn a_subject_at_an_issuer_is_one_user_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s")).unwrap();
        let of = async |issuer: &str, subject: &str| {
            state.user_of_subject(issuer, subject, 1).await.unwrap()
        };
        let one = of("https://a", "x").await;
        assert!(is_user_id(&one));
        assert_eq!(of("https://a", "x").await, one);
        assert_ne!(of("https://b", "x").await, one);
        assert_ne!(of("https://a", "X").await, one);
        assert_ne!(of("https://a", "x/../../etc").await, one);
    }
}
