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

/// What an open job that was left knows of its owner.
type Left = (LeftJob, Option<String>);

/// An open job that was left, and is now ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftJob {
    /// The job.
    pub row: JobRow,
    /// Its caller wants it cancelled.
    pub cancelling: bool,
}

impl State {
    /// This process has its place among those that share the state, and counts on.
    ///
    /// # Errors
    /// The state's own.
    pub async fn beat(&self) -> Result<(), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO origins (id, beat) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET beat = beat + 1",
                [&me],
            )?;
            Ok(())
        })
        .await
    }

    /// The counts of all.
    ///
    /// # Errors
    /// The state's own.
    pub async fn beats(&self) -> Result<Vec<(String, u64)>, StateError> {
        self.transact(|tx| {
            let mut statement = tx.prepare_cached("SELECT id, beat FROM origins")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Takes processes off the list whose counts are still these.
    ///
    /// # Errors
    /// The state's own.
    pub async fn take_off(&self, origins: Vec<(String, u64)>) -> Result<(), StateError> {
        self.transact(move |tx| {
            for (id, beat) in &origins {
                let sql = "DELETE FROM origins WHERE id = ?1 AND beat = ?2";
                tx.execute(sql, params![id, i64::try_from(*beat).unwrap_or(i64::MAX)])?;
            }
            Ok(())
        })
        .await
    }

    /// Takes this process, which stops, off the list.
    ///
    /// # Errors
    /// The state's own.
    pub async fn leave_list(&self) -> Result<(), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            tx.execute("DELETE FROM origins WHERE id = ?1", [&me])?;
            Ok(())
        })
        .await
    }

    /// Leaves an open job, or a picture between two steps, of this process's to whoever takes it next: it could not be
    /// settled now.
    ///
    /// # Errors
    /// The state's own.
    pub async fn let_go(&self, id: &str) -> Result<(), StateError> {
        let (id, me) = (id.to_owned(), self.me());
        self.transact(move |tx| {
            for sql in [
                "UPDATE jobs SET origin = NULL WHERE id = ?1 AND origin = ?2",
                "UPDATE images SET origin = NULL WHERE (id = ?1 OR job_id = ?1) AND stored <> 1 AND origin = ?2",
            ] {
                tx.execute(sql, [&*id, &*me])?;
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
            for (job, before) in &left {
                // As it is now: where it is replayed after an outage, it may be another's by then.
                tx.execute(
                    "UPDATE jobs SET origin = ?2, running = 0 WHERE id = ?1 AND status = 'open' AND origin IS ?3",
                    params![job.row.id, me, before],
                )?;
                tx.execute(
                    "UPDATE images SET origin = ?2 WHERE job_id = ?1 AND stored = 0
                     AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND origin = ?2)",
                    params![job.row.id, me],
                )?;
            }
            Ok(left.into_iter().map(|(job, _)| job).collect())
        })
        .await
    }

    /// Makes every picture that was left between two steps this process's own: those that count if they are whole, and
    /// those to delete. A job's picture is never among the former: its job ended without it, or another process has it.
    ///
    /// # Errors
    /// The state's own.
    pub async fn adopt_images(&self) -> Result<(Vec<ImageRow>, Vec<ImageRow>), StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let left = |what: &str| -> Result<Vec<ImageRow>, StateError> {
                let sql = format!(
                    "SELECT {} FROM images WHERE {what} AND {LEFT}",
                    images::COLUMNS
                );
                let mut statement = tx.prepare(&sql)?;
                let rows = statement.query_map([&me], images::read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            };
            let pending = left("stored = 0 AND job_id IS NULL")?;
            let deleting = left("(stored = 2 OR (stored = 0 AND job_id IS NOT NULL))")?;
            for row in pending.iter().chain(&deleting) {
                let ours = params![row.id, me];
                tx.execute("UPDATE images SET origin = ?2 WHERE id = ?1", ours)?;
            }
            Ok((pending, deleting))
        })
        .await
    }

    /// Asks the process that has an open job to cancel it; whether there is such a job. Of a `user`, or for operators of
    /// anybody.
    ///
    /// # Errors
    /// The state's own.
    pub async fn ask_to_cancel(&self, user: Option<&str>, id: &str) -> Result<bool, StateError> {
        let (user, id) = (user.map(str::to_owned), id.to_owned());
        self.transact(move |tx| {
            let asked = tx.execute(
                "UPDATE jobs SET cancelling = 1 WHERE id = ?1 AND status = 'open' AND (?2 IS NULL OR user_id = ?2)",
                params![id, user],
            )?;
            Ok(asked > 0)
        })
        .await
    }

    /// This process's jobs that somebody asked to cancel at another one.
    ///
    /// # Errors
    /// The state's own.
    pub async fn asked_to_cancel(&self) -> Result<Vec<String>, StateError> {
        let me = self.me();
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT id FROM jobs WHERE status = 'open' AND cancelling AND origin = ?1",
            )?;
            let ids = statement.query_map([&me], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn left_jobs(tx: &Transaction<'_>, me: &str) -> Result<Vec<Left>, StateError> {
    let sql = format!(
        "SELECT {}, cancelling, origin FROM jobs WHERE status = 'open' AND {LEFT} ORDER BY id",
        jobs::COLUMNS
    );
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map([me], |row| {
        let job = LeftJob {
            row: jobs::read(row)?,
            cancelling: row.get("cancelling")?,
        };
        Ok((job, row.get("origin")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use shared::object_key::ObjectKey;

    use super::*;
    use crate::state::jobs::JobEnd;

    const DONE: JobEnd = JobEnd::Done {
        queue_ms: 1,
        run_ms: 2,
    };

    fn job() -> JobRow {
        JobRow {
            id: "1".into(),
            user_id: "u".into(),
            created: 5,
            request: Some("{}".into()),
            handed_over: true,
            starts: 1,
            key: None,
            milliunits: 1,
            charge: crate::state::charges::JobCharge::default(),
            running: false,
            end: None,
        }
    }

    fn picture(id: &str) -> ImageRow {
        ImageRow {
            id: id.into(),
            user_id: "u".into(),
            key: ObjectKey::parse(&format!("generated/u/{id}.png")).unwrap(),
            width: 8,
            height: 8,
            format: "png".into(),
            bytes: 10,
            seed: 1,
            model: "m".into(),
            created: 5,
            expires: None,
            job_id: Some("1".into()),
        }
    }

    /// Two processes on one state, the first of which has a job with a pending picture.
    async fn two() -> (tempfile::TempDir, State, State) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        let (one, other) = (State::open(&file).unwrap(), State::open(&file).unwrap());
        one.beat().await.unwrap();
        other.beat().await.unwrap();
        one.open_job(job()).await.unwrap();
        one.reserve_images(vec![picture("a")], 100).await.unwrap();
        (folder, one, other)
    }

    #[tokio::test]
    async fn nothing_of_the_living_is_taken_and_all_of_the_dead_by_one() {
        let (folder, one, other) = two().await;
        assert_eq!(other.adopt_jobs().await.unwrap(), []);
        assert_eq!(other.adopt_images().await.unwrap(), (vec![], vec![]));
        let third = State::open(&folder.path().join("s.sqlite")).unwrap();
        third.beat().await.unwrap();
        other
            .take_off(vec![(one.me().to_string(), 1)])
            .await
            .unwrap();
        let (first, second) = tokio::join!(other.adopt_jobs(), third.adopt_jobs());
        assert_eq!(first.unwrap().len() + second.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_lost_a_job_neither_ends_it_nor_lists_or_takes_back_its_pictures() {
        let (_folder, one, other) = two().await;
        other
            .take_off(vec![(one.me().to_string(), 1)])
            .await
            .unwrap();
        assert_eq!(other.adopt_jobs().await.unwrap().len(), 1);
        // It comes back and is at its end.
        one.beat().await.unwrap();
        one.reserve_images(vec![picture("b")], 100).await.unwrap();
        assert!(!one.end_job("1", DONE, Some(700), 9).await.unwrap());
        let (listed, _) = one.images("u", None, 9).await.unwrap();
        assert_eq!(listed, []);
        assert!(other.end_job("1", DONE, Some(700), 9).await.unwrap());
        let (listed, _) = other.images("u", None, 9).await.unwrap();
        assert_eq!(listed, [picture("a")]);
        let ours = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(one.take_back(ours).await.unwrap(), [picture("b")]);
        assert_eq!(other.user("u").await.unwrap().stored_bytes, 10);
    }

    #[tokio::test]
    async fn what_could_not_be_settled_is_left_and_a_picture_without_its_job_is_to_go() {
        let (_folder, one, other) = two().await;
        other
            .take_off(vec![(one.me().to_string(), 7)])
            .await
            .unwrap();
        assert_eq!(other.adopt_jobs().await.unwrap(), [], "it has counted on");
        other
            .take_off(vec![(one.me().to_string(), 1)])
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(other.adopt_jobs().await.unwrap().len(), 1);
            other.let_go("1").await.unwrap();
        }
        assert_eq!(other.adopt_jobs().await.unwrap().len(), 1);
        one.reserve_images(vec![picture("b")], 100).await.unwrap();
        assert_eq!(
            other.adopt_images().await.unwrap(),
            (vec![], vec![picture("b")])
        );
    }

    #[tokio::test]
    async fn a_cancellation_reaches_who_has_the_job_and_whoever_takes_it_over() {
        let (_folder, one, other) = two().await;
        assert!(!other.ask_to_cancel(Some("v"), "1").await.unwrap());
        assert!(other.ask_to_cancel(Some("u"), "1").await.unwrap());
        assert_eq!(one.asked_to_cancel().await.unwrap(), ["1"]);
        assert_eq!(other.asked_to_cancel().await.unwrap(), [""; 0]);
        other
            .take_off(vec![(one.me().to_string(), 1)])
            .await
            .unwrap();
        assert!(other.adopt_jobs().await.unwrap()[0].cancelling);
    }
}
