//! What an admission charged, to be kept or given back exactly once.

use super::memory::{Limits, Taken};

/// A charged admission. Dropping it gives everything back while the job waits; once the accelerator works on it
/// ([`Reservation::start`]) a drop keeps the charge, or a caller who always leaves early would compute for nothing.
/// Either way the place among the concurrent jobs is freed.
#[derive(Debug)]
pub struct Reservation {
    limits: Limits,
    taken: Option<Taken>,
    started: bool,
    /// What is left of the tightest policy, for the log and the answer.
    pub remaining: u64,
}

impl Reservation {
    pub(super) fn new(limits: Limits, taken: Taken, remaining: u64) -> Self {
        Self {
            limits,
            taken: Some(taken),
            started: false,
            remaining,
        }
    }

    /// The accelerator works on it from now on.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// The work was done, or used the accelerator: the charge stays.
    pub fn commit(self) {
        self.settle(false);
    }

    /// The work failed, and not by the caller's doing: all is given back.
    pub fn refund(self) {
        self.settle(true);
    }

    fn settle(mut self, refund: bool) {
        if let Some(taken) = self.taken.take() {
            self.limits.settle(&taken, refund);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.limits.settle(&taken, !self.started);
        }
    }
}
