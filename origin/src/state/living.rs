//! Which processes share this state and live, and what the dead left behind.
//!
//! A process says that it lives by counting up; whoever sees a count stand still for long by its own clock takes the
//! process off the list, since the clocks of machines differ. What belongs to none on the list is anybody's, and one
//! transaction makes it somebody's. A process alone on its file is not on the list, and all that others left is its own.

use rusqlite::{Transaction, params};

use super::images::{self, ImageRow, unsigned};
use super::jobs::{self, JobRow};
use super::{State, StateError};

/// Belongs to no living process, this one apart: `?1` is its id.
const LEFT: &str = "(origin IS NULL OR (origin <> ?1 AND origin NOT IN (SELECT id FROM origins)))";

/// An open job that was left, and is now ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftJob {
    /// The job.
    pub row: JobRow,
    /// Its caller wants it cancelled.
    pub cancelling: bool,
}

impl State {
    /// This process has its place among those that share the state; the counts of all.
    ///
    /// # Errors
    /// The state's own.
    pub async fn beat(&self) -> Result<Vec<(String, u64)>, StateError> {
        let me = self.me();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO origins (id, beat) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET beat = beat + 1",
                [&me],
            )?;
            let mut statement = tx.prepare_cached("SELECT id, beat FROM origins")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Takes processes off the list: this one, which stops, or others that stand still.
    ///
    /// # Errors
    /// The state's own.
    pub async fn take_off(&self, origins: Vec<String>) -> Result<(), StateError> {
        self.transact(move |tx| {
            for id in &origins {
                tx.execute("DELETE FROM origins WHERE id = ?1", [id])?;
            }
            Ok(())
        })
        .await
    }

    /// Empties the list: a process that is alone on its file shares with nobody.
    ///
    /// # Errors
    /// The state's own.
    pub async fn live_alone(&self) -> Result<(), StateError> {
        self.transact(|tx| {
            tx.execute("DELETE FROM origins", [])?;
            Ok(())
        })
        .await
    }

    /// Makes every open job that was left this process's own, with its pending pictures.
    ///
    /// # Errors
    /// The state's own.
    pub async fn adopt_jobs(&self) -> Result<Vec<LeftJob>, StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let left = left_jobs(tx, &me)?;
            for job in &left {
                let ours = params![job.row.id, me];
                tx.execute(
                    "UPDATE jobs SET origin = ?2, running = 0 WHERE id = ?1",
                    ours,
                )?;
                let sql = "UPDATE images SET origin = ?2 WHERE job_id = ?1 AND stored = 0";
                tx.execute(sql, params![job.row.id, me])?;
            }
            Ok(left)
        })
        .await
    }

    /// Makes every picture that was left between two steps this process's own: those pending, and those being deleted.
    ///
    /// # Errors
    /// The state's own.
    pub async fn adopt_images(&self) -> Result<(Vec<ImageRow>, Vec<ImageRow>), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let left = |stored: i64| -> Result<Vec<ImageRow>, StateError> {
                let sql = format!(
                    "SELECT {} FROM images WHERE stored = {stored} AND {LEFT}",
                    images::COLUMNS
                );
                let mut statement = tx.prepare(&sql)?;
                let rows = statement.query_map([&me], images::read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            };
            let (pending, deleting) = (left(images::PENDING)?, left(images::DELETING)?);
            for row in pending.iter().chain(&deleting) {
                let ours = params![row.id, me];
                tx.execute("UPDATE images SET origin = ?2 WHERE id = ?1", ours)?;
            }
            Ok((pending, deleting))
        })
        .await
    }
}

fn left_jobs(tx: &Transaction<'_>, me: &str) -> Result<Vec<LeftJob>, StateError> {
    let sql = format!(
        "SELECT {}, cancelling FROM jobs WHERE status = 'open' AND {LEFT} ORDER BY id",
        jobs::COLUMNS
    );
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map([me], |row| {
        Ok(LeftJob {
            row: jobs::read(row)?,
            cancelling: row.get("cancelling")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
