//! Users: what an operator has decided about them, and how much they store.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use shared::revocation::{Kind, NEVER};

use super::revocations::{bar, free};
use super::{State, StateError};

/// A user. One who was never written about has the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRow {
    /// Nothing of theirs opens and nothing is made for them.
    pub suspended: bool,
    /// Links signed with a smaller epoch are refused.
    pub link_epoch: u64,
    /// Bytes stored or reserved.
    pub stored_bytes: u64,
    /// The plan; without one the default's.
    pub plan: Option<String>,
    /// Limits of this user alone, as [`crate::quota::PlanSettings::parse`] reads them.
    pub overrides: String,
}

const COLUMNS: &str = "suspended, link_epoch, stored_bytes, plan, overrides";

fn read(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        suspended: row.get(0)?,
        link_epoch: super::images::unsigned(row.get(1)?),
        stored_bytes: super::images::unsigned(row.get(2)?),
        plan: row.get(3)?,
        overrides: row.get(4)?,
    })
}

/// Suspends until `ends` (Unix seconds), or lets in again without.
pub(super) fn suspend(tx: &Transaction<'_>, id: &str, ends: Option<u64>) -> Result<(), StateError> {
    tx.execute(
        "INSERT INTO users (id, suspended) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET suspended = ?2",
        params![id, ends.is_some()],
    )?;
    match ends {
        Some(ends) => bar(tx, Kind::Suspended, id, 0, ends),
        None => free(tx, Kind::Suspended, id).map(|_| ()),
    }
}

/// The new epoch.
pub(super) fn revoke_links(tx: &Transaction<'_>, id: &str) -> Result<u64, StateError> {
    let epoch: i64 = tx.query_row(
        "INSERT INTO users (id, link_epoch) VALUES (?1, 1)
         ON CONFLICT (id) DO UPDATE SET link_epoch = link_epoch + 1 RETURNING link_epoch",
        [&id],
        |row| row.get(0),
    )?;
    let epoch = super::images::unsigned(epoch);
    // Its end is set when it is told: once no older link can live.
    bar(tx, Kind::Epoch, id, epoch, NEVER)?;
    Ok(epoch)
}

/// Whether anything at all is known of a user: a row of theirs, a client, a sign-in, a picture.
pub(super) fn exists(tx: &Transaction<'_>, id: &str) -> Result<bool, StateError> {
    let known = |sql: &str| tx.query_row(sql, [id], |row| row.get::<_, bool>(0));
    if known("SELECT EXISTS (SELECT 1 FROM users WHERE id = ?1)")? {
        return Ok(true);
    }
    for table in super::erasing::tables_of_users(tx)? {
        if known(&format!(
            "SELECT EXISTS (SELECT 1 FROM \"{table}\" WHERE user_id = ?1)"
        ))? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl State {
    /// Whether there is such a user.
    ///
    /// # Errors
    /// The state's own.
    pub async fn user_exists(&self, id: &str) -> Result<bool, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| exists(tx, &id)).await
    }

    /// Writes a user down of whom nothing need be known.
    ///
    /// # Errors
    /// The state's own.
    pub async fn know_user(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO users (id) VALUES (?1) ON CONFLICT (id) DO NOTHING",
                [&id],
            )?;
            Ok(())
        })
        .await
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// The state's own.
    pub async fn user(&self, id: &str) -> Result<UserRow, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let row = tx
                .prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE id = ?1"))?
                .query_row([&id], read)
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
        let ends = suspended.then_some(NEVER);
        self.transact(move |tx| suspend(tx, &id, ends)).await
    }

    /// Suspends a user until `ends` (Unix seconds).
    ///
    /// # Errors
    /// The state's own.
    pub async fn suspend_until(&self, id: &str, ends: u64) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| suspend(tx, &id, Some(ends))).await
    }

    /// Revokes all links of a user that were signed so far; the new epoch.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_links(&self, id: &str) -> Result<u64, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| revoke_links(tx, &id)).await
    }

    /// Puts a user on a plan; none: the default's.
    ///
    /// # Errors
    /// The state's own.
    pub async fn set_plan(&self, id: &str, plan: Option<&str>) -> Result<(), StateError> {
        let (id, plan) = (id.to_owned(), plan.map(str::to_owned));
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO users (id, plan) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET plan = ?2",
                params![id, plan],
            )?;
            Ok(())
        })
        .await
    }

    /// Sets the limits of a user alone, in place of those set before.
    ///
    /// # Errors
    /// The state's own.
    pub async fn set_overrides(&self, id: &str, overrides: &str) -> Result<(), StateError> {
        let (id, overrides) = (id.to_owned(), overrides.to_owned());
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO users (id, overrides) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET overrides = ?2",
                params![id, overrides],
            )?;
            Ok(())
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

    /// Up to `most` users who are suspended or whose links were revoked, the suspended ones first: id, and what was
    /// decided.
    ///
    /// # Errors
    /// The state's own.
    pub async fn decided_users(&self, most: u32) -> Result<Vec<(String, UserRow)>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare(&format!(
                "SELECT {COLUMNS}, id FROM users WHERE suspended OR link_epoch > 0 ORDER BY suspended DESC, id LIMIT ?1"
            ))?;
            let rows = statement
                .query_map([most], |row| Ok((row.get(5)?, read(row)?)))?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}
