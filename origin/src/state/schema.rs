//! The tables, and how a file of an older version comes up to date.

use rusqlite::Connection;

use super::StateError;

/// One entry a version; entries are never changed once released, only added.
const STEPS: &[&str] = &["
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
", "
    ALTER TABLE images ADD COLUMN job_id TEXT;
    CREATE INDEX images_of_job ON images (job_id) WHERE job_id IS NOT NULL;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, status TEXT NOT NULL, created INTEGER NOT NULL, ended INTEGER,
        request TEXT, handed_over INTEGER NOT NULL, starts INTEGER NOT NULL DEFAULT 1, key TEXT, body_mac TEXT, code TEXT,
        milliunits INTEGER NOT NULL, queue_ms INTEGER NOT NULL DEFAULT 0, run_ms INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX jobs_by_key ON jobs (user_id, key) WHERE key IS NOT NULL;
    CREATE INDEX jobs_open ON jobs (status) WHERE status = 'open';
    CREATE INDEX jobs_by_age ON jobs (created);
", "
    ALTER TABLE users ADD COLUMN plan TEXT;
    ALTER TABLE users ADD COLUMN overrides TEXT NOT NULL DEFAULT '';
    CREATE TABLE spends (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, at INTEGER NOT NULL, milliunits INTEGER NOT NULL CHECK (milliunits >= 0),
        settled INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spends_at ON spends (at);
    CREATE TABLE subjects (
        issuer TEXT NOT NULL, subject TEXT NOT NULL, user_id TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
        PRIMARY KEY (issuer, subject)
    ) STRICT;
    CREATE TABLE refresh_families (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, client_id TEXT NOT NULL, scopes TEXT NOT NULL, secret BLOB NOT NULL,
        expires INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE refresh_tokens (
        hash BLOB PRIMARY KEY, family TEXT NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE, used INTEGER
    ) STRICT;
    CREATE INDEX refresh_tokens_of_family ON refresh_tokens (family);
    CREATE TABLE revoked_tokens (jti TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT;
", "
    CREATE TABLE revoked_links (print BLOB PRIMARY KEY, exp INTEGER NOT NULL) STRICT;
", "
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, address TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, request_id TEXT NOT NULL
    ) STRICT;
    CREATE TABLE keys_seen (
        ring TEXT NOT NULL, kid TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (ring, kid)
    ) STRICT, WITHOUT ROWID;
", "
    CREATE TABLE provider_spends (day INTEGER PRIMARY KEY, micros INTEGER NOT NULL CHECK (micros >= 0)) STRICT;
", "
    CREATE TABLE sessions (
        hash BLOB PRIMARY KEY, kind TEXT NOT NULL, user_id TEXT NOT NULL, client_id TEXT NOT NULL, ends INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_of_user ON sessions (user_id, client_id, kind, ends);
    CREATE INDEX sessions_by_end ON sessions (ends);
    CREATE TABLE sign_ins (hash BLOB PRIMARY KEY, ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX sign_ins_by_end ON sign_ins (ends);
", "
    CREATE TABLE origins (id TEXT PRIMARY KEY, beat INTEGER NOT NULL) STRICT;
    ALTER TABLE jobs ADD COLUMN origin TEXT;
    ALTER TABLE jobs ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN origin TEXT;
", REVOKED, CHARGES, TRUNCATED];

/// What is revoked: rows, and the digests of the pages that they lie on, which the triggers keep.
const REVOKED: &str = "
    CREATE TABLE revoked (
        kind TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, ends INTEGER NOT NULL, page INTEGER NOT NULL,
        digest INTEGER NOT NULL, PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revoked_by_page ON revoked (page, kind, name);
    CREATE INDEX revoked_by_end ON revoked (kind, ends);
    CREATE TABLE revoked_pages (page INTEGER PRIMARY KEY, entries INTEGER NOT NULL, digest INTEGER NOT NULL) STRICT;
    CREATE TRIGGER revoked_in AFTER INSERT ON revoked BEGIN
        INSERT INTO revoked_pages (page, entries, digest) VALUES (NEW.page, 0, 0) ON CONFLICT (page) DO NOTHING;
        UPDATE revoked_pages SET entries = entries + 1, digest = (digest | NEW.digest) - (digest & NEW.digest)
            WHERE page = NEW.page;
    END;
    CREATE TRIGGER revoked_out AFTER DELETE ON revoked BEGIN
        UPDATE revoked_pages SET entries = entries - 1, digest = (digest | OLD.digest) - (digest & OLD.digest)
            WHERE page = OLD.page;
    END;
    CREATE TRIGGER revoked_anew AFTER UPDATE ON revoked BEGIN
        UPDATE revoked_pages SET digest = (digest | OLD.digest) - (digest & OLD.digest) WHERE page = OLD.page;
        UPDATE revoked_pages SET digest = (digest | NEW.digest) - (digest & NEW.digest) WHERE page = NEW.page;
    END;
    CREATE INDEX users_decided ON users (suspended DESC, id) WHERE suspended OR link_epoch > 0;
";

/// What a job was admitted at and what it has used of it ([`super::charges`]).
const CHARGES: &str = "
    ALTER TABLE jobs ADD COLUMN admitted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE jobs ADD COLUMN ran INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN spend TEXT;
    ALTER TABLE jobs ADD COLUMN admission TEXT;
";

/// What of a job's prompts the model did not read ([`super::truncations`]).
const TRUNCATED: &str = "
    ALTER TABLE jobs ADD COLUMN truncated TEXT;
";

/// The version that this program knows.
pub(super) fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Sets the journal up and runs the steps the file has not seen.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StateError> {
    // FULL: what was answered survives the power going, not only the process. Secure delete: an ended job's prompt is
    // overwritten in the file.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA secure_delete = ON;",
    )?;
    let known = known();
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StateError::TooNew { found, known });
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
        if *step == REVOKED {
            super::revocations::carry_over(&transaction)?;
        }
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// A file as it was before [`REVOKED`], for a test.
#[cfg(test)]
pub(super) fn prepare_before_revoked(connection: &mut Connection) {
    let before = STEPS.iter().take_while(|step| **step != REVOKED);
    let before: Vec<_> = before.collect();
    for step in &before {
        connection.execute_batch(step).unwrap();
    }
    let version = i64::try_from(before.len()).unwrap();
    connection
        .pragma_update(None, "user_version", version)
        .unwrap();
}
