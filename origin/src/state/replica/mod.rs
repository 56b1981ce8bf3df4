//! Several origins, one state: each has a copy in SQLite, and all share one log in Redis or Valkey.
//!
//! A transaction runs on the copy; the statements it wrote are appended to the log by compare-and-set, and only then it
//! is committed here. Whoever has not seen the whole log is told what is missing instead, applies that, and runs the
//! transaction again. So every transaction, reading ones too, sees all that was committed anywhere before it began, at
//! one round trip for all that wait at the same moment, and the log decides every race.
//!
//! While the server is away each origin goes on with its own copy and keeps what it writes in `outbox`. When the server
//! is back the copy is made anew from snapshot and log, and the outbox is replayed on it: what no longer holds then (a
//! name taken twice) is dropped with a line in the log. A server that came back empty is given the copy of whoever asks
//! first. What a server forgot that had already confirmed it (asynchronous failover) is lost.

mod capture;
mod copy;
mod entry;
mod log;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use self::capture::Capture;
use self::entry::Entry;
use self::log::{Log, LogError, Told};
use super::worker::{self, Work};
use super::{StateError, StateSettings, schema};

/// How often a transaction begins anew before its callers are told that the state is too busy.
const TRIES: usize = 200;

/// This copy's place in the log, and what the log has not been told.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS replica (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), version INTEGER NOT NULL, head TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS outbox (n INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;
";

/// How much of the log was seen: so many entries, the last of this id. The default has seen nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Position {
    version: u64,
    head: String,
}

impl Position {
    fn read(connection: &Connection) -> Result<Option<Self>, StateError> {
        let found = connection.query_row("SELECT version, head FROM replica", [], |row| {
            Ok(Self {
                version: super::images::unsigned(row.get(0)?),
                head: row.get(1)?,
            })
        });
        Ok(found.optional()?)
    }

    fn write(&self, tx: &Transaction<'_>) -> Result<(), StateError> {
        tx.execute(
            "REPLACE INTO replica (only_row, version, head) VALUES (1, ?1, ?2)",
            params![i64::try_from(self.version).unwrap_or(i64::MAX), self.head],
        )?;
        Ok(())
    }

    fn behind(&self, head: &str) -> Self {
        Self {
            version: self.version + 1,
            head: head.into(),
        }
    }
}

/// Entries that the log has not been told, oldest first.
fn outbox(tx: &Transaction<'_>) -> Result<Vec<(i64, Entry)>, StateError> {
    let mut statement = tx.prepare_cached("SELECT n, entry FROM outbox ORDER BY n")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (n, text) = row?;
        Ok((n, Entry::parse(&text)?))
    })
    .collect()
}

