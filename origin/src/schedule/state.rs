//! What submitters and the engine's thread share, under one lock held for microseconds.

use super::error::{JobError, QueueError};
use super::fair::{Ring, Share, work_ahead, work_until};
use super::handle::{Done, Life, Meter, Previews, Progress};
use super::rate::Rate;
use super::settings::Settings;
use crate::infer::ImageSpec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A job's ends that lead to its submitter.
pub struct Ticket {
    /// In order of admission.
    pub id: u64,
    pub user: String,
    pub admitted: Instant,
    pub deadline: Option<Instant>,
    pub progress: watch::Sender<Progress>,
    pub previews: Previews,
    pub outcome: oneshot::Sender<Result<Done, JobError>>,
    pub life: Arc<Life>,
    pub meter: Arc<Meter>,
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
    /// When it starts, in work a unit of weight: jobs start in this order.
    pub tag: u64,
    /// Whether it is prepared ahead of its turn.
    pub is_ahead: bool,
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
    /// The tag of the user's next job, if it is not behind the time by then.
    pub next_tag: u64,
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
    /// Where jobs run side by side: how many of them one place gets done a second.
    pub calls: Rate,
    pub running: usize,
    /// Jobs that run side by side without slowing each other; 0 where they share one machine.
    pub parallel: usize,
    /// Something has happened that the thread has not looked at.
    pub stirred: bool,
    pub stopping: bool,
    /// When what still runs is given up, once stopping.
    pub give_up: Option<Instant>,
    pub next_id: u64,
    /// The tag of the job that started last.
    pub virtual_time: u64,
    /// Work until the first of the running jobs ends, when all go on together.
    pub work_to_first_end: u64,
}

/// Tags count thousandths of work a unit of weight, so that weights do not round to nothing.
const GRAIN: u64 = 1000;

impl State {
    pub fn queued(&self) -> usize {
        self.lanes.values().map(|lane| lane.pending.len()).sum()
    }

    pub fn backlog(&self) -> u64 {
        self.lanes.values().map(Lane::backlog).sum()
    }

    fn shares(&self, user: &str, weight: u32) -> (Share, Vec<Share>) {
        let own = Share {
            backlog: self.lanes.get(user).map_or(0, Lane::backlog),
            weight: u64::from(weight.max(1)),
        };
        let others = self.lanes.iter().filter(|(name, _)| *name != user);
        let others = others.map(|(name, lane)| Share {
            backlog: lane.backlog(),
            weight: self.ring.weight(name),
        });
        (own, others.collect())
    }

    /// How long a job takes that has all it can use; nothing before anything was measured.
    pub fn alone(&self, cost: u64) -> Duration {
        match self.parallel {
            0 => self.rate.time_for(cost),
            // What a service elsewhere takes does not grow with our units.
            _ => self.calls.time_for(1),
        }
    }

    /// Whether a job of that user is admitted: its smallest call in pixels and the bytes that it would lack, its work,
    /// and how long is left until its deadline, if it has one.
    ///
    /// # Errors
    /// See [`QueueError`].
    pub fn admits(
        &self,
        (pixels, lacking): (u64, u64),
        cost: u64,
        left: Option<Duration>,
        user: &str,
        weight: u32,
    ) -> Result<(), QueueError> {
        if self.stopping {
            return Err(QueueError::Stopping);
        }
        let allowed = self.settings.batch_pixels as u64;
        if pixels > allowed {
            return Err(QueueError::TooLarge { pixels, allowed });
        }
        if lacking > 0 {
            return Err(QueueError::OverBudget { lacking });
        }
        let needed = self.alone(cost);
        if let Some(left) = left.filter(|left| needed > *left) {
            return Err(QueueError::OverDeadline { needed, left });
        }
        if self.queued() >= self.settings.depth {
            // A place is free when the first running job has ended and the next begins.
            let retry_after = self.rate.time_for(self.work_to_first_end);
            return Err(QueueError::Full { retry_after });
        }
        let longest = Duration::from_secs(self.settings.longest_wait_seconds);
        let longest = left.map_or(longest, |left| longest.min(left.saturating_sub(needed)));
        if self.delay(user, weight, cost) > longest {
            let retry_after = self.time_until(user, weight, cost, longest);
            return Err(QueueError::Busy { retry_after });
        }
        Ok(())
    }

    /// By how much later a new job of that user would end than on an idle machine.
    pub fn delay(&self, user: &str, weight: u32, cost: u64) -> Duration {
        if self.queued() + self.running < self.parallel {
            return Duration::ZERO;
        }
        let (own, others) = self.shares(user, weight);
        self.rate.time_for(work_ahead(own, others, cost))
    }

