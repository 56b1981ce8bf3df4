//! The engine's thread: joins new rows, takes a step, lets finished rows go, and again.

use super::Observation;
use super::error::JobError;
use super::fair::Candidate;
use super::handle::{Done, Progress};
use super::queue::Shared;
use super::state::{Lane, Pending, State, Ticket};
use super::work::{Facts, Work};
use crate::infer::{InferError, Pixels};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an idle thread sleeps before it looks again by itself; deadlines need no more.
const IDLE: Duration = Duration::from_millis(500);

struct Running<R> {
    ticket: Ticket,
    rows: Vec<Option<R>>,
    images: Vec<Option<Pixels>>,
    began: Instant,
    text: Duration,
    decode: Duration,
    cost_milliunits: u64,
    slots: usize,
    cost_left: u64,
    failure: Option<InferError>,
}

impl<R> Running<R> {
    fn is_done(&self) -> bool {
        self.images.iter().all(Option::is_some)
    }
}

/// Runs until the queue is stopped and everything has ended.
pub fn run<W: Work>(work: &W, shared: &Shared) {
    rehearse(work, shared);
    let mut running: Vec<Running<W::Row>> = Vec::new();
    loop {
        let now = shared.now();
        drop_dead(shared, &mut running, now);
        begin(work, shared, &mut running);
        if running.is_empty() {
            let state = shared.lock();
            if state.queued() > 0 {
                continue;
            }
            if state.stopping {
                return;
            }
            shared.wait(state, IDLE);
            continue;
        }
        step(work, shared, &mut running);
        finish(work, shared, &mut running);
    }
}

/// Takes one small step before the first job, so that the rate is known from the start.
fn rehearse<W: Work>(work: &W, shared: &Shared) {
    let wanted = shared.lock().settings.warm_up;
    let Some(spec) = work.rehearsal().filter(|_| wanted) else {
        return;
    };
    let Ok(Ok(mut rows)) = guarded(|| work.rows(&spec)) else {
        return;
    };
    // The first call allocates and would count for too little.
    for counts in [false, true] {
        let mut refs: Vec<&mut W::Row> = rows.iter_mut().collect();
        let cost: u64 = refs.iter().map(|row| W::facts(row).step_cost()).sum();
        let start = shared.now();
        let stepped = guarded(|| work.step(&mut refs, usize::MAX));
        if counts && stepped.is_ok() {
            shared.lock().rate.observe(cost, shared.now() - start);
        }
    }
}

/// Lets go of jobs that are cancelled, late, or left over when the service stops.
fn drop_dead<R>(shared: &Shared, running: &mut Vec<Running<R>>, now: Instant) {
    let mut state = shared.lock();
    let dead = state.take_dead(now);
    let give_up = state.give_up.is_some_and(|at| at <= now);
    let mut gone = Vec::new();
    for i in (0..running.len()).rev() {
        let Some(job) = running.get(i) else { continue };
        let over = job
            .ticket
            .over(now)
            .or(give_up.then_some(JobError::Stopped));
        if let Some(error) = over {
            gone.push((remove(&mut state, running, i), error));
        }
    }
    if dead.is_empty() && gone.is_empty() {
        return;
    }
    state.tidy();
    state.publish_positions();
    drop(state);
    dead.into_iter()
        .for_each(|(job, error)| job.ticket.finish(Err(error)));
    gone.into_iter()
        .for_each(|(job, error)| job.ticket.finish(Err(error)));
}

fn remove<R>(state: &mut State, running: &mut Vec<Running<R>>, i: usize) -> Running<R> {
    let job = running.swap_remove(i);
    state.running -= 1;
    if let Some(lane) = state.lanes.get_mut(&job.ticket.user) {
        lane.slots = lane.slots.saturating_sub(job.slots);
        lane.running = lane.running.saturating_sub(job.cost_left);
    }
    job
}

