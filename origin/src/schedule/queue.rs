//! Admission: bounded, honest about the wait, and never blocking the async threads.

use super::error::QueueError;
use super::fair::Ring;
use super::handle::{JobHandle, Life, Meter, Progress};
use super::rate::Rate;
use super::settings::Settings;
use super::state::{Pending, State, Ticket};
use super::work::Work;
use super::{Observation, Remote, remote, worker};
use crate::infer::ImageSpec;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A job to be admitted.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// What to make; checked against the model beforehand.
    pub image: ImageSpec,
    /// When it is worth nothing any more.
    pub deadline: Option<Instant>,
}

/// A picture of the queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Work ahead, in thousandths of a unit.
    pub backlog_milliunits: u64,
    /// Measured rate in thousandths of a unit a second of busy time; 0 before the first step.
    pub milliunits_per_second: f64,
}

/// Gets told what happens on the engine's threads; must be quick.
pub type Observer = Box<dyn Fn(Observation) + Send + Sync>;

pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    observer: Observer,
    time: Time,
}

/// Where the time comes from.
pub(super) type Time = Box<dyn Fn() -> Instant + Send + Sync>;

impl Shared {
    pub fn now(&self) -> Instant {
        (self.time)()
    }

    /// The lock is never held across foreign code, so a poisoned one holds sound data.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something has happened since this returned last, or `at_most` has passed.
    pub fn rest(&self, at_most: Duration) {
        let woken = self
            .wake
            .wait_timeout_while(self.lock(), at_most, |state| !state.stirred);
        woken.unwrap_or_else(PoisonError::into_inner).0.stirred = false;
    }

    /// Has the thread look again, now or as soon as it would rest.
    pub fn wake(&self) {
        self.lock().stirred = true;
        self.wake.notify_all();
    }

    pub fn observe(&self, what: Observation) {
        (self.observer)(what);
    }
}

/// The queue in front of one engine. Clones share it; the last one dropped stops it.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    /// Closed by the engine's thread when it ends.
    ended: watch::Receiver<()>,
    measure: Measure,
}

/// Pixels of a request's smallest call, and bytes that it would lack.
type Measure = Box<dyn Fn(&ImageSpec) -> (u64, u64) + Send + Sync>;

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({:?})", self.stats())
    }
}

