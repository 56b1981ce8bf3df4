//! Tells the server how admissions ended: in order, again and again until it is told, without anybody waiting.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Admitted, Inner, Remote, RemoteError};
use crate::quota::reservation::Settle;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// After an hour the server has ended the admission by itself.
const LEASE: Duration = Duration::from_secs(3600);

/// What is to be done.
pub(super) enum Message {
    /// Ends an admission.
    Settle {
        admitted: Admitted,
        settle: Settle,
        /// Its answer was not waited for: it may arrive after this.
        may_come: bool,
    },
    /// Answers when everything before it is done.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests wait for it"))]
    Flush(oneshot::Sender<()>),
}

pub(super) fn start(inner: Weak<Inner>, mut messages: mpsc::Receiver<Message>) {
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Flush(done) => drop(done.send(())),
                Message::Settle {
                    admitted,
                    settle,
                    may_come,
                } => {
                    if !tell(&inner, &admitted, settle, may_come).await {
                        return;
                    }
                }
            }
        }
    });
}

/// False when nobody needs it any more.
async fn tell(inner: &Weak<Inner>, admitted: &Admitted, settle: Settle, may_come: bool) -> bool {
    let begun = Instant::now();
    loop {
        let Some(inner) = inner.upgrade() else {
            return false;
        };
        let remote = Remote { inner };
        match remote.settle_now(admitted, settle, may_come).await {
            Ok(()) => return true,
            Err(RemoteError::Broken(_)) => return true,
            Err(RemoteError::Away(_)) if begun.elapsed() > LEASE => return true,
            Err(RemoteError::Away(_)) => {}
        }
        drop(remote);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Remote {
    pub(super) fn send(&self, message: Message) {
        let sent = self
            .inner
            .unsettled
            .get()
            .map(|unsettled| unsettled.try_send(message));
        if !matches!(sent, Some(Ok(()))) {
            tracing::error!(
                "an admission's end is not told to Redis: it ends by itself after an hour"
            );
        }
    }

    /// Resolves when all that was sent so far is done.
    #[cfg(test)]
    pub(in crate::quota) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.send(Message::Flush(done));
        let _ = is_done.await;
    }
}
