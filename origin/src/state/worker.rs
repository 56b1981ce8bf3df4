//! The state's thread: whatever waits at the same moment is committed together, so that a hundred writers pay for one
//! flush of the disk. Each operation is a savepoint of its own and fails alone.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use super::StateError;
use super::replica::Replica;

/// Operations that share a commit at most.
const TOGETHER: usize = 256;

/// One operation: run, perhaps more than once, and answered when it is known what became of it.
pub(super) trait Step: Send {
    /// Runs anew; whether it went well.
    fn run(&mut self, transaction: Result<&Transaction<'_>, StateError>) -> bool;
    /// Tells whoever waits, after the commit.
    fn answer(self: Box<Self>, committed: Result<(), StateError>);
}

/// See [`Step`].
pub(super) type Work = Box<dyn Step>;

struct Operation<T, W, A> {
    work: W,
    answer: A,
    done: Result<T, StateError>,
}

impl<T, W, A> Step for Operation<T, W, A>
where
    T: Send,
    W: FnMut(&Transaction<'_>) -> Result<T, StateError> + Send,
    A: FnOnce(Result<T, StateError>) + Send,
{
    fn run(&mut self, transaction: Result<&Transaction<'_>, StateError>) -> bool {
        self.done = transaction.and_then(&mut self.work);
        self.done.is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StateError>) {
        (self.answer)(committed.and(self.done));
    }
}

/// An operation and whom to tell.
pub(super) fn work<T: Send + 'static>(
    work: impl FnMut(&Transaction<'_>) -> Result<T, StateError> + Send + 'static,
    answer: impl FnOnce(Result<T, StateError>) + Send + 'static,
) -> Work {
    Box::new(Operation {
        work,
        answer,
        done: Err(StateError::Closed),
    })
}

/// Works until the last sender is gone.
pub(super) fn run(
    connection: &mut Connection,
    mut replica: Option<Replica>,
    mut waiting: mpsc::Receiver<Work>,
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        match &mut replica {
            None => commit_together(connection, batch),
            Some(replica) => replica.commit_together(connection, batch),
        }
    }
}

/// Runs one operation in a savepoint; whether it stands.
pub(super) fn run_one(transaction: &Transaction<'_>, work: &mut Work) -> Result<bool, StateError> {
    transaction.execute_batch("SAVEPOINT one")?;
    let is_good = work.run(Ok(transaction));
    // A full disk ends the whole transaction by itself: nothing of it stands then.
    if transaction.is_autocommit() {
        return Err(StateError::Full);
    }
    transaction.execute_batch(if is_good {
        "RELEASE one"
    } else {
        "ROLLBACK TO one; RELEASE one"
    })?;
    Ok(is_good)
}

fn commit_together(connection: &mut Connection, mut batch: Vec<Work>) {
    let mut tried = 0;
    let committed = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for work in &mut batch {
            tried += 1;
            run_one(&transaction, work)?;
        }
        transaction.commit()?;
        Ok(())
    })();
    let behind = batch.split_off(tried);
    for work in batch {
        work.answer(committed.clone());
    }
    // Those behind a failure were never tried: each on its own, so that one cannot take the others along.
    for mut work in behind {
        let ended = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => {
                let end = if work.run(Ok(&transaction)) {
                    transaction.commit()
                } else {
                    transaction.rollback()
                };
                end.map_err(StateError::from)
            }
            Err(error) => {
                work.run(Err(error.into()));
                Ok(())
            }
        };
        work.answer(ended);
    }
}
