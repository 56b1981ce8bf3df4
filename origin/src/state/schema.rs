//! The tables, and how a file of an older version comes up to date.

use rusqlite::Connection;

use super::StateError;

/// One entry a version; entries are never changed once released, only added.
const STEPS: [&str; 1] = ["
    CREATE TABLE clients (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, secret_hash TEXT NOT NULL, user_id TEXT NOT NULL, scopes TEXT NOT NULL,
        disabled INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE users (
        id TEXT PRIMARY KEY, suspended INTEGER NOT NULL DEFAULT 0, link_epoch INTEGER NOT NULL DEFAULT 0,
        stored_bytes INTEGER NOT NULL DEFAULT 0 CHECK (stored_bytes >= 0)
    ) STRICT;
    CREATE TABLE signing_keys (kid TEXT PRIMARY KEY, pkcs8 BLOB NOT NULL, created INTEGER NOT NULL) STRICT;
    CREATE TABLE images (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, key TEXT NOT NULL UNIQUE, width INTEGER NOT NULL, height INTEGER NOT NULL,
        format TEXT NOT NULL, bytes INTEGER NOT NULL, seed INTEGER NOT NULL, model TEXT NOT NULL, created INTEGER NOT NULL,
        expires INTEGER, stored INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX images_of_user ON images (user_id, id);
    CREATE INDEX images_unsettled ON images (stored) WHERE stored <> 1;
"];

/// Sets the journal up and runs the steps the file has not seen.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StateError> {
    // FULL: what was answered survives the power going, not only the process.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
    )?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StateError::TooNew { found, known });
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
