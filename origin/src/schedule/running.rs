//! A job that has begun: where each of its pictures is, and what it holds under the lock.

use super::handle::{Done, Progress};
use super::state::{State, Ticket};
use super::work::{Facts, Work};
use crate::infer::{InferError, Pixels};
use std::time::{Duration, Instant};

/// One picture of a job.
pub enum Picture<R> {
    /// Between steps.
    Here(R),
    /// With the decoder.
    Away,
    Made(Pixels),
}

impl<R> Picture<R> {
    /// Its row, between steps.
    pub fn row(&self) -> Option<&R> {
        match self {
            Self::Here(row) => Some(row),
            _ => None,
        }
    }

    pub fn row_mut(&mut self) -> Option<&mut R> {
        match self {
            Self::Here(row) => Some(row),
            _ => None,
        }
    }
}

/// A job that has begun.
pub struct Running<W: Work> {
    pub ticket: Ticket,
    /// `None` while its rows are being laid out.
    pub pictures: Option<Vec<Picture<W::Row>>>,
    pub began: Instant,
    pub text: Duration,
    pub decode: Duration,
    pub cost_milliunits: u64,
    pub failure: Option<InferError>,
    /// A preview is being drawn, or waits for it.
    pub preview_away: bool,
    slots: usize,
    cost_left: u64,
}

impl<W: Work> Running<W> {
    /// Takes a place among the running jobs, for `slots` denoiser rows and `cost` as estimated.
    pub fn begin(
        state: &mut State,
        ticket: Ticket,
        began: Instant,
        (slots, cost, cost_milliunits): (usize, u64, u64),
    ) -> Self {
        state.running += 1;
        let mut job = Self {
            ticket,
            pictures: None,
            began,
            text: Duration::ZERO,
            decode: Duration::ZERO,
            cost_milliunits,
            failure: None,
            preview_away: false,
            slots: 0,
            cost_left: 0,
        };
        job.hold(state, slots, cost);
        job
    }

    /// Gives the place back.
    pub fn leave(&mut self, state: &mut State) {
        state.running -= 1;
        self.hold(state, 0, 0);
    }

    /// Writes down what the rows that are here take.
    pub fn settle(&mut self, state: &mut State) {
        let (slots, cost) = self.facts().fold((0, 0), |(slots, cost), row| {
            (slots + row.slots, cost + row.cost_left())
        });
        self.hold(state, slots, cost);
    }

    fn hold(&mut self, state: &mut State, slots: usize, cost_left: u64) {
        let lane = state.lanes.entry(self.ticket.user.clone()).or_default();
        lane.slots = (lane.slots + slots).saturating_sub(self.slots);
        lane.running = (lane.running + cost_left).saturating_sub(self.cost_left);
        (self.slots, self.cost_left) = (slots, cost_left);
    }

    /// Where the rows that are here stand.
    pub fn facts(&self) -> impl Iterator<Item = Facts<W::Key>> {
        let pictures = self.pictures.iter().flatten();
        pictures.filter_map(Picture::row).map(W::facts)
    }

    /// Tells the step of the slowest row that is here.
    pub fn tell(&self) {
        let Some(slowest) = self.facts().min_by_key(|row| row.done) else {
            return;
        };
        let now = Progress::Running {
            step: slowest.done,
            steps: slowest.calls,
        };
        self.ticket.progress.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// Whether somebody looks at its previews.
    pub fn is_watched(&self) -> bool {
        self.ticket.previews.receiver_count() > 0
    }

    /// Whether nothing is left to do for it.
    pub fn is_over(&self) -> bool {
        let is_made = |picture: &Picture<_>| matches!(picture, Picture::Made(_));
        let pictures = self.pictures.as_ref();
        self.failure.is_some() || pictures.is_some_and(|all| all.iter().all(is_made))
    }

    /// Tells the submitter how it ended.
    pub fn finish(self, now: Instant) {
        let pictures = self.pictures.into_iter().flatten();
        let outcome = match self.failure {
            // What was left undone because nobody wants it is no failure of the engine.
            Some(error) => Err(self.ticket.over(now).unwrap_or(error.into())),
            None => Ok(Done {
                images: pictures
                    .filter_map(|picture| match picture {
                        Picture::Made(pixels) => Some(pixels),
                        _ => None,
                    })
                    .collect(),
                queued: self.began - self.ticket.admitted,
                ran: now - self.began,
                text: self.text,
                decode: self.decode,
                cost_milliunits: self.cost_milliunits,
            }),
        };
        // What is away for it need not be made.
        self.ticket.life.close();
        self.ticket.finish(outcome);
    }
}
