//! What a sweep asks of the ledger: rows in the order of their keys, many at a time.

use rusqlite::{Transaction, params};

use super::images::{self, ImageRow, unsigned};
use super::{State, StateError};

/// How far a picture's row has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its object may or may not be there yet.
    Pending,
    /// It is there.
    Stored,
    /// It is going.
    Deleting,
}

/// A row and its stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownImage {
    /// The row.
    pub row: ImageRow,
    /// How far it has come.
    pub stage: Stage,
}

/// One user's usage that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// The user.
    pub user_id: String,
    /// Bytes the ledger showed.
    pub was: u64,
    /// Bytes of their rows.
    pub is: u64,
}

fn known(row: &rusqlite::Row<'_>) -> rusqlite::Result<KnownImage> {
    let stage = match row.get::<_, i64>("stored")? {
        1 => Stage::Stored,
        images::DELETING => Stage::Deleting,
        _ => Stage::Pending,
    };
    let row = images::read(row)?;
    Ok(KnownImage { row, stage })
}

fn for_each(tx: &Transaction<'_>, sql: &str, ids: &[String]) -> Result<(), StateError> {
    let mut statement = tx.prepare_cached(sql)?;
    for id in ids {
        statement.execute([&id])?;
    }
    Ok(())
}

impl State {
    /// Rows whose keys lie after `after`, up to and with `until`, at most `limit`, in byte order.
    ///
    /// # Errors
    /// The state's own.
    pub async fn rows_between(
        &self,
        after: &str,
        until: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KnownImage>, StateError> {
        // No key reaches this: its first byte lies behind all letters.
        let (after, until) = (after.to_owned(), until.unwrap_or("~").to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(&format!(
                "SELECT {}, stored FROM images WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT ?3",
                images::COLUMNS
            ))?;
            let rows = statement
                .query_map(params![after, until, limit], known)?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    /// The rows of these keys, in any order.
    ///
    /// # Errors
    /// The state's own.
    pub async fn rows_of_keys(&self, keys: Vec<String>) -> Result<Vec<KnownImage>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(&format!(
                "SELECT {}, stored FROM images WHERE key = ?1",
                images::COLUMNS
            ))?;
            let mut rows = Vec::new();
            for key in &keys {
                for row in statement.query_map([key], known)? {
                    rows.push(row?);
                }
            }
            Ok(rows)
        })
        .await
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// The state's own.
    pub async fn count_images(&self) -> Result<u64, StateError> {
        self.transact(|tx| {
            let count: i64 = tx.query_row("SELECT COUNT(*) FROM images", [], |row| row.get(0))?;
            Ok(unsigned(count))
        })
        .await
    }

    /// Takes many pictures off the list before their objects go.
    ///
    /// # Errors
    /// The state's own.
    pub async fn unlist_images(&self, ids: Vec<String>) -> Result<(), StateError> {
        self.transact(move |tx| for_each(tx, "UPDATE images SET stored = 2 WHERE id = ?1", &ids))
            .await
    }

    /// Removes many rows and gives their bytes back.
    ///
    /// # Errors
    /// The state's own.
    pub async fn remove_images(&self, rows: Vec<(String, String)>) -> Result<(), StateError> {
        self.transact(move |tx| {
            for (user, id) in &rows {
                images::remove(tx, user, id)?;
            }
            Ok(())
        })
        .await
    }

    /// The object's size is another than the row's: the row follows it. Usage is counted anew by
    /// [`State::correct_usage`].
    ///
    /// # Errors
    /// The state's own.
    pub async fn resize_image(&self, id: &str, bytes: u64) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute(
                "UPDATE images SET bytes = ?2 WHERE id = ?1",
                params![id, i64::try_from(bytes).unwrap_or(i64::MAX)],
            )?;
            Ok(())
        })
        .await
    }

    /// Users whose stored bytes are not the sum of their rows; corrected unless only asked for.
    ///
    /// # Errors
    /// The state's own.
    pub async fn correct_usage(&self, only_ask: bool) -> Result<Vec<Corrected>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare(
                "SELECT id, stored_bytes, is_bytes FROM (
                     SELECT users.id AS id, stored_bytes, COALESCE(SUM(bytes), 0) AS is_bytes
                     FROM users LEFT JOIN images ON images.user_id = users.id GROUP BY users.id
                 ) WHERE stored_bytes <> is_bytes",
            )?;
            let wrong: Vec<Corrected> = statement
                .query_map([], |row| {
                    Ok(Corrected {
                        user_id: row.get(0)?,
                        was: unsigned(row.get(1)?),
                        is: unsigned(row.get(2)?),
                    })
                })?
                .collect::<Result<_, _>>()?;
            if !only_ask {
                let mut correct = tx.prepare("UPDATE users SET stored_bytes = ?2 WHERE id = ?1")?;
                for user in &wrong {
                    correct.execute(params![
                        user.user_id,
                        i64::try_from(user.is).unwrap_or(i64::MAX)
                    ])?;
                }
            }
            Ok(wrong)
        })
        .await
    }
}