impl Queue {
    /// Starts the engine's thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start<W: Work>(
        work: Arc<W>,
        settings: Settings,
        observer: Observer,
    ) -> std::io::Result<Self> {
        Self::start_by(work, settings, observer, Box::new(Instant::now))
    }

    /// As [`Self::start`], by another clock than the machine's.
    pub(super) fn start_by<W: Work>(
        work: Arc<W>,
        settings: Settings,
        observer: Observer,
        time: Time,
    ) -> std::io::Result<Self> {
        let measured = Arc::clone(&work);
        let measure =
            Box::new(move |spec: &ImageSpec| (measured.call_pixels(spec), measured.shortage(spec)));
        let run = move |shared: &Arc<Shared>| worker::run(&*work, shared);
        Self::run("engine", 0, settings, observer, time, measure, run)
    }

    /// Starts a queue in front of a service elsewhere, which carries `parallel` jobs out at once.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_remote<R: Remote>(
        remote: Arc<R>,
        parallel: usize,
        settings: Settings,
        observer: Observer,
        runtime: tokio::runtime::Handle,
    ) -> std::io::Result<Self> {
        let run = move |shared: &Arc<Shared>| remote::run(&remote, parallel, &runtime, shared);
        let time = Box::new(Instant::now);
        // What its calls take is the service's own affair.
        let measure = Box::new(|_: &ImageSpec| (0, 0));
        Self::run("remote", parallel, settings, observer, time, measure, run)
    }

    fn run(
        name: &str,
        parallel: usize,
        settings: Settings,
        observer: Observer,
        time: Time,
        measure: Measure,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                settings,
                lanes: BTreeMap::new(),
                ring: Ring::default(),
                rate: Rate::default(),
                calls: Rate::default(),
                running: 0,
                parallel,
                stirred: false,
                stopping: false,
                give_up: None,
                next_id: 1,
                virtual_time: 0,
                work_to_first_end: 0,
            }),
            wake: Condvar::new(),
            observer,
            time,
        });
        let (alive, ended) = watch::channel(());
        let thread_shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                work(&thread_shared);
                drop(alive);
            })?;
        Ok(Self {
            inner: Arc::new(Owner {
                shared,
                ended,
                measure,
            }),
        })
    }

    /// Admits a job of `user`, whose share of a busy machine is `weight`, or says when to come
    /// back. Returns at once.
    ///
    /// # Errors
    /// See [`QueueError`].
    pub fn submit(&self, job: JobSpec, user: &str, weight: u32) -> Result<JobHandle, QueueError> {
        let JobSpec {
            image: spec,
            deadline,
        } = job;
        let measured = (self.inner.measure)(&spec);
        let cost = cost(&spec);
        let shared = &self.inner.shared;
        let mut state = shared.lock();
        let left = deadline.map(|at| at.saturating_duration_since(shared.now()));
        state.admits(measured, cost, left, user, weight)?;
        let queued = state.queued();
        let id = state.next_id;
        state.next_id += 1;
        let (progress, progress_end) = watch::channel(Progress::Queued { position: queued });
        let previews = Arc::new(watch::channel(None).0);
        let (outcome, outcome_end) = oneshot::channel();
        let waker = Arc::downgrade(shared);
        let life = Life::new(move || {
            if let Some(shared) = waker.upgrade() {
                shared.wake();
            }
        });
        let meter = Meter::new(cost);
        let ticket = Ticket {
            id,
            user: user.to_owned(),
            admitted: shared.now(),
            deadline,
            progress,
            previews: Arc::clone(&previews),
            outcome,
            life: Arc::clone(&life),
            meter: Arc::clone(&meter),
        };
        let job = Pending {
            spec,
            cost,
            tag: 0,
            is_ahead: false,
            ticket,
        };
        state.enqueue(user, weight, job);
        state.publish_positions();
        drop(state);
        shared.wake();
        Ok(JobHandle {
            id,
            progress: progress_end,
            previews,
            outcome: outcome_end,
            life,
            meter,
        })
    }

    /// Whether a job like this, which must be done within `left`, would be admitted now.
    ///
    /// # Errors
    /// As [`Queue::submit`].
    pub fn check(
        &self,
        spec: &ImageSpec,
        left: Duration,
        user: &str,
        weight: u32,
    ) -> Result<(), QueueError> {
        let measured = (self.inner.measure)(spec);
        let state = self.inner.shared.lock();
        state.admits(measured, cost(spec), Some(left), user, weight)
    }

    /// By how much later a job like this would end than on an idle machine.
    #[cfg(test)]
    pub(super) fn delay(&self, spec: &ImageSpec, user: &str, weight: u32) -> Duration {
        self.inner.shared.lock().delay(user, weight, cost(spec))
    }

    /// In how long a job like this would end.
    pub fn time_to_end(&self, spec: &ImageSpec, user: &str, weight: u32) -> Duration {
        let (state, cost) = (self.inner.shared.lock(), cost(spec));
        state.delay(user, weight, cost) + state.alone(cost)
    }

    /// Whether as many jobs wait as may.
    pub fn is_full(&self) -> bool {
        let state = self.inner.shared.lock();
        state.queued() >= state.settings.depth
    }

    #[cfg(test)]
    pub(super) fn set_longest_wait(&self, seconds: u64) {
        self.inner.shared.lock().settings.longest_wait_seconds = seconds;
    }

    /// Whether nothing is left of any job.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        let state = self.inner.shared.lock();
        state.lanes.is_empty() && state.ring.users().next().is_none()
    }

    /// The queue at this moment.
    pub fn stats(&self) -> Stats {
        let state = self.inner.shared.lock();
        let milliunits = |work: f64| work * 1000.0 / (512.0 * 512.0);
        Stats {
            queued: state.queued(),
            running: state.running,
            backlog_milliunits: milliunits(state.backlog() as f64).ceil() as u64,
            milliunits_per_second: state.rate.per_second().map_or(0.0, milliunits),
        }
    }

    /// Stops admitting, hands queued jobs back as `stopped`, and lets running ones finish for
    /// at most `grace`. Resolves when the engine's thread has ended.
    pub async fn stop(&self, grace: Duration) {
        {
            let mut state = self.inner.shared.lock();
            state.stopping = true;
            state.give_up = Some(self.inner.shared.now() + grace);
        }
        self.inner.shared.wake();
        let mut ended = self.inner.ended.clone();
        // The channel carries nothing; it closes when the thread ends.
        while ended.changed().await.is_ok() {}
    }
}

/// Work of a job, in pixels times denoiser rows times steps.
fn cost(spec: &ImageSpec) -> u64 {
    let area = spec.width as u64 * spec.height as u64;
    spec.n as u64 * spec.steps_run() as u64 * area * spec.branches() as u64
}
