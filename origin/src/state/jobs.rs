//! Jobs: written down before they start, so that a crash loses none and does none twice.
//!
//! A job is `open` until its end is known. Its request, prompt and all, is erased in the transaction that ends it; that
//! same transaction lists its pictures.

use rusqlite::{OptionalExtension, Row, params};

use super::charges::{self, JobCharge};
use super::images::{self, ImageRow, unsigned};
use super::{State, StateError};

/// A job as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// UUID version 7.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// Unix seconds.
    pub created: u64,
    /// What was asked, as long as the job is open.
    pub request: Option<String>,
    /// Whether somebody may still ask for it: then a new process carries it out.
    pub handed_over: bool,
    /// How often a process began with it.
    pub starts: u32,
    /// The idempotency key under which it can be asked for again.
    pub key: Option<RequestKey>,
    /// Its cost in thousandths of a unit: what is reserved while it is open, what was charged once it ended.
    pub milliunits: u64,
    /// What it was admitted at.
    pub charge: JobCharge,
    /// Whether its first step was taken, where several origins share the state.
    pub running: bool,
    /// How it ended; none while it is open.
    pub end: Option<JobEnd>,
}

/// A client's name for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The route and the `Idempotency-Key`.
    pub name: String,
    /// MAC of the body, so that another body under the same key is noticed and none can be read.
    pub body_mac: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Its pictures are listed.
    Done {
        /// Milliseconds in the queue.
        queue_ms: u64,
        /// Milliseconds at work.
        run_ms: u64,
    },
    /// It failed.
    Failed {
        /// The stable code of the failure.
        code: String,
        /// Whether a retry under the same key is a new job: so it is when the failure was ours.
        retry: bool,
    },
    /// Its caller cancelled it.
    Cancelled,
}

pub(super) const COLUMNS: &str = "id, user_id, created, request, handed_over, starts, key, body_mac, milliunits, status, queue_ms, run_ms, code, running, admitted, weight, ran, spend, admission";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let key: Option<String> = row.get(6)?;
    let body_mac: Option<String> = row.get(7)?;
    let status: String = row.get(9)?;
    let end = match status.as_str() {
        "open" => None,
        "done" => Some(JobEnd::Done {
            queue_ms: unsigned(row.get(10)?),
            run_ms: unsigned(row.get(11)?),
        }),
        "cancelled" => Some(JobEnd::Cancelled),
        _ => Some(JobEnd::Failed {
            code: row.get::<_, Option<String>>(12)?.unwrap_or_default(),
            retry: key.is_none(),
        }),
    };
    Ok(JobRow {
        id: row.get(0)?,
        user_id: row.get(1)?,
        created: unsigned(row.get(2)?),
        request: row.get(3)?,
        handed_over: row.get(4)?,
        starts: row.get(5)?,
        key: key
            .zip(body_mac)
            .map(|(name, body_mac)| RequestKey { name, body_mac }),
        milliunits: unsigned(row.get(8)?),
        charge: charges::read(row, 14)?,
        running: row.get(13)?,
        end,
    })
}

impl State {
    /// Writes an open job of this process down.
    ///
    /// # Errors
    /// [`StateError::Exists`] when the user has another job under its key.
    pub async fn open_job(&self, job: JobRow) -> Result<(), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let (name, mac) = job.key.as_ref().map(|key| (&key.name, &key.body_mac)).unzip();
            tx.execute(
                "INSERT INTO jobs (id, user_id, status, created, request, handed_over, starts, key, body_mac, milliunits, origin,
                 admitted, weight, ran, spend, admission)
                 VALUES (?1, ?2, 'open', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                params![
                    job.id,
                    job.user_id,
                    job.created as i64,
                    job.request,
                    job.handed_over,
                    job.starts,
                    name,
                    mac,
                    charges::signed(job.milliunits),
                    me,
                    charges::signed(job.charge.admitted),
                    job.charge.weight,
                    charges::signed(job.charge.ran),
                    job.charge.spend,
                    job.charge.admission,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a job that was not admitted after all, and what it was charged.
    ///
    /// # Errors
    /// The state's own.
    pub async fn forget_job(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            charges::settle(tx, &id, None)?;
            tx.execute("DELETE FROM jobs WHERE id = ?1", [&id])?;
            Ok(())
        })
        .await
    }

