//! After an absence: handing in what was written meanwhile, and making a copy anew.

use rusqlite::Connection;

use super::entry::{self, Entry};
use super::log::{self, LogError, Told};
use super::position::{Position, first_of_outbox, outbox};
use super::{Replica, TRIES, begin, copy, execute};
use crate::state::StateError;

/// Entries that a log may be longer than another copy of it.
const STRETCH: u64 = 1_000_000;

impl Replica {
    /// Tells the log what was written while it was away.
    pub(super) fn hand_in(&mut self, connection: &mut Connection) -> Result<(), StateError> {
        for _ in 0..TRIES {
            let tx = begin(connection)?;
            let Some((n, entry)) = first_of_outbox(&tx)? else {
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
    pub(super) fn begin_anew(&mut self, connection: &mut Connection) -> Result<(), StateError> {
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
        // The snapshot may be this origin's own, of which only the answer was lost: it holds what waited then.
        let held = copy::outbox_of_snapshot(&tx)?;
        waiting.retain(|(_, own)| !held.contains(&own.id));
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

    /// Gives the log this copy, outbox and all; whether it was taken.
    pub(super) fn publish(
        &mut self,
        connection: &mut Connection,
        seen: &Position,
    ) -> Result<bool, StateError> {
        let last: i64 =
            connection.query_row("SELECT COALESCE(MAX(n), 0) FROM outbox", [], |row| {
                row.get(0)
            })?;
        let mut here = Position::read(connection)?.unwrap_or_default();
        if here.lineage.is_empty() {
            here.lineage = entry::new_id();
        }
        // Beyond what any other copy can have seen of the log before: none is ahead of this one.
        here.version += STRETCH;
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
                Ok(true)
            }
            // Somebody else was first, or it went away: the next try finds out.
            Ok(false) | Err(LogError::Away(_)) => Ok(false),
            Err(LogError::Failed(error)) => Err(error),
        }
    }
}
