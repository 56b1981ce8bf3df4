//! What the submitter of a job holds: its progress, its outcome, and its life.

use super::error::JobError;
use crate::infer::Pixels;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Waiting; so many queued jobs start before it if nobody else comes.
    Queued {
        /// 0 is next.
        position: usize,
    },
    /// Running; the slowest of its pictures has taken so many steps.
    Running {
        /// Steps taken.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// Over, one way or another.
    Over,
}

/// A finished job.
#[derive(Debug, Clone)]
pub struct Done {
    /// The pictures, in order of their seeds.
    pub images: Vec<Pixels>,
    /// From admission to the first step.
    pub queued: Duration,
    /// From the first step to the last picture.
    pub ran: Duration,
    /// Of it for the prompt, before the first step.
    pub text: Duration,
    /// Of it for the pictures, after their last steps.
    pub decode: Duration,
    /// What it cost, in thousandths of a unit.
    pub cost_milliunits: u64,
}

/// Where previews are put.
pub(super) type Previews = Arc<watch::Sender<Option<Arc<Pixels>>>>;

/// An admitted job. Dropping it cancels the job at the next step boundary.
#[derive(Debug)]
pub struct JobHandle {
    pub(super) id: u64,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) previews: Previews,
    pub(super) outcome: oneshot::Receiver<Result<Done, JobError>>,
    pub(super) life: Arc<Life>,
    pub(super) meter: Arc<Meter>,
}

/// How much of a job's work was begun, in pixels times denoiser rows times steps. A step under way counts.
#[derive(Debug)]
pub struct Meter {
    begun: AtomicU64,
    whole: u64,
}

impl Meter {
    pub(super) fn new(whole: u64) -> Arc<Self> {
        let begun = AtomicU64::new(0);
        Arc::new(Self { begun, whole })
    }

    pub(super) fn add(&self, work: u64) {
        self.begun.fetch_add(work, Ordering::SeqCst);
    }

    /// What was begun, and all of it.
    pub fn read(&self) -> (u64, u64) {
        (self.begun.load(Ordering::SeqCst), self.whole)
    }
}

impl JobHandle {
    /// The job's number in this process, in order of admission.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its progress, now and as it changes. Slow readers skip steps, never the end.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// How much of it was worked off, now and after its end.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Small pictures of the first picture's state, about five a job. They are made only while
    /// somebody holds a receiver.
    pub fn previews(&self) -> watch::Receiver<Option<Arc<Pixels>>> {
        self.previews.subscribe()
    }

    /// Something to watch the previews with, without holding the job.
    pub fn preview_source(&self) -> PreviewSource {
        PreviewSource(Arc::clone(&self.previews))
    }

    /// Something that cancels the job without holding it.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.life))
    }

    /// Waits for the outcome. Dropping the future cancels the job.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn outcome(mut self) -> Result<Done, JobError> {
        // The sender is only ever lost with the whole queue.
        (&mut self.outcome).await.unwrap_or(Err(JobError::Stopped))
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        self.life.end();
    }
}

/// Where a job's previews can be watched.
#[derive(Debug, Clone)]
pub struct PreviewSource(Previews);

impl PreviewSource {
    /// As [`JobHandle::previews`].
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Pixels>>> {
        self.0.subscribe()
    }
}

/// Cancels a job at the next step boundary.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Life>);

impl Canceller {
    /// Cancels; a job that is over stays as it is.
    pub fn cancel(&self) {
        self.0.end();
    }
}

/// Whether anybody still wants the job.
pub(super) struct Life {
    ended: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Life {
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            ended: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    /// Tells whoever works for the job that nobody wants it; the thread knows already.
    pub fn close(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Life(over: {})", self.is_over())
    }
}
