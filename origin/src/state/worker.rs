//! The state's thread: whatever waits at the same moment is committed together, so that a hundred writers pay for one
//! flush of the disk. Each operation is a savepoint of its own and fails alone.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use super::StateError;

/// Operations that share a commit at most.
const TOGETHER: usize = 256;

/// Told how its operation ended, after the commit.
type Answer = Box<dyn FnOnce(Result<(), StateError>) + Send>;

/// Runs in a transaction, or is told why there is none; whether it went well, and whom to tell.
type Step = Box<dyn FnOnce(Result<&Transaction<'_>, StateError>) -> (bool, Answer) + Send>;

/// One operation.
pub(super) struct Work(Step);

impl Work {
    pub(super) fn new<T: Send + 'static>(
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StateError> + Send + 'static,
        answer: impl FnOnce(Result<T, StateError>) + Send + 'static,
    ) -> Self {
        Self(Box::new(move |transaction| {
            let done = transaction.and_then(work);
            let is_good = done.is_ok();
            (
                is_good,
                Box::new(move |committed| answer(committed.and(done))),
            )
        }))
    }
}

/// Works until the last sender is gone.
pub(super) fn run(connection: &mut Connection, mut waiting: mpsc::Receiver<Work>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        commit_together(connection, batch);
    }
}

fn commit_together(connection: &mut Connection, batch: Vec<Work>) {
    let mut answers = Vec::with_capacity(batch.len());
    let mut waiting = batch.into_iter();
    let committed = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for work in waiting.by_ref() {
            transaction.execute_batch("SAVEPOINT one")?;
            let (is_good, answer) = (work.0)(Ok(&transaction));
            answers.push(answer);
            // A full disk ends the whole transaction by itself: nothing of it stands then.
            if transaction.is_autocommit() {
                return Err(StateError::Full);
            }
            transaction.execute_batch(if is_good {
                "RELEASE one"
            } else {
                "ROLLBACK TO one; RELEASE one"
            })?;
        }
        transaction.commit()?;
        Ok(())
    })();
    for answer in answers {
        answer(committed.clone());
    }
    // Those behind a failure were never tried: each on its own, so that one cannot take the others along.
    for work in waiting {
        match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => {
                let (is_good, answer) = (work.0)(Ok(&transaction));
                let end = if is_good {
                    transaction.commit()
                } else {
                    transaction.rollback()
                };
                answer(end.map_err(StateError::from));
            }
            Err(error) => (work.0)(Err(error.into())).1(Ok(())),
        }
    }
}