    /// The caller was given the job's address: a new process must carry it out too.
    ///
    /// # Errors
    /// The state's own.
    pub async fn hand_job_over(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            tx.execute("UPDATE jobs SET handed_over = 1 WHERE id = ?1", [&id])?;
            Ok(())
        })
        .await
    }

    /// This process begins with an open job once more: whether somebody wants it cancelled; none when the job is not
    /// open, or not this process's any more.
    ///
    /// # Errors
    /// The state's own.
    pub async fn restart_job(&self, id: &str) -> Result<Option<bool>, StateError> {
        let (id, me) = (id.to_owned(), self.me());
        self.transact(move |tx| {
            let begun = tx.query_row(
                "UPDATE jobs SET starts = starts + 1 WHERE id = ?1 AND status = 'open' AND origin = ?2
                 RETURNING cancelling",
                [&*id, &*me],
                |row| row.get(0),
            );
            Ok(begun.optional()?)
        })
        .await
    }

    /// Ends an open job at `now` (Unix seconds): its request is erased, its pictures are listed and its charge is settled,
    /// at once. `kept` thousandths of a unit stay charged; none: nothing ran, and all is given back. False when it is
    /// not open, or not this process's any more: then it stays as it is.
    ///
    /// # Errors
    /// The state's own.
    pub async fn end_job(
        &self,
        id: &str,
        end: JobEnd,
        kept: Option<u64>,
        now: u64,
    ) -> Result<bool, StateError> {
        let (id, me) = (id.to_owned(), self.me());
        self.transact(move |tx| {
            let (status, code, retry) = match &end {
                JobEnd::Done { .. } => ("done", None, false),
                JobEnd::Failed { code, retry } => ("failed", Some(code.as_str()), *retry),
                JobEnd::Cancelled => ("cancelled", None, false),
            };
            let (queue_ms, run_ms) = match end {
                JobEnd::Done { queue_ms, run_ms } => (queue_ms, run_ms),
                _ => (0, 0),
            };
            let ended = tx.execute(
                "UPDATE jobs SET status = ?2, code = ?3, ended = ?4, queue_ms = ?5, run_ms = ?6, request = NULL,
                 admission = NULL, key = IIF(?7, NULL, key), milliunits = ?9 WHERE id = ?1 AND status = 'open' AND origin = ?8",
                params![
                    id, status, code, now as i64, queue_ms as i64, run_ms as i64, retry, me,
                    charges::signed(kept.unwrap_or(0))
                ],
            )?;
            if ended > 0 {
                charges::settle(tx, &id, kept)?;
            }
            if ended > 0 && status == "done" {
                // Where it is replayed after an outage, the job may be another's.
                tx.execute(
                    "UPDATE images SET stored = 1 WHERE job_id = ?1 AND stored = 0 AND origin = ?2
                     AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND origin = ?2 AND status = 'done')",
                    params![id, me],
                )?;
            }
            Ok(ended > 0)
        })
        .await
    }

    /// One of a user's jobs.
    ///
    /// # Errors
    /// The state's own.
    pub async fn job(&self, user: &str, id: &str) -> Result<Option<JobRow>, StateError> {
        self.one_job("id", user, id).await
    }

    /// The user's job under an idempotency key.
    ///
    /// # Errors
    /// The state's own.
    pub async fn job_by_key(&self, user: &str, key: &str) -> Result<Option<JobRow>, StateError> {
        self.one_job("key", user, key).await
    }

    async fn one_job(
        &self,
        column: &'static str,
        user: &str,
        value: &str,
    ) -> Result<Option<JobRow>, StateError> {
        let (user, value) = (user.to_owned(), value.to_owned());
        self.transact(move |tx| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE user_id = ?1 AND {column} = ?2");
            Ok(tx.query_row(&sql, [&user, &value], read).optional()?)
        })
        .await
    }

    /// A job's pictures that are still there, listed or pending, in order.
    ///
    /// # Errors
    /// The state's own.
    pub async fn images_of_job(&self, id: &str) -> Result<Vec<ImageRow>, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let mut statement = tx.prepare(&format!(
                "SELECT {} FROM images WHERE job_id = ?1 AND stored <> 2 ORDER BY rowid",
                images::COLUMNS
            ))?;
            let rows = statement
                .query_map([&id], images::read)?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    /// Forgets jobs that ended and were created before `before` (Unix seconds), and with them their keys.
    ///
    /// # Errors
    /// The state's own.
    pub async fn forget_old_jobs(&self, before: u64) -> Result<usize, StateError> {
        self.transact(move |tx| {
            Ok(tx.execute(
                "DELETE FROM jobs WHERE status <> 'open' AND created < ?1",
                [before as i64],
            )?)
        })
        .await
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
