//! Pictures and the bytes they count.
//!
//! A picture's row is written as pending, and its bytes are charged, before the object; only then the row becomes
//! stored. So a crash leaves at most pending rows, which the next start settles against the store.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use shared::object_key::ObjectKey;

use super::{State, StateError};

/// A picture's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// UUID version 7.
    pub id: String,
    /// Its owner.
    pub user_id: String,
    /// Where the object lies.
    pub key: ObjectKey,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `png`, `webp` or `jpeg`.
    pub format: String,
    /// Size of the object.
    pub bytes: u64,
    /// What it was made from.
    pub seed: u64,
    /// The model's name.
    pub model: String,
    /// Unix seconds.
    pub created: u64,
    /// End of its keeping in Unix seconds; none once the user kept it.
    pub expires: Option<u64>,
    /// The job that made it.
    pub job_id: Option<String>,
}

/// Values of the column `stored`; 1 is listed.
#[cfg(test)]
const PENDING: i64 = 0;
pub(super) const DELETING: i64 = 2;

/// SQLite's integers are signed; ours never are.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) const COLUMNS: &str =
    "id, user_id, key, width, height, format, bytes, seed, model, created, expires, job_id";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    let key: String = row.get(2)?;
    let key = ObjectKey::parse(&key).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(ImageRow {
        id: row.get(0)?,
        user_id: row.get(1)?,
        key,
        width: row.get(3)?,
        height: row.get(4)?,
        format: row.get(5)?,
        bytes: unsigned(row.get(6)?),
        // Seeds use all 64 bits; they are stored as the same bits.
        seed: row.get::<_, i64>(7)? as u64,
        model: row.get(8)?,
        created: unsigned(row.get(9)?),
        expires: row.get::<_, Option<i64>>(10)?.map(unsigned),
        job_id: row.get(11)?,
    })
}

