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
mod position;
mod rejoin;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::capture::Capture;
use self::entry::Entry;
use self::log::{Log, LogError, Told};
use self::position::{Position, TABLES, has_outbox};
pub(super) use self::position::{is_copy, leave};
use super::worker::{self, Work};
use super::{StateError, StateSettings, schema};

/// How often a transaction begins anew before its callers are told that the state is too busy.
const TRIES: usize = 200;

/// Entries that the log tells at once, as `scripts/commit.lua` has it.
const AT_ONCE: usize = 64;

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

/// The shared side of a copy.
pub(super) struct Replica {
    file: PathBuf,
    log: Log,
    capture: Capture,
    is_away: Arc<AtomicBool>,
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
        settings: &StateSettings,
        is_away: &Arc<AtomicBool>,
    ) -> Result<Self, StateError> {
        connection.execute_batch(TABLES)?;
        copy::tidy(&settings.file);
        let mut replica = Self {
            file: settings.file.clone(),
            log: Log::open(settings, schema::known())?,
            capture: Capture::of(connection)?,
            is_away: Arc::clone(is_away),
        };
        if Position::read(connection)?.is_none() {
            replica.first(connection)?;
        }
        Ok(replica)
    }

    /// The first time of this file.
    fn first(&mut self, connection: &mut Connection) -> Result<(), StateError> {
        let foreign = || {
            StateError::Foreign(
                "this file has a state of its own, and so has state.url: move the file away to join what is there"
                    .into(),
            )
        };
        let has_own = !copy::is_empty(connection)?;
        if has_own && !matches!(self.log.commit(&Position::default(), None)?, Told::Empty) {
            return Err(foreign());
        }
        let mut at = Position::default();
        if has_own {
            // Known by it if the answer is lost.
            at.lineage = entry::new_id();
        }
        let tx = begin(connection)?;
        at.write(&tx)?;
        tx.commit()?;
        if has_own && !self.publish(connection, &Position::default())? {
            leave(connection)?;
            return Err(foreign());
        }
        Ok(())
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
        let mut is_fresh = false;
        for _ in 0..TRIES {
            if !self.log.is_resting() {
                self.hand_in(connection)?;
            }
            let tx = begin(connection)?;
            let at = Position::read(&tx)?.unwrap_or_default();
            let entry = self.run(&tx, batch)?;
            if is_fresh && entry.is_none() {
                // All there was when the log was asked a moment ago.
                tx.commit()?;
                return Ok(());
            }
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
                    is_fresh = matches!(&told, Told::Behind(next) if next.len() < AT_ONCE);
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
            let before = tx.total_changes();
            let is_good = worker::run_one(tx, work)?;
            let written = self.capture.take()?;
            // Statements that met no row are nobody's concern.
            if is_good && tx.total_changes() != before {
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
            Told::Empty => self.publish(connection, &Position::default()).map(|_| ()),
            Told::Old => self.publish(connection, &at).map(|_| ()),
            Told::Ahead(seen) => {
                tracing::error!(
                    "Redis has lost what it had confirmed: it is given this origin's copy"
                );
                self.publish(connection, &seen).map(|_| ())
            }
        }
    }

    fn noticed(&mut self, is_away: bool, reason: &str) {
        if self.is_away.swap(is_away, Ordering::SeqCst) != is_away {
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
