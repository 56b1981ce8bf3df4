//! What an admission charged, to be kept or given back exactly once.

use super::memory::{Limits, Taken};

/// A charged admission. Dropping it gives everything back; [`Reservation::commit`] keeps what was charged and frees
/// the place among the concurrent jobs.
#[derive(Debug)]
pub struct Reservation {
    limits: Limits,
    taken: Option<Taken>,
    /// What is left of the tightest policy, for the log and the answer.
    pub remaining: u64,
}

impl Reservation {
    pub(super) fn new(limits: Limits, taken: Taken, remaining: u64) -> Self {
        Self {
            limits,
            taken: Some(taken),
            remaining,
        }
    }

    /// The work was done, or used the accelerator: the charge stays.
    pub fn commit(mut self) {
        if let Some(taken) = self.taken.take() {
            self.limits.settle(&taken, false);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.limits.settle(&taken, true);
        }
    }
}
