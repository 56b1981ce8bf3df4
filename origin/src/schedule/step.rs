//! One call of the denoiser with the rows whose turn it is.

use super::Observation;
use super::fair::Candidate;
use super::queue::Shared;
use super::running::Running;
use super::stages::guarded;
use super::work::{Facts, Work};
use crate::infer::InferError;
use std::time::Instant;

/// Since when there is work, without a break, that no observation of the rate has counted yet.
#[derive(Default)]
pub struct Busy(Option<Instant>);

impl Busy {
    /// There is work from now on.
    pub fn begin(&mut self, now: Instant) {
        self.0.get_or_insert(now);
    }

    /// So much was done. All time with work counts, whatever the stages did in it side by side.
    pub fn count(&mut self, shared: &Shared, cost: u64) {
        let now = shared.now();
        if let Some(since) = self.0.replace(now) {
            shared.lock().rate.observe(cost, now - since);
        }
    }

    /// Nothing is left to do.
    pub fn end(&mut self, shared: &Shared) {
        if self.0.is_some() {
            self.count(shared, 0);
            self.0 = None;
        }
    }
}

/// The place of a row: its job's, and its own in the job.
type At = (usize, usize);

/// Takes a step; `false` when no row is here to take one.
pub fn step<W: Work>(
    work: &W,
    shared: &Shared,
    running: &mut [Running<W>],
    busy: &mut Busy,
) -> bool {
    let Some(turn) = choose(shared, running) else {
        return false;
    };
    let mut rows: Vec<&mut W::Row> = Vec::new();
    for (j, job) in running.iter_mut().enumerate() {
        let shows = job.is_watched() && !job.preview_away;
        for (r, picture) in job.pictures.iter_mut().flatten().enumerate() {
            let chosen = turn.rows.contains(&(j, r));
            if let Some(row) = picture.row_mut().filter(|_| chosen) {
                job.ticket.meter.add(W::facts(row).step_cost());
                if shows && r == 0 && is_preview_due(&W::facts(row)) {
                    work.want_preview(row);
                }
                rows.push(row);
            }
        }
    }
    let start = shared.now();
    let outcomes = stepped(work, &mut rows, turn.limit);
    let took = shared.now() - start;
    shared.observe(Observation::Batch { slots: turn.slots });
    shared.observe(Observation::Stage {
        stage: "denoise",
        took,
    });
    busy.count(shared, turn.cost);
    let mut state = shared.lock();
    for job in running.iter_mut().filter(|job| job.pictures.is_some()) {
        job.settle(&mut state);
        job.tell();
    }
    drop(state);
    for ((j, _), outcome) in turn.rows.iter().zip(outcomes) {
        if let (Some(job), Err(error)) = (running.get_mut(*j), outcome) {
            job.failure.get_or_insert(error);
        }
    }
    true
}

struct Turn {
    rows: Vec<At>,
    slots: usize,
    limit: usize,
    cost: u64,
}

/// Picks the rows of the next call by turns of their users.
fn choose<W: Work>(shared: &Shared, running: &[Running<W>]) -> Option<Turn> {
    let mut state = shared.lock();
    state.work_to_first_end = work_to_first_end(running);
    let mut candidates = Vec::new();
    let mut places: Vec<At> = Vec::new();
    for (j, job) in running.iter().enumerate() {
        for (r, picture) in job.pictures.iter().flatten().enumerate() {
            let Some(facts) = picture.row().map(W::facts) else {
                continue;
            };
            if facts.done < facts.calls {
                let candidate = Candidate {
                    key: facts.key,
                    cost: facts.step_cost(),
                    slots: facts.slots,
                    limit: state.settings.slots(facts.area).min(facts.most_slots),
                };
                candidates.push((job.ticket.user.as_str(), candidate));
                places.push((j, r));
            }
        }
    }
    let mut chosen = state.ring.pick(&candidates);
    drop(state);
    chosen.sort_unstable();
    let mut turn = Turn {
        rows: Vec::new(),
        slots: 0,
        limit: 0,
        cost: 0,
    };
    for i in chosen {
        if let (Some((_, row)), Some(at)) = (candidates.get(i), places.get(i)) {
            turn.rows.push(*at);
            turn.slots += row.slots;
            turn.limit = turn.limit.max(row.limit);
            turn.cost += row.cost;
        }
    }
    (!turn.rows.is_empty()).then_some(turn)
}

/// About five times a job, and never for the last step, which the picture itself follows.
fn is_preview_due<K>(facts: &Facts<K>) -> bool {
    let every = (facts.calls / 5).max(1);
    facts.done + 1 < facts.calls && (facts.done + 1).is_multiple_of(every)
}

/// Work until the first of the running jobs has taken its last step, when all go on together.
fn work_to_first_end<W: Work>(running: &[Running<W>]) -> u64 {
    let a_round: u64 = running
        .iter()
        .flat_map(Running::facts)
        .map(|row| row.step_cost())
        .sum();
    let rounds = running.iter().filter_map(|job| {
        let left = job.facts().map(|row| row.calls.saturating_sub(row.done));
        left.max()
    });
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
