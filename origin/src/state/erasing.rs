//! Erasing a user.

use rusqlite::{Transaction, params};

use shared::revocation::{Kind, NEVER};

use super::revocations::{bar, free};
use super::{State, StateError};

impl State {
    /// Refuses everything to a user from now on: suspended, all links revoked, their clients disabled.
    ///
    /// # Errors
    /// The state's own.
    pub async fn close_user(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO users (id, suspended, link_epoch) VALUES (?1, 1, 1)
                 ON CONFLICT (id) DO UPDATE SET suspended = 1, link_epoch = link_epoch + 1",
                [&id],
            )?;
            tx.execute("UPDATE clients SET disabled = 1 WHERE user_id = ?1", [&id])?;
            // Suspended for as long as the row is there, which says more than an epoch.
            bar(tx, Kind::Suspended, &id, 0, NEVER)
        })
        .await
    }

    /// Removes every row that names the user, in whatever table: its name and how many, for those that had any. The
    /// user's own row stays, suspended and without bytes, until [`State::forget_user`].
    ///
    /// # Errors
    /// The state's own.
    pub async fn erase_user(&self, id: &str) -> Result<Vec<(String, u64)>, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let mut removed = Vec::new();
            for table in tables_of_users(tx)? {
                let sql = format!("DELETE FROM \"{table}\" WHERE user_id = ?1");
                let rows = tx.execute(&sql, [&id])?;
                if rows > 0 {
                    removed.push((table, rows as u64));
                }
            }
            tx.execute("UPDATE users SET stored_bytes = 0 WHERE id = ?1", [&id])?;
            Ok(removed)
        })
        .await
    }

    /// Removes the user's own row, the last that names them.
    ///
    /// # Errors
    /// The state's own.
    pub async fn forget_user(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute("DELETE FROM users WHERE id = ?1", params![id])?;
            for kind in [Kind::Suspended, Kind::Epoch] {
                free(tx, kind, &id)?;
            }
            Ok(())
        })
        .await
    }
}

/// Asked of the file and not written down here, so that no table that is added later is forgotten.
pub(super) fn tables_of_users(tx: &Transaction<'_>) -> Result<Vec<String>, StateError> {
    let mut statement = tx.prepare(
        "SELECT tables.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND columns.name = 'user_id' ORDER BY tables.name",
    )?;
    let names = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(names)
}
