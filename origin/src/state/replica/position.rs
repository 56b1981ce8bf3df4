//! A copy's place in the log, and what the log has not been told.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::entry::Entry;
use crate::state::StateError;
use crate::state::images::unsigned;

/// What a copy has beside the state.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS replica (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), version INTEGER NOT NULL, head TEXT NOT NULL,
        lineage TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS outbox (n INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;
";

/// How much of the log was seen: so many entries, the last of this id; and which log that was, so that no other is
/// taken for it. The default has seen none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) version: u64,
    pub(super) head: String,
    /// Random; kept when a log is begun anew from a copy of the last one.
    pub(super) lineage: String,
}

impl Position {
    pub(super) fn read(connection: &Connection) -> Result<Option<Self>, StateError> {
        let found = connection.query_row("SELECT version, head, lineage FROM replica", [], |row| {
            Ok(Self {
                version: unsigned(row.get(0)?),
                head: row.get(1)?,
                lineage: row.get(2)?,
            })
        });
        Ok(found.optional()?)
    }

    pub(super) fn write(&self, tx: &Transaction<'_>) -> Result<(), StateError> {
        tx.execute(
            "REPLACE INTO replica (only_row, version, head, lineage) VALUES (1, ?1, ?2, ?3)",
            params![
                i64::try_from(self.version).unwrap_or(i64::MAX),
                self.head,
                self.lineage
            ],
        )?;
        Ok(())
    }

    pub(super) fn behind(&self, head: &str) -> Self {
        Self {
            version: self.version + 1,
            head: head.into(),
            lineage: self.lineage.clone(),
        }
    }
}

/// Entries that the log has not been told, oldest first.
pub(super) fn outbox(tx: &Transaction<'_>) -> Result<Vec<(i64, Entry)>, StateError> {
    let mut statement = tx.prepare_cached("SELECT n, entry FROM outbox ORDER BY n")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (n, text) = row?;
        Ok((n, Entry::parse(&text)?))
    })
    .collect()
}

/// The first of them.
pub(super) fn first_of_outbox(tx: &Transaction<'_>) -> Result<Option<(i64, Entry)>, StateError> {
    let sql = "SELECT n, entry FROM outbox ORDER BY n LIMIT 1";
    let first = tx
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    first
        .map(|(n, text)| Ok((n, Entry::parse(&text)?)))
        .transpose()
}

pub(super) fn has_outbox(tx: &Transaction<'_>) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox)";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Whether a file is a copy of a shared state.
pub(in crate::state) fn is_copy(connection: &Connection) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'replica')";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Makes a copy a state of its own, which no log knows.
pub(in crate::state) fn leave(connection: &Connection) -> Result<(), StateError> {
    connection.execute_batch("DROP TABLE IF EXISTS replica; DROP TABLE IF EXISTS outbox;")?;
    Ok(())
}
