//! Whole copies of the state: made of the file, and put in its place.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use rusqlite::{Connection, OpenFlags, Transaction};

use super::log::{Log, Snapshot};
use super::position::Position;
use crate::state::{StateError, create_private, schema};

const HOUR: Duration = Duration::from_secs(3600);

/// What belongs to one copy alone, or is kept by triggers on it.
const OWN: &str = "'replica', 'outbox', 'revoked_pages'";

/// A file beside the state that is gone when this is dropped. Private, as the state is.
struct Beside(PathBuf);

impl Beside {
    fn new(file: &Path) -> Self {
        let id = super::entry::new_id();
        Self(file.with_extension(format!("snapshot-{id}")))
    }

    fn text(&self) -> Result<&str, StateError> {
        let text = self.0.to_str();
        text.ok_or_else(|| StateError::Io("its path is no UTF-8".into()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(end);
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes what a process that was killed left beside the state an hour ago or earlier.
pub(super) fn tidy(file: &Path) {
    let (Some(folder), Some(stem)) = (file.parent(), file.file_stem().and_then(OsStr::to_str))
    else {
        return;
    };
    let begin = format!("{stem}.snapshot-");
    for found in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = found
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(&begin));
        let changed = found.metadata().and_then(|data| data.modified());
        let age = changed.ok().and_then(|time| time.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > HOUR) {
            let _ = std::fs::remove_file(found.path());
        }
    }
}

fn io(error: &std::io::Error) -> StateError {
    StateError::Io(error.to_string())
}

/// Whether nothing was ever written.
pub(super) fn is_empty(connection: &Connection) -> Result<bool, StateError> {
    for table in tables(connection)? {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM main.\"{table}\")");
        if connection.query_row(&sql, [], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tables that all copies have in common.
pub(super) fn tables(connection: &Connection) -> Result<Vec<String>, StateError> {
    let sql = format!(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT IN ({OWN})"
    );
    let mut statement = connection.prepare(&sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// A copy of all that is committed, compressed; its position, and whether the log has been told all of it.
pub(super) fn make(
    connection: &Connection,
    file: &Path,
) -> Result<(Vec<u8>, Position, bool), StateError> {
    let made = Beside::new(file);
    create_private(&made.0).map_err(|error| io(&error))?;
    connection.execute("VACUUM INTO ?1", [made.text()?])?;
    let opened = Connection::open_with_flags(&made.0, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let at = Position::read(&opened)?.unwrap_or_default();
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM outbox)";
    let is_told: bool = opened.query_row(sql, [], |row| row.get(0))?;
    drop(opened);
    let mut bytes = GzEncoder::new(Vec::new(), Compression::fast());
    File::open(&made.0)
        .and_then(|mut file| std::io::copy(&mut file, &mut bytes))
        .map_err(|error| io(&error))?;
    Ok((bytes.finish().map_err(|error| io(&error))?, at, is_told))
}

/// A snapshot that is attached as `snap`, brought up to date.
pub(super) struct Loaded(Beside);

impl Loaded {
    pub(super) fn attach(
        connection: &Connection,
        file: &Path,
        bytes: &[u8],
    ) -> Result<Self, StateError> {
        let loaded = Self(Beside::new(file));
        create_private(&loaded.0.0).map_err(|error| io(&error))?;
        File::create(&loaded.0.0)
            .and_then(|mut file| std::io::copy(&mut GzDecoder::new(bytes), &mut file))
            .map_err(|error| io(&error))?;
        let mut opened = Connection::open(&loaded.0.0)?;
        schema::prepare(&mut opened)?;
        drop(opened);
        connection.execute("ATTACH ?1 AS snap", [loaded.0.text()?])?;
        Ok(loaded)
    }

    pub(super) fn detach(self, connection: &Connection) -> Result<(), StateError> {
        connection.execute_batch("DETACH snap")?;
        Ok(())
    }
}

/// Ids of the entries that waited for the log when the attached snapshot was made: it holds what they wrote.
pub(super) fn outbox_of_snapshot(tx: &Transaction<'_>) -> Result<HashSet<String>, StateError> {
    let mut statement = tx.prepare("SELECT substr(entry, 1, 32) FROM snap.outbox")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Puts the attached snapshot in place of all that is there.
pub(super) fn replace_all(tx: &Transaction<'_>) -> Result<(), StateError> {
    // Rows come before those they refer to.
    tx.execute_batch("PRAGMA defer_foreign_keys = ON")?;
    let tables = tables(tx)?;
    for table in &tables {
        tx.execute_batch(&format!("DELETE FROM main.\"{table}\""))?;
    }
    for table in &tables {
        tx.execute_batch(&format!(
            "INSERT INTO main.\"{table}\" SELECT * FROM snap.\"{table}\""
        ))?;
    }
    Ok(())
}

/// Folds the log into a snapshot, beside the state's thread.
pub(super) fn compact(mut log: Log, file: PathBuf) {
    let mut fold = move || -> Result<(), StateError> {
        let connection = Connection::open(&file)?;
        let (bytes, at, is_told) = make(&connection, &file)?;
        if is_told {
            log.compact(&Snapshot { at, bytes })?;
        }
        Ok(())
    };
    let begun = std::thread::Builder::new()
        .name("snapshot".into())
        .spawn(move || {
            if let Err(error) = fold() {
                tracing::warn!(%error, "the log of the state could not be folded into a snapshot");
            }
        });
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread for a snapshot of the state");
    }
}