fn has_outbox(tx: &Transaction<'_>) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox)";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Executes the statements of an operation.
fn execute(tx: &Transaction<'_>, group: &[String]) -> Result<(), StateError> {
    for sql in group {
        tx.execute_batch(sql)?;
    }
    Ok(())
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StateError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Whether a file is a copy of a shared state.
pub(super) fn is_copy(connection: &Connection) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'replica')";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Makes a copy a state of its own, which no log knows.
pub(super) fn leave(connection: &Connection) -> Result<(), StateError> {
    connection.execute_batch("DROP TABLE IF EXISTS replica; DROP TABLE IF EXISTS outbox;")?;
    Ok(())
}

/// The shared side of a copy.
pub(super) struct Replica {
    file: PathBuf,
    log: Log,
    capture: Capture,
    is_away: bool,
}

impl Replica {
    /// Joins the log with this copy. An empty copy takes what the log has; a log that has nothing takes what the copy
    /// has.
    ///
    /// # Errors
    /// [`StateError::Foreign`] when both have something and the copy was never part of this log;
    /// [`StateError::Away`] when that cannot be found out.
    pub(super) fn join(
        connection: &mut Connection,
        file: &Path,
        settings: &StateSettings,
    ) -> Result<Self, StateError> {
        let mut log = Log::open(settings, schema::known())?;
        connection.execute_batch(TABLES)?;
        if Position::read(connection)?.is_none() {
            if !copy::is_empty(connection)?
                && !matches!(log.commit(&Position::default(), None)?, Told::Empty)
            {
                return Err(StateError::Foreign(
                    "this file has a state of its own, and so has state.url: move the file away to join what is there"
                        .into(),
                ));
            }
            let tx = begin(connection)?;
            Position::default().write(&tx)?;
            tx.commit()?;
        }
        Ok(Self {
            file: file.into(),
            log,
            capture: Capture::of(connection)?,
            is_away: false,
        })
    }

    /// Runs a batch, as the log orders it, and answers.
    pub(super) fn commit_together(&mut self, connection: &mut Connection, mut batch: Vec<Work>) {
        let done = self.commit(connection, &mut batch);
        self.capture.end();
        if let Err(error) = &done {
            tracing::error!(code = error.code(), %error, "the shared state failed");
        }
        for work in batch {
            work.answer(done.clone());
        }
    }

    fn commit(
        &mut self,
        connection: &mut Connection,
        batch: &mut [Work],
    ) -> Result<(), StateError> {
        for _ in 0..TRIES {
            if !self.log.is_resting() {
                self.hand_in(connection)?;
            }
            let tx = begin(connection)?;
            let at = Position::read(&tx)?.unwrap_or_default();
            let entry = self.run(&tx, batch)?;
            let told = if has_outbox(&tx)? {
                Err(LogError::Away("its return was not noticed yet".into()))
            } else {
                let text = entry.as_ref().map(Entry::to_text);
                self.log.commit(&at, text.as_deref())
            };
            match told {
                Ok(Told::Done { snapshot }) => {
                    if let Some(entry) = entry {
                        at.behind(&entry.id).write(&tx)?;
                    }
                    tx.commit()?;
                    self.noticed(false, "");
                    if snapshot {
                        copy::compact(self.log.again(), self.file.clone());
                    }
                    return Ok(());
                }
                Err(LogError::Away(reason)) => {
                    if let Some(entry) = entry {
                        tx.execute("INSERT INTO outbox (entry) VALUES (?1)", [entry.to_text()])?;
                    }
                    tx.commit()?;
                    self.noticed(true, &reason);
                    return Ok(());
                }
                Ok(told) => {
                    tx.rollback()?;
                    self.catch_up(connection, at, told)?;
                }
                Err(LogError::Failed(error)) => return Err(error),
            }
        }
        Err(StateError::Other(
            "the shared state changes faster than this origin can follow".into(),
        ))
    }

    /// Runs every operation of a batch; what they wrote.
    fn run(&self, tx: &Transaction<'_>, batch: &mut [Work]) -> Result<Option<Entry>, StateError> {
        self.capture.begin();
        let mut groups = Vec::with_capacity(batch.len());
        for work in batch {
            let is_good = worker::run_one(tx, work)?;
            let written = self.capture.take()?;
            if is_good {
                groups.push(written);
            }
        }
        self.capture.end();
        Ok(Entry::of(groups))
    }

    /// Follows what the log told an origin that was at `at`.
    fn catch_up(
        &mut self,
        connection: &mut Connection,
        at: Position,
        told: Told,
    ) -> Result<(), StateError> {
        match told {
            Told::Done { .. } => Ok(()),
            Told::Behind(entries) => {
                let applied = apply(connection, at, &entries);
                if let Err(error) = &applied {
                    tracing::error!(%error, "this copy of the state differs from the others': it is made anew");
                    return self.begin_anew(connection);
                }
                applied
            }
            Told::Far => self.begin_anew(connection),
            Told::Empty => self.publish(connection, &Position::default()),
            Told::Old => self.publish(connection, &at),
        }
    }

    /// Tells the log what was written while it was away.
    fn hand_in(&mut self, connection: &mut Connection) -> Result<(), StateError> {
        for _ in 0..TRIES {
            let tx = begin(connection)?;
            let Some((n, entry)) = outbox(&tx)?.into_iter().next() else {
                return Ok(());
            };
            let at = Position::read(&tx)?.unwrap_or_default();
            match self.log.commit(&at, Some(&entry.to_text())) {
                Ok(Told::Done { .. }) => {
                    at.behind(&entry.id).write(&tx)?;
                    tx.execute("DELETE FROM outbox WHERE n = ?1", [n])?;
                    tx.commit()?;
                }
                // It had arrived; only the answer was lost.
                Ok(Told::Behind(next)) if next.first().is_some_and(|next| next.id == entry.id) => {
                    at.behind(&entry.id).write(&tx)?;
                    tx.execute("DELETE FROM outbox WHERE n = ?1", [n])?;
                    tx.commit()?;
                }
                Ok(Told::Behind(_) | Told::Far) => {
                    drop(tx);
                    self.begin_anew(connection)?;
                }
                Ok(told) => {
                    drop(tx);
                    self.catch_up(connection, at, told)?;
                }
                Err(LogError::Away(_)) => return Ok(()),
                Err(LogError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the copy anew from snapshot and log, and replays on it what the log has not been told. All of it, or
    /// nothing.
    fn begin_anew(&mut self, connection: &mut Connection) -> Result<(), StateError> {
        let snapshot = match self.log.snapshot() {
            Ok(snapshot) => snapshot,
            Err(LogError::Away(_)) => return Ok(()),
            Err(LogError::Failed(error)) => return Err(error),
        };
        let loaded = copy::Loaded::attach(connection, &self.file, &snapshot.bytes)?;
        let done = self.replay(connection, snapshot.at);
        loaded.detach(connection)?;
        done
    }

    /// With the snapshot attached.
    fn replay(&mut self, connection: &mut Connection, mut at: Position) -> Result<(), StateError> {
        let tx = begin(connection)?;
        copy::replace_all(&tx)?;
        let mut waiting = outbox(&tx)?;
        loop {
            match self.log.commit(&at, None) {
                Ok(Told::Done { .. }) => break,
                Ok(Told::Behind(entries)) => {
                    for entry in entries {
                        entry
                            .groups
                            .iter()
                            .try_for_each(|group| execute(&tx, group))?;
                        waiting.retain(|(_, own)| own.id != entry.id);
                        at = at.behind(&entry.id);
                    }
                }
                // It changed again, or went away again: the copy stays as it was until the next try.
                Ok(_) | Err(LogError::Away(_)) => return Ok(()),
                Err(LogError::Failed(error)) => return Err(error),
            }
        }
        let mut groups = Vec::new();
        for group in waiting.into_iter().flat_map(|(_, entry)| entry.groups) {
            tx.execute_batch("SAVEPOINT one")?;
            let done = execute(&tx, &group);
            tx.execute_batch(if done.is_ok() {
                "RELEASE one"
            } else {
                "ROLLBACK TO one; RELEASE one"
            })?;
            match done {
                Ok(()) => groups.push(group),
                Err(error) => tracing::error!(
                    %error,
                    "what was written while Redis was away no longer holds, and is dropped"
                ),
            }
        }
        tx.execute("DELETE FROM outbox", [])?;
        if let Some(entry) = Entry::of(groups) {
            // Told from here on like any other: if the answer is lost, it is found again by its id.
            tx.execute("INSERT INTO outbox (entry) VALUES (?1)", [entry.to_text()])?;
        }
        at.write(&tx)?;
        tx.commit()?;
        Ok(())
    }

    /// Gives the log this copy, outbox and all.
    fn publish(&mut self, connection: &mut Connection, seen: &Position) -> Result<(), StateError> {
        let last: i64 =
            connection.query_row("SELECT COALESCE(MAX(n), 0) FROM outbox", [], |row| {
                row.get(0)
            })?;
        let here = Position::read(connection)?.unwrap_or_default();
        let snapshot = log::Snapshot {
            at: here.behind(&entry::new_id()),
            bytes: copy::make(connection, &self.file)?.0,
        };
        match self.log.publish(seen, &snapshot) {
            Ok(true) => {
                tracing::info!("the shared state was given this origin's");
                let tx = begin(connection)?;
                snapshot.at.write(&tx)?;
                tx.execute("DELETE FROM outbox WHERE n <= ?1", [last])?;
                tx.commit()?;
                Ok(())
            }
            // Somebody else was first, or it went away: the next try finds out.
            Ok(false) | Err(LogError::Away(_)) => Ok(()),
            Err(LogError::Failed(error)) => Err(error),
        }
    }

    fn noticed(&mut self, is_away: bool, reason: &str) {
        if is_away != self.is_away {
            self.is_away = is_away;
            if is_away {
                tracing::warn!(
                    reason,
                    "Redis is away: the state is kept by this origin alone"
                );
            } else {
                tracing::info!("Redis is back: the state is shared again");
            }
        }
    }
}

/// Applies what others wrote, unless another process on the same file did so meanwhile.
fn apply(
    connection: &mut Connection,
    mut at: Position,
    entries: &[Entry],
) -> Result<(), StateError> {
    let tx = begin(connection)?;
    if Position::read(&tx)?.unwrap_or_default() != at {
        return Ok(());
    }
    for entry in entries {
        entry
            .groups
            .iter()
            .try_for_each(|group| execute(&tx, group))?;
        at = at.behind(&entry.id);
    }
    at.write(&tx)?;
    tx.commit()?;
    Ok(())
}