    /// When that delay is `longest` at most, if nobody else comes.
    pub fn time_until(&self, user: &str, weight: u32, cost: u64, longest: Duration) -> Duration {
        let (own, others) = self.shares(user, weight);
        let rate = self.rate.per_second().unwrap_or(0.0);
        let allowed = (rate * longest.as_secs_f64()) as u64;
        self.rate.time_for(work_until(own, &others, cost, allowed))
    }

    /// Puts a job at the end of its user's lane. Its tag says when it starts: after the user's
    /// jobs before it, and not before what has started by now (start-time fair queueing, Goyal,
    /// Vin and Cheng, 1996).
    pub fn enqueue(&mut self, user: &str, weight: u32, mut job: Pending) {
        self.ring.join(user, weight);
        let now = self.virtual_time;
        let lane = self.lanes.entry(user.to_owned()).or_default();
        job.tag = lane.next_tag.max(now);
        lane.next_tag = job.tag + job.cost * GRAIN / u64::from(weight.max(1));
        lane.pending.push_back(job);
    }

    /// Queued jobs in the order they start if nobody else comes.
    fn order(&self) -> Vec<&Pending> {
        let mut waiting: Vec<&Pending> = self.lanes.values().flat_map(|l| &l.pending).collect();
        waiting.sort_by_key(|job| (job.tag, job.ticket.id));
        waiting
    }

    /// Those of the next `count` queued jobs that are not prepared yet; they count as prepared now.
    pub fn take_ahead(&mut self, count: usize) -> Vec<(u64, Arc<Life>, ImageSpec)> {
        let next = self.order().into_iter().take(count);
        let ids: Vec<u64> = next
            .filter(|job| !job.is_ahead)
            .map(|job| job.ticket.id)
            .collect();
        let waiting = self.lanes.values_mut().flat_map(|lane| &mut lane.pending);
        let taken = waiting.filter(|job| ids.contains(&job.ticket.id));
        let told = taken.map(|job| {
            job.is_ahead = true;
            (
                job.ticket.id,
                Arc::clone(&job.ticket.life),
                job.spec.clone(),
            )
        });
        told.collect()
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

    /// When a queued job, or all that run, will be too late.
    pub fn next_deadline(&self) -> Option<Instant> {
        let queued = self.lanes.values().flat_map(|lane| &lane.pending);
        let deadlines = queued.filter_map(|job| job.ticket.deadline);
        deadlines.chain(self.give_up).min()
    }

    /// Takes out queued jobs that nobody wants any more, or all of them when stopping.
    pub fn take_dead(&mut self, now: Instant) -> Vec<(Pending, JobError)> {
        let mut dead = Vec::new();
        let now_tag = self.virtual_time;
        for (name, lane) in &mut self.lanes {
            let before = lane.pending.len();
            let mut tag = lane.pending.front().map_or(0, |job| job.tag);
            for job in std::mem::take(&mut lane.pending) {
                match job.ticket.over(now) {
                    Some(error) => dead.push((job, error)),
                    None if self.stopping => dead.push((job, JobError::Stopped)),
                    None => lane.pending.push_back(job),
                }
            }
            if lane.pending.len() < before {
                // Those behind move up.
                let weight = self.ring.weight(name);
                for job in &mut lane.pending {
                    job.tag = job.tag.min(tag.max(now_tag));
                    tag = job.tag + job.cost * GRAIN / weight;
                }
                lane.next_tag = tag;
            }
        }
        dead
    }

    /// The job to begin next, if there is room for it: while the call is not full, and beyond it
    /// as long as its user is below a fair share of the `slots`. Nobody overtakes it, so that the
    /// positions that were told are true.
    pub fn take_next(&mut self, slots: impl Fn(&ImageSpec) -> usize) -> Option<Pending> {
        let weights: u64 = self.ring.users().map(|(_, weight)| weight).sum();
        let used: usize = self.lanes.values().map(|lane| lane.slots).sum();
        let heads = self.lanes.iter();
        let heads = heads.filter_map(|(name, lane)| Some((name, lane, lane.pending.front()?)));
        let (name, lane, job) = heads.min_by_key(|(_, _, job)| (job.tag, job.ticket.id))?;
        let room = slots(&job.spec);
        let weight = self.ring.weight(name);
        let fair = (room as u64 * weight).div_ceil(weights.max(1));
        if used >= room && lane.slots as u64 >= fair {
            return None;
        }
        let name = name.clone();
        let job = self.lanes.get_mut(&name)?.pending.pop_front()?;
        self.virtual_time = self.virtual_time.max(job.tag);
        Some(job)
    }

    /// Forgets users without work.
    pub fn tidy(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_empty());
        let lanes = &self.lanes;
        self.ring.retain(|name| lanes.contains_key(name));
        if self.lanes.is_empty() {
            self.virtual_time = 0;
        }
    }
}
