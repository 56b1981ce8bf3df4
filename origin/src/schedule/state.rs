//! What submitters and the engine's thread share, under one lock held for microseconds.

use super::error::JobError;
use super::fair::{Ring, Share, work_ahead};
use super::handle::{Done, Life, Previews, Progress};
use super::rate::Rate;
use super::settings::Settings;
use crate::infer::ImageSpec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A job's ends that lead to its submitter.
pub struct Ticket {
    pub user: String,
    pub admitted: Instant,
    pub deadline: Option<Instant>,
    pub progress: watch::Sender<Progress>,
    pub previews: Previews,
    pub outcome: oneshot::Sender<Result<Done, JobError>>,
    pub life: Arc<Life>,
}

impl Ticket {
    /// Why the job should not go on, if it should not.
    pub fn over(&self, now: Instant) -> Option<JobError> {
        match self.deadline {
            _ if self.life.is_over() => Some(JobError::Cancelled),
            Some(deadline) if deadline <= now => Some(JobError::Deadline),
            _ => None,
        }
    }

    pub fn finish(self, outcome: Result<Done, JobError>) {
        self.progress.send_replace(Progress::Over);
        // Nobody listens any more when the submitter went away.
        let _ = self.outcome.send(outcome);
    }
}

/// A job nobody has begun.
pub struct Pending {
    pub spec: ImageSpec,
    /// Work, in pixels times denoiser rows times steps.
    pub cost: u64,
    pub ticket: Ticket,
}

/// One user's jobs.
#[derive(Default)]
pub struct Lane {
    pub pending: VecDeque<Pending>,
    /// Work left in jobs that run.
    pub running: u64,
    /// Denoiser rows that its running jobs take in a call.
    pub slots: usize,
}

impl Lane {
    pub fn backlog(&self) -> u64 {
        self.running + self.pending.iter().map(|job| job.cost).sum::<u64>()
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.slots == 0
    }
}

/// Everything under the lock.
pub struct State {
    pub settings: Settings,
    pub lanes: BTreeMap<String, Lane>,
    pub ring: Ring,
    pub rate: Rate,
    pub running: usize,
    pub stopping: bool,
    /// When what still runs is given up, once stopping.
    pub give_up: Option<Instant>,
    pub next_id: u64,
}

impl State {
    pub fn queued(&self) -> usize {
        self.lanes.values().map(|lane| lane.pending.len()).sum()
    }

    pub fn backlog(&self) -> u64 {
        self.lanes.values().map(Lane::backlog).sum()
    }

    /// By how much later a new job of that user would end than on an idle machine.
    pub fn delay(&self, user: &str, weight: u32, cost: u64) -> Duration {
        let share = |name: &str, lane: &Lane| Share {
            backlog: lane.backlog(),
            weight: self.ring.weight(name),
        };
        let own = Share {
            backlog: self.lanes.get(user).map_or(0, Lane::backlog),
            weight: u64::from(weight.max(1)),
        };
        let others = self.lanes.iter().filter(|(name, _)| *name != user);
        let ahead = work_ahead(own, others.map(|(name, lane)| share(name, lane)), cost);
        self.rate.time_for(ahead)
    }

    /// Queued jobs in the order they will start if nobody else comes: by the work each has
    /// ahead in its own lane, over the user's weight.
    fn order(&self) -> Vec<&Pending> {
        let mut waiting: Vec<(u128, usize, &Pending)> = Vec::new();
        for (turn, (name, weight)) in self.ring.users().enumerate() {
            let Some(lane) = self.lanes.get(name) else {
                continue;
            };
            let mut ahead = lane.running;
            for job in &lane.pending {
                waiting.push((u128::from(ahead) * 1000 / u128::from(weight), turn, job));
                ahead += job.cost;
            }
        }
        waiting.sort_by_key(|(start, turn, _)| (*start, *turn));
        waiting.into_iter().map(|(_, _, job)| job).collect()
    }

    /// Tells every queued job its position, where that has changed.
    pub fn publish_positions(&self) {
        for (position, job) in self.order().into_iter().enumerate() {
            let now = Progress::Queued { position };
            job.ticket.progress.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    }

    /// Takes out queued jobs that nobody wants any more, or all of them when stopping.
    pub fn take_dead(&mut self, now: Instant) -> Vec<(Pending, JobError)> {
        let mut dead = Vec::new();
        for lane in self.lanes.values_mut() {
            for job in std::mem::take(&mut lane.pending) {
                match job.ticket.over(now) {
                    Some(error) => dead.push((job, error)),
                    None if self.stopping => dead.push((job, JobError::Stopped)),
                    None => lane.pending.push_back(job),
                }
            }
        }
        dead
    }

    /// The next job to begin, if there is room for one: first users below their fair share of
    /// `slots`, then anybody while the call is not full. The one with the fewest rows goes first.
    pub fn take_next(&mut self, slots: impl Fn(&ImageSpec) -> usize) -> Option<Pending> {
        let weights: u64 = self.ring.users().map(|(_, weight)| weight).sum();
        let used: usize = self.lanes.values().map(|lane| lane.slots).sum();
        let mut best: Option<(u64, String)> = None;
        for (name, weight) in self.ring.users() {
            let Some(lane) = self.lanes.get(name) else {
                continue;
            };
            let Some(job) = lane.pending.front() else {
                continue;
            };
            let room = slots(&job.spec);
            let fair = (room as u64 * weight).div_ceil(weights.max(1));
            if used >= room && lane.slots as u64 >= fair {
                continue;
            }
            let level = lane.slots as u64 * 1000 / weight;
            if best.as_ref().is_none_or(|(least, _)| level < *least) {
                best = Some((level, name.to_owned()));
            }
        }
        let (_, name) = best?;
        self.lanes.get_mut(&name)?.pending.pop_front()
    }

    /// Forgets users without work.
    pub fn tidy(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_empty());
        let lanes = &self.lanes;
        self.ring.retain(|name| lanes.contains_key(name));
    }
}
