//! Jobs of this process that have not ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::problem::Problem;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::claims::{Claim, Claims};
use super::elsewhere::Places;
use crate::infer::Truncated;
use crate::schedule::{Canceller, JobHandle, PreviewSource, Progress};
use crate::state::jobs::{JobEnd, JobRow};

/// How a job ended, for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its pictures are listed.
    Done {
        /// Milliseconds in the queue.
        queue_ms: u64,
        /// Milliseconds at work.
        run_ms: u64,
    },
    /// It failed, and cost so many thousandths of a unit.
    Failed(Problem, u64),
    /// Its caller cancelled it, and it cost so many thousandths of a unit.
    Cancelled(u64),
    /// This process stops; the next one settles the job.
    Stopped,
}

impl Ended {
    /// As it was written down; none while the job is open.
    pub fn of(job: &JobRow) -> Option<Self> {
        Some(match job.end.as_ref()? {
            JobEnd::Done { queue_ms, run_ms } => Self::Done {
                queue_ms: *queue_ms,
                run_ms: *run_ms,
            },
            JobEnd::Failed { code, .. } => Self::Failed(super::job_problem(code), job.milliunits),
            JobEnd::Cancelled => Self::Cancelled(job.milliunits),
        })
    }

    /// What the job cost, of so many thousandths of a unit that were reserved.
    pub fn cost(&self, reserved: u64) -> u64 {
        match self {
            Self::Failed(_, cost) | Self::Cancelled(cost) => *cost,
            Self::Done { .. } | Self::Stopped => reserved,
        }
    }
}

/// A job under way, as its watchers see it.
#[derive(Debug)]
pub struct Live {
    /// UUID version 7.
    pub id: String,
    /// Whose it is.
    pub user: Arc<str>,
    /// Its cost in thousandths of a unit.
    pub milliunits: u64,
    /// Its prompts that are longer than the model takes.
    pub truncated: Vec<Truncated>,
    /// How far it is.
    pub progress: watch::Receiver<Progress>,
    /// Small pictures on the way.
    pub previews: PreviewSource,
    canceller: Canceller,
    ended: watch::Sender<Option<Ended>>,
    streams: AtomicUsize,
}

/// Event streams that may watch one job.
pub(crate) const STREAMS: usize = 8;

impl Live {
    /// The watchers' side of a job that the queue took.
    pub fn new(id: String, user: Arc<str>, milliunits: u64, handle: &JobHandle) -> Self {
        Self {
            id,
            user,
            milliunits,
            truncated: Vec::new(),
            progress: handle.progress(),
            previews: handle.preview_source(),
            canceller: handle.canceller(),
            ended: watch::channel(None).0,
            streams: AtomicUsize::new(0),
        }
    }

    /// Cancels at the next step; a job that is past its last one ends as it would.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await;
        // The sender lives as long as this.
        end.ok().and_then(|end| *end).unwrap_or(Ended::Stopped)
    }

    /// A place among the job's event streams, freed when dropped; none when all are taken.
    pub fn stream(self: &Arc<Self>) -> Option<Stream> {
        let taken = self.streams.fetch_add(1, Ordering::SeqCst);
        let stream = Stream(Arc::clone(self));
        (taken < STREAMS).then_some(stream)
    }
}

/// A place among a job's event streams.
#[derive(Debug)]
pub struct Stream(pub Arc<Live>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All jobs under way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    live: Mutex<HashMap<String, Arc<Live>>>,
    count: watch::Sender<usize>,
    claims: Claims,
    elsewhere: Places,
    /// Jobs outlive the threads that serve requests, so that a stop can wait for them.
    runtime: Handle,
}

impl Jobs {
    /// Jobs run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                live: Mutex::default(),
                count: watch::channel(0).0,
                claims: Claims::default(),
                elsewhere: Places::default(),
                runtime,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.inner
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn among a user's requests of one name (route and idempotency key), so that of two equal
    /// requests the second finds the first; none when there are too many requests with keys.
    pub async fn claim(&self, user: &Arc<str>, name: &str) -> Option<Claim> {
        self.inner.claims.claim(user, name).await
    }

    /// The user's job of this id, when it is under way here.
    pub fn find(&self, user: &str, id: &str) -> Option<Arc<Live>> {
        let found = self.lock().get(id).cloned();
        found.filter(|live| &*live.user == user)
    }

    /// The job of this id, whoever's it is: for operators.
    pub fn any(&self, id: &str) -> Option<Arc<Live>> {
        self.lock().get(id).cloned()
    }

    /// All jobs under way here, the oldest first: for operators.
    pub fn all(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    pub(super) fn elsewhere(&self) -> &Places {
        &self.inner.elsewhere
    }

    /// Runs `work` and tells the job's watchers how it ended.
    pub fn begin(
        &self,
        live: Live,
        work: impl Future<Output = Ended> + Send + 'static,
    ) -> Arc<Live> {
        let live = Arc::new(live);
        self.lock().insert(live.id.clone(), Arc::clone(&live));
        self.inner.count.send_modify(|count| *count += 1);
        let ending = Ending {
            jobs: self.clone(),
            live: Arc::clone(&live),
            ended: Ended::Stopped,
        };
        self.inner
            .runtime
            .spawn(async move { ending.tell(work.await) });
        live
    }

    /// Runs something to its end, whether or not whoever asked for it stays.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.runtime.spawn(work)
    }

    /// Waits until no job is under way, at most so long.
    pub async fn drained(&self, at_most: Duration) {
        let mut count = self.inner.count.subscribe();
        let _ = tokio::time::timeout(at_most, count.wait_for(|count| *count == 0)).await;
    }
}

/// Tells the end even when the work panicked or was dropped.
struct Ending {
    jobs: Jobs,
    live: Arc<Live>,
    ended: Ended,
}

impl Ending {
    fn tell(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.jobs.lock().remove(&self.live.id);
        self.live.ended.send_replace(Some(self.ended));
        self.jobs
            .inner
            .count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}
