//! What a job was admitted at and what it has used of it, in its own row: whoever ends the job settles it from there, in
//! the transaction that ends it, so that no stop and no crash makes a job free or charges it twice.

use rusqlite::{Row, Transaction, params};

use super::images::unsigned;
use super::{State, StateError};

/// What a job was admitted at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobCharge {
    /// When, in Unix nanoseconds.
    pub admitted: u64,
    /// Its user's share of a busy machine.
    pub weight: u32,
    /// Thousandths of a unit that were run by now, a second or so behind.
    pub ran: u64,
    /// Its record among the spends, where the limits are kept by this process.
    pub spend: Option<String>,
    /// Its admission at the server that keeps the limits, where there is one.
    pub admission: Option<String>,
}

/// Reads the five columns from `first` on.
pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<JobCharge> {
    Ok(JobCharge {
        admitted: unsigned(row.get(first)?),
        weight: row.get(first + 1)?,
        ran: unsigned(row.get(first + 2)?),
        spend: row.get(first + 3)?,
        admission: row.get(first + 4)?,
    })
}

/// Settles a job's record among the spends once: `kept` thousandths of a unit stay, or none of it.
pub(super) fn settle(tx: &Transaction<'_>, id: &str, kept: Option<u64>) -> Result<(), StateError> {
    const OPEN: &str = "settled = 0 AND id = (SELECT spend FROM jobs WHERE id = ?1)";
    match kept {
        Some(kept) => tx
            .prepare_cached(&format!(
                "UPDATE spends SET settled = 1, milliunits = ?2 WHERE {OPEN}"
            ))?
            .execute(params![id, signed(kept)])?,
        None => tx
            .prepare_cached(&format!("DELETE FROM spends WHERE {OPEN}"))?
            .execute([id])?,
    };
    Ok(())
}

impl State {
    /// An open job of this process has run so many thousandths of a unit.
    ///
    /// # Errors
    /// The state's own.
    pub async fn job_ran(&self, id: &str, milliunits: u64) -> Result<(), StateError> {
        let (id, me) = (id.to_owned(), self.me());
        self.transact(move |tx| {
            tx.execute(
                "UPDATE jobs SET running = 1, ran = max(ran, ?3) WHERE id = ?1 AND origin = ?2 AND status = 'open'",
                params![&*id, &*me, signed(milliunits)],
            )?;
            Ok(())
        })
        .await
    }

    /// Places in use: the users of open jobs, one entry a job.
    ///
    /// # Errors
    /// The state's own.
    pub async fn places_in_use(&self) -> Result<Vec<String>, StateError> {
        self.transact(|tx| {
            let mut statement = tx.prepare("SELECT user_id FROM jobs WHERE status = 'open'")?;
            let users = statement.query_map([], |row| row.get(0))?;
            Ok(users.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// SQLite's integers are signed; what does not fit counts as the most there is.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "charges_tests.rs"]
mod tests;