fn charge(tx: &Transaction<'_>, user: &str, bytes: u64, limit: u64) -> Result<(), StateError> {
    let found: Option<(i64, bool)> = tx
        .query_row(
            "SELECT stored_bytes, suspended FROM users WHERE id = ?1",
            [user],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (used, suspended) = found.unwrap_or_default();
    if suspended {
        // Since the request began: what was under way then must not outlive it.
        return Err(StateError::Suspended);
    }
    let used = unsigned(used);
    used.checked_add(bytes)
        .filter(|&total| total <= limit)
        .ok_or(StateError::OverQuota { limit, used })?;
    tx.execute(
        "INSERT INTO users (id, stored_bytes) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET stored_bytes = stored_bytes + ?2",
        params![user, i64::try_from(bytes).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// Removes a row and gives its bytes back; the row, when there was one.
pub(super) fn remove(
    tx: &Transaction<'_>,
    user: &str,
    id: &str,
) -> Result<Option<ImageRow>, StateError> {
    // Before the row goes, and by what it has: replayed where it is gone already, this gives nothing back twice.
    tx.execute(
        "UPDATE users SET stored_bytes = MAX(0, stored_bytes -
             (SELECT bytes FROM images WHERE user_id = ?1 AND id = ?2))
         WHERE id = ?1 AND EXISTS (SELECT 1 FROM images WHERE user_id = ?1 AND id = ?2)",
        [user, id],
    )?;
    let row = tx
        .query_row(
            &format!("DELETE FROM images WHERE user_id = ?1 AND id = ?2 RETURNING {COLUMNS}"),
            [&user, &id],
            read,
        )
        .optional()?;
    Ok(row)
}

impl State {
    /// Writes pending rows and charges their bytes, all or none.
    ///
    /// # Errors
    /// [`StateError::OverQuota`] when the owner would store more than `limit` bytes; [`StateError::Suspended`].
    pub async fn reserve_images(&self, rows: Vec<ImageRow>, limit: u64) -> Result<(), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            for row in &rows {
                charge(tx, &row.user_id, row.bytes, limit)?;
                tx.execute(
                    &format!(
                        "INSERT INTO images ({COLUMNS}, origin) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)"
                    ),
                    params![
                        row.id,
                        row.user_id,
                        row.key.as_str(),
                        row.width,
                        row.height,
                        row.format,
                        row.bytes as i64,
                        row.seed as i64,
                        row.model,
                        row.created as i64,
                        row.expires.map(|at| at as i64),
                        row.job_id,
                        me
                    ],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// The objects are there: the rows are listed from now on.
    ///
    /// # Errors
    /// The state's own.
    pub async fn commit_images(&self, ids: Vec<String>) -> Result<(), StateError> {
        self.transact(move |tx| {
            for id in &ids {
                tx.execute(
                    "UPDATE images SET stored = 1 WHERE id = ?1 AND stored = 0",
                    [id],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Removes rows that are still pending and still this process's, and gives their bytes back; those that were.
    ///
    /// # Errors
    /// The state's own.
    pub async fn take_back(&self, ids: Vec<String>) -> Result<Vec<ImageRow>, StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let mut taken = Vec::new();
            for id in &ids {
                let sql = "SELECT user_id FROM images WHERE id = ?1 AND stored = 0 AND origin = ?2";
                let user: Option<String> = tx
                    .query_row(sql, params![id, me], |row| row.get(0))
                    .optional()?;
                if let Some(user) = user {
                    taken.extend(remove(tx, &user, id)?);
                }
            }
            Ok(taken)
        })
        .await
    }

    /// A page of a user's pictures, newest first, older than `before` (an id), and whether there are more. Uploads are
    /// not listed.
    ///
    /// # Errors
    /// The state's own.
    pub async fn images(
        &self,
        user: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ImageRow>, bool), StateError> {
        let (user, before) = (user.to_owned(), before.unwrap_or("~").to_owned());
        self.transact(move |tx| {
            let mut statement = tx.prepare(&format!(
                "SELECT {COLUMNS} FROM images WHERE user_id = ?1 AND id < ?2 AND stored = 1 AND key NOT LIKE 'uploads/%' ORDER BY id DESC LIMIT ?3"
            ))?;
            let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let mut rows: Vec<ImageRow> =
                statement.query_map(params![user, before, one_more], read)?.collect::<Result<_, _>>()?;
            let more = rows.len() > limit;
            rows.truncate(limit);
            Ok((rows, more))
        })
        .await
    }

    /// One of a user's stored pictures.
    ///
    /// # Errors
    /// The state's own.
    pub async fn image(&self, user: &str, id: &str) -> Result<Option<ImageRow>, StateError> {
        let (user, id) = (user.to_owned(), id.to_owned());
        self.transact(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM images WHERE user_id = ?1 AND id = ?2 AND stored = 1"
            );
            Ok(tx.query_row(&sql, [&user, &id], read).optional()?)
        })
        .await
    }

    /// Removes a picture's row, pending or stored, and gives its bytes back.
    ///
    /// # Errors
    /// The state's own.
    pub async fn remove_image(&self, user: &str, id: &str) -> Result<Option<ImageRow>, StateError> {
        let (user, id) = (user.to_owned(), id.to_owned());
        self.transact(move |tx| remove(tx, &user, &id)).await
    }

    /// Takes a picture off the list before its object goes; a crash in between is finished at the next start.
    ///
    /// # Errors
    /// The state's own.
    pub async fn unlist_image(&self, user: &str, id: &str) -> Result<(), StateError> {
        let (user, id, me) = (user.to_owned(), id.to_owned(), self.me());
        self.transact(move |tx| {
            tx.execute(
                "UPDATE images SET stored = 2, origin = ?3 WHERE user_id = ?1 AND id = ?2",
                params![user, id, me],
            )?;
            Ok(())
        })
        .await
    }

    /// The object moved: its new key, and when it expires from now on. False when the picture was deleted meanwhile.
    ///
    /// # Errors
    /// The state's own.
    pub async fn move_image(
        &self,
        id: &str,
        key: &ObjectKey,
        expires: Option<u64>,
    ) -> Result<bool, StateError> {
        let (id, key) = (id.to_owned(), key.as_str().to_owned());
        self.transact(move |tx| {
            let changed = tx.execute(
                "UPDATE images SET key = ?2, expires = ?3 WHERE id = ?1 AND stored = 1",
                params![id, key, expires.map(|at| at as i64)],
            )?;
            Ok(changed > 0)
        })
        .await
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