/// Begins queued jobs while there is room for their rows.
fn begin<W: Work>(work: &W, shared: &Shared, running: &mut Vec<Running<W::Row>>) {
    loop {
        let mut state = shared.lock();
        let settings = state.settings.clone();
        let Some(job) = state.take_next(|spec| settings.slots(spec.width * spec.height)) else {
            return;
        };
        let Pending {
            spec, cost, ticket, ..
        } = job;
        // The estimate stands for the job while its prompt is encoded without the lock.
        lane(&mut state, &ticket.user).running += cost;
        state.running += 1;
        state.publish_positions();
        drop(state);
        let start = shared.now();
        shared.observe(Observation::Waited(start - ticket.admitted));
        let laid_out = guarded(|| work.rows(&spec)).unwrap_or(Err(InferError::Panicked));
        let text = shared.now() - start;
        shared.observe(Observation::Stage {
            stage: "text",
            took: text,
        });
        let mut state = shared.lock();
        state.rate.observe(0, text);
        let lane = lane(&mut state, &ticket.user);
        lane.running = lane.running.saturating_sub(cost);
        match laid_out {
            Err(error) => {
                state.running -= 1;
                state.tidy();
                drop(state);
                ticket.finish(Err(error.into()));
            }
            Ok(rows) => {
                let facts: Vec<_> = rows.iter().map(W::facts).collect();
                let job = Running {
                    images: rows.iter().map(|_| None).collect(),
                    rows: rows.into_iter().map(Some).collect(),
                    began: start,
                    text,
                    decode: Duration::ZERO,
                    cost_milliunits: spec.cost_milliunits(),
                    slots: facts.iter().map(|f| f.slots).sum(),
                    cost_left: facts.iter().map(Facts::cost_left).sum(),
                    failure: None,
                    ticket,
                };
                lane.slots += job.slots;
                lane.running += job.cost_left;
                let steps = facts.iter().map(|f| f.calls).max().unwrap_or(0);
                job.ticket
                    .progress
                    .send_replace(Progress::Running { step: 0, steps });
                running.push(job);
            }
        }
    }
}

fn lane<'a>(state: &'a mut State, user: &str) -> &'a mut Lane {
    state.lanes.entry(user.to_owned()).or_default()
}

/// One call of the denoiser with the rows whose turn it is.
fn step<W: Work>(work: &W, shared: &Shared, running: &mut [Running<W::Row>]) {
    let mut state = shared.lock();
    let limit = |area: usize| state.settings.slots(area);
    let mut candidates = Vec::new();
    let mut places = Vec::new();
    for (j, job) in running.iter().enumerate() {
        for (r, row) in job.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let facts = W::facts(row);
            if facts.done < facts.calls {
                let (key, slots) = (facts.key, facts.slots);
                let cost = facts.step_cost();
                let candidate = Candidate {
                    key,
                    cost,
                    slots,
                    limit: limit(facts.area),
                };
                candidates.push((job.ticket.user.as_str(), candidate));
                places.push((j, r));
            }
        }
    }
    let mut chosen = state.ring.pick(&candidates);
    drop(state);
    chosen.sort_unstable();
    let picked = |list: &[usize]| -> (usize, usize, u64) {
        let rows = list
            .iter()
            .filter_map(|i| candidates.get(*i))
            .map(|(_, c)| c);
        rows.fold((0, 0, 0), |(s, l, c), row| {
            (s + row.slots, l.max(row.limit), c + row.cost)
        })
    };
    let (slots, limit, cost) = picked(&chosen);
    let chosen: Vec<(usize, usize)> = chosen
        .into_iter()
        .filter_map(|i| places.get(i).copied())
        .collect();
    let mut rows: Vec<&mut W::Row> = Vec::new();
    for (j, job) in running.iter_mut().enumerate() {
        let watched = job.ticket.previews.receiver_count() > 0;
        for (r, row) in job.rows.iter_mut().enumerate() {
            if let Some(row) = row.as_mut().filter(|_| chosen.contains(&(j, r))) {
                if watched && r == 0 && is_preview_due(&W::facts(row)) {
                    work.want_preview(row);
                }
                rows.push(row);
            }
        }
    }
    let start = shared.now();
    let outcomes = stepped(work, &mut rows, limit);
    let took = shared.now() - start;
    shared.observe(Observation::Batch { slots });
    shared.observe(Observation::Stage {
        stage: "denoise",
        took,
    });
    let mut state = shared.lock();
    state.rate.observe(cost, took);
    running
        .iter_mut()
        .for_each(|job| settle::<W>(&mut state, job));
    state.work_to_first_end = work_to_first_end::<W>(running);
    drop(state);
    for ((j, _), outcome) in chosen.iter().zip(outcomes) {
        if let (Some(job), Err(error)) = (running.get_mut(*j), outcome) {
            // Its other rows are for nothing now; `finish` takes the job out.
            job.rows.clear();
            job.failure.get_or_insert(error);
        }
    }
    for job in running
        .iter_mut()
        .filter(|job| job.ticket.previews.receiver_count() > 0)
    {
        let row = job.rows.first_mut().and_then(Option::as_mut);
        let preview = row.and_then(|row| guarded(|| work.preview(row)).ok().flatten());
        if let Some(preview) = preview {
            job.ticket.previews.send_replace(Some(Arc::new(preview)));
        }
    }
}

