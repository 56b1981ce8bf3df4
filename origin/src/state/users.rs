//! Users: what an operator has decided about them, and how much they store.

use rusqlite::OptionalExtension;

use super::{State, StateError};

/// A user. One who was never written about has the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserRow {
    /// Nothing of theirs opens and nothing is made for them.
    pub suspended: bool,
    /// Links signed with a smaller epoch are refused.
    pub link_epoch: u64,
    /// Bytes stored or reserved.
    pub stored_bytes: u64,
}

impl State {
    /// What is known of a user.
    ///
    /// # Errors
    /// The state's own.
    pub async fn user(&self, id: &str) -> Result<UserRow, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let row = tx
                .query_row(
                    "SELECT suspended, link_epoch, stored_bytes FROM users WHERE id = ?1",
                    [id],
                    |row| {
                        Ok(UserRow {
                            suspended: row.get(0)?,
                            link_epoch: super::images::unsigned(row.get(1)?),
                            stored_bytes: super::images::unsigned(row.get(2)?),
                        })
                    },
                )
                .optional()?;
            Ok(row.unwrap_or_default())
        })
        .await
    }

    /// Suspends a user, or lets them in again.
    ///
    /// # Errors
    /// The state's own.
    pub async fn suspend_user(&self, id: &str, suspended: bool) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO users (id, suspended) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET suspended = ?2",
                rusqlite::params![id, suspended],
            )?;
            Ok(())
        })
        .await
    }

    /// Revokes all links of a user that were signed so far; the new epoch.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_links(&self, id: &str) -> Result<u64, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let epoch: i64 = tx.query_row(
                "INSERT INTO users (id, link_epoch) VALUES (?1, 1)
                 ON CONFLICT (id) DO UPDATE SET link_epoch = link_epoch + 1 RETURNING link_epoch",
                [id],
                |row| row.get(0),
            )?;
            Ok(super::images::unsigned(epoch))
        })
        .await
    }

    /// Bytes stored or reserved by all users together.
    ///
    /// # Errors
    /// The state's own.
    pub async fn stored_bytes(&self) -> Result<u64, StateError> {
        self.transact(|tx| {
            let sum: i64 = tx.query_row(
                "SELECT COALESCE(SUM(stored_bytes), 0) FROM users",
                [],
                |row| row.get(0),
            )?;
            Ok(super::images::unsigned(sum))
        })
        .await
    }

    /// Users who are suspended or whose links were revoked: id, and what was decided.
    ///
    /// # Errors
    /// The state's own.
    pub async fn decided_users(&self) -> Result<Vec<(String, UserRow)>, StateError> {
        self.transact(|tx| {
            let mut statement =
                tx.prepare("SELECT id, suspended, link_epoch, stored_bytes FROM users WHERE suspended OR link_epoch > 0")?;
            let rows = statement
                .query_map([], |row| {
                    let user = UserRow {
                        suspended: row.get(1)?,
                        link_epoch: super::images::unsigned(row.get(2)?),
                        stored_bytes: super::images::unsigned(row.get(3)?),
                    };
                    Ok((row.get(0)?, user))
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}
