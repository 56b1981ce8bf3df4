//! A queue in front of a service elsewhere: the same admission, fairness, cancelling and deadlines as in front of the
//! engine, but a job is one call of its own, and so many calls run at once.

use super::Observation;
use super::error::JobError;
use super::handle::{Done, Progress};
use super::queue::Shared;
use super::state::{Lane, Pending, State, Ticket};
use crate::infer::{ImageSpec, InferError, Pixels};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// How long the thread sleeps before it looks again by itself; deadlines need no more.
const IDLE: Duration = Duration::from_millis(500);

/// What carries a whole job out. Dropping the future breaks it off.
pub trait Remote: Send + Sync + 'static {
    /// The job's pictures, in order of their seeds.
    fn make(self: Arc<Self>, spec: ImageSpec) -> BoxFuture<'static, Made>;
}

/// How a call ended.
type Made = Result<Vec<Pixels>, JobError>;

struct Running {
    ticket: Ticket,
    began: Instant,
    cost: u64,
    cost_milliunits: u64,
    call: AbortHandle,
    /// Filled when the call has ended.
    made: Arc<Mutex<Option<Made>>>,
}

impl Running {
    fn take(&self) -> Option<Made> {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn is_made(&self) -> bool {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }
}

/// The job whose turn it is by the tags of fair queueing.
fn take(state: &mut State) -> Option<Pending> {
    let first = |lane: &Lane| lane.pending.front().map(|job| (job.tag, job.ticket.id));
    let waiting = state.lanes.iter();
    let waiting = waiting.filter_map(|(name, lane)| Some((first(lane)?, name.clone())));
    let (_, name) = waiting.min()?;
    let job = state.lanes.get_mut(&name)?.pending.pop_front()?;
    state.virtual_time = state.virtual_time.max(job.tag);
    Some(job)
}

/// Runs until the queue is stopped and everything has ended.
pub fn run<R: Remote>(remote: &Arc<R>, parallel: usize, runtime: &Handle, shared: &Arc<Shared>) {
    let mut running = Vec::new();
    loop {
        end_dead(shared, &mut running, Instant::now());
        collect(shared, &mut running, parallel);
        begin(remote, parallel, runtime, shared, &mut running);
        let state = shared.lock();
        let has_room = running.len() < parallel && state.queued() > 0;
        if has_room || running.iter().any(Running::is_made) {
            continue;
        }
        if state.stopping && running.is_empty() && state.queued() == 0 {
            return;
        }
        drop(state);
        shared.rest(IDLE);
    }
}

/// Lets go of jobs that are cancelled, late, or left over when the service stops. Their calls are broken off.
fn end_dead(shared: &Shared, running: &mut Vec<Running>, now: Instant) {
    let mut state = shared.lock();
    let mut dead: Vec<(Ticket, JobError)> = Vec::new();
    for (job, error) in state.take_dead(now) {
        dead.push((job.ticket, error));
    }
    let give_up = state.give_up.is_some_and(|at| at <= now);
    for i in (0..running.len()).rev() {
        let over = running
            .get(i)
            .and_then(|job| job.ticket.over(now))
            .or(give_up.then_some(JobError::Stopped));
        if let Some(error) = over {
            let job = remove(&mut state, running, i);
            job.call.abort();
            dead.push((job.ticket, error));
        }
    }
    settle(state, dead.len());
    dead.into_iter()
        .for_each(|(ticket, error)| ticket.finish(Err(error)));
}

/// Hands over what calls brought.
fn collect(shared: &Shared, running: &mut Vec<Running>, parallel: usize) {
    for i in (0..running.len()).rev() {
        let Some(made) = running.get(i).and_then(Running::take) else {
            continue;
        };
        let mut state = shared.lock();
        let job = remove(&mut state, running, i);
        let took = job.began.elapsed();
        // What all calls at once get done, so that the wait is told for a full house.
        let at_once = u64::try_from(parallel).unwrap_or(u64::MAX);
        state.rate.observe(job.cost.saturating_mul(at_once), took);
        if made.is_ok() {
            state.calls.observe(1, took);
        }
        settle(state, 1);
        shared.observe(Observation::Stage {
            stage: "provider",
            took,
        });
        let queued = job.began - job.ticket.admitted;
        job.ticket.finish(made.map(|images| Done {
            images,
            queued,
            ran: took,
            text: Duration::ZERO,
            decode: Duration::ZERO,
            cost_milliunits: job.cost_milliunits,
        }));
    }
}

/// Begins queued jobs while there is room for their calls.
fn begin<R: Remote>(
    remote: &Arc<R>,
    parallel: usize,
    runtime: &Handle,
    shared: &Arc<Shared>,
    running: &mut Vec<Running>,
) {
    while running.len() < parallel {
        let mut state = shared.lock();
        let Some(Pending {
            spec, cost, ticket, ..
        }) = take(&mut state)
        else {
            return;
        };
        let lane = state.lanes.entry(ticket.user.clone()).or_default();
        lane.slots += 1;
        lane.running += cost;
        state.running += 1;
        state.publish_positions();
        drop(state);
        let began = Instant::now();
        shared.observe(Observation::Waited(began - ticket.admitted));
        // The service works on all of it or on nothing.
        ticket.meter.add(cost);
        ticket
            .progress
            .send_replace(Progress::Running { step: 0, steps: 1 });
        let cost_milliunits = spec.cost_milliunits();
        let made = Arc::new(Mutex::new(None));
        let call = runtime.spawn(Arc::clone(remote).make(spec));
        running.push(Running {
            ticket,
            began,
            cost,
            cost_milliunits,
            call: call.abort_handle(),
            made: Arc::clone(&made),
        });
        let shared = Arc::clone(shared);
        runtime.spawn(async move {
            // Aborted calls have no reader any more; a panic is a defect of this job alone.
            let end = call.await.unwrap_or(Err(InferError::Panicked.into()));
            *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
            shared.wake();
        });
    }
}

fn remove(state: &mut State, running: &mut Vec<Running>, i: usize) -> Running {
    let job = running.swap_remove(i);
    state.running = state.running.saturating_sub(1);
    if let Some(lane) = state.lanes.get_mut(&job.ticket.user) {
        lane.slots = lane.slots.saturating_sub(1);
        lane.running = lane.running.saturating_sub(job.cost);
    }
    job
}

/// Forgets users without work and tells the others their place, where `gone` jobs left.
fn settle(mut state: std::sync::MutexGuard<'_, State>, gone: usize) {
    if gone > 0 {
        state.tidy();
        state.publish_positions();
    }
}