/// About five times a job, and never for the last step, which the picture itself follows.
fn is_preview_due<K>(facts: &Facts<K>) -> bool {
    let every = (facts.calls / 5).max(1);
    facts.done + 1 < facts.calls && (facts.done + 1).is_multiple_of(every)
}

/// Writes a job's remaining work and progress down after a step.
fn settle<W: Work>(state: &mut State, job: &mut Running<W::Row>) {
    let facts: Vec<_> = job.rows.iter().flatten().map(W::facts).collect();
    let left: u64 = facts.iter().map(Facts::cost_left).sum();
    let lane = lane(state, &job.ticket.user);
    lane.running = (lane.running + left).saturating_sub(job.cost_left);
    job.cost_left = left;
    let slowest = facts.iter().min_by_key(|f| f.done);
    let Some(now) = slowest.map(|f| Progress::Running {
        step: f.done,
        steps: f.calls,
    }) else {
        return;
    };
    job.ticket.progress.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}

/// Work until the first of the running jobs ends, when all go on together.
fn work_to_first_end<W: Work>(running: &[Running<W::Row>]) -> u64 {
    let rows =
        |job: &Running<W::Row>| -> Vec<_> { job.rows.iter().flatten().map(W::facts).collect() };
    let jobs: Vec<_> = running.iter().map(rows).collect();
    let a_round: u64 = jobs.iter().flatten().map(Facts::step_cost).sum();
    let rounds = jobs
        .iter()
        .filter_map(|rows| rows.iter().map(|f| f.calls.saturating_sub(f.done)).max());
    a_round * rounds.min().unwrap_or(0) as u64
}

/// Steps all rows; where the engine panics, each row alone, so that only the guilty one fails.
fn stepped<W: Work>(
    work: &W,
    rows: &mut [&mut W::Row],
    limit: usize,
) -> Vec<Result<(), InferError>> {
    let before: Vec<usize> = rows.iter().map(|row| W::facts(row).done).collect();
    match guarded(|| work.step(rows, limit)) {
        Ok(outcomes) if outcomes.len() == rows.len() => outcomes,
        _ => rows
            .iter_mut()
            .zip(before)
            .map(|(row, before)| {
                // This one got through before the panic.
                if W::facts(row).done > before {
                    return Ok(());
                }
                let alone = guarded(|| work.step(&mut [&mut **row], limit));
                alone
                    .ok()
                    .and_then(|mut one| one.pop())
                    .unwrap_or(Err(InferError::Panicked))
            })
            .collect(),
    }
}

/// Decodes rows that have taken all their steps and hands over jobs that are complete.
fn finish<W: Work>(work: &W, shared: &Shared, running: &mut Vec<Running<W::Row>>) {
    for i in (0..running.len()).rev() {
        let Some(job) = running.get_mut(i) else {
            continue;
        };
        for (row, image) in job.rows.iter_mut().zip(&mut job.images) {
            let ready = row.as_ref().is_some_and(|row| {
                let facts = W::facts(row);
                facts.done >= facts.calls
            });
            if let Some(finished) = row.take_if(|_| ready) {
                let start = shared.now();
                match guarded(|| work.decode(&finished)).unwrap_or(Err(InferError::Panicked)) {
                    Ok(pixels) => *image = Some(pixels),
                    Err(error) => drop(job.failure.get_or_insert(error)),
                }
                let took = shared.now() - start;
                job.decode += took;
                shared.observe(Observation::Stage {
                    stage: "decode",
                    took,
                });
                shared.lock().rate.observe(0, took);
            }
        }
        if job.failure.is_none() && !job.is_done() {
            continue;
        }
        let mut state = shared.lock();
        let job = remove(&mut state, running, i);
        state.tidy();
        state.publish_positions();
        drop(state);
        let outcome = match job.failure {
            Some(error) => Err(error.into()),
            None => Ok(Done {
                images: job.images.into_iter().flatten().collect(),
                queued: job.began - job.ticket.admitted,
                ran: shared.now() - job.began,
                text: job.text,
                decode: job.decode,
                cost_milliunits: job.cost_milliunits,
            }),
        };
        job.ticket.finish(outcome);
    }
}

/// Runs `work`; a panic is caught and told apart from an error.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ())
}
