//! Admissions asked for at the same time go to the server together: one run of the script decides them one after the
//! other, for what a run costs by itself is nearly half of a decision made alone.
//!
//! Nobody waits for company: what is there goes at once, until [`UNDER_WAY`] runs are on their way; what comes meanwhile
//! goes with the next.

use std::sync::{Arc, Weak};

use redis::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::script::Packed;
use super::{Inner, Remote, RemoteError};

/// Decisions in one run at most: the server does nothing else meanwhile.
const MOST: usize = 32;
/// Runs at once.
const UNDER_WAY: usize = 2;

/// A decision that is wanted.
pub(super) struct Wanted {
    pub(super) keys: Vec<String>,
    pub(super) packed: Packed,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The layer that refused and microseconds to wait, or 0 and what is left.
pub(super) type Answer = Result<[u64; 2], RemoteError>;

/// Sends what comes until nobody can ask any more.
pub(super) fn start(inner: Weak<Inner>, mut wanted: mpsc::UnboundedReceiver<Wanted>) {
    let free = Arc::new(Semaphore::new(UNDER_WAY));
    tokio::spawn(async move {
        while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
            let mut batch = Vec::new();
            if wanted.recv_many(&mut batch, MOST).await == 0 {
                return;
            }
            // Who left meanwhile is not charged at all.
            batch.retain(|one| !one.answer.is_closed());
            let Some(inner) = inner.upgrade() else {
                return;
            };
            tokio::spawn(async move {
                decide(&Remote { inner }, batch).await;
                drop(permit);
            });
        }
    });
}

async fn decide(remote: &Remote, batch: Vec<Wanted>) {
    if batch.is_empty() {
        return;
    }
    let mut call = remote.inner.scripts.admit.prepare_invoke();
    for one in &batch {
        for key in &one.keys {
            call.key(key.as_str());
        }
        call.arg(one.packed.bytes());
    }
    let run = async |mut connection| call.invoke_async::<Vec<Value>>(&mut connection).await;
    let answers = remote.server().ask(run).await;
    let pairs = answers.as_ref().map(|answers| answers.chunks(2));
    let mut pairs = pairs.map_err(Clone::clone);
    for one in batch {
        let answer = match &mut pairs {
            Ok(pairs) => read(pairs.next().unwrap_or_default()),
            Err(error) => Err(error.clone()),
        };
        // It may have left; what it was charged is given back by then.
        let _ = one.answer.send(answer);
    }
}

fn read(pair: &[Value]) -> Answer {
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    match pair {
        [Value::BulkString(reason), _] => {
            let reason = String::from_utf8_lossy(reason).into_owned();
            tracing::error!(reason, "Redis holds what cannot be right");
            Err(RemoteError::Broken(reason))
        }
        [layer, left] => match (number(layer), number(left)) {
            (Some(layer), Some(left)) => Ok([layer, left]),
            _ => Err(RemoteError::Broken("no numbers".into())),
        },
        _ => Err(RemoteError::Broken("another number of numbers".into())),
    }
}

impl Remote {
    /// The server's decision on an admission.
    pub(super) async fn decision(&self, keys: Vec<String>, packed: Packed) -> Answer {
        let (answer, decided) = oneshot::channel();
        let wanted = Wanted {
            keys,
            packed,
            answer,
        };
        let sent = self.inner.wanted.get().map(|sender| sender.send(wanted));
        match (sent, decided.await) {
            (Some(Ok(())), Ok(answer)) => answer,
            _ => Err(RemoteError::Away("nobody asks it any more".into())),
        }
    }
}
