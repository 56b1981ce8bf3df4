//! What an admission charged, to be kept or given back exactly once.

use super::{Allowance, Charge, Limits, Ticket};

/// How an admission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// All is given back.
    Refund,
    /// The charge stays, with so many of its milliunits.
    Keep(u64),
}

/// A charged admission. Dropping it gives everything back while the job waits; once the accelerator works on it
/// ([`Reservation::start`]) a drop keeps the charge of the rates, and of the cost units the part that was worked off:
/// a caller who always leaves early pays for what it made the accelerator do. Either way the place among the
/// concurrent jobs is freed.
#[derive(Debug)]
pub struct Reservation {
    limits: Limits,
    ticket: Option<Ticket>,
    milliunits: u64,
    /// Steps run and steps in all, once the accelerator works on it.
    ran: Option<(u64, u64)>,
    allowed: Allowance,
    /// What is left of the tightest policy, for the log and the answer.
    pub remaining: u64,
}

impl Reservation {
    pub(super) fn new(
        limits: Limits,
        ticket: Option<Ticket>,
        charge: &Charge<'_>,
        remaining: u64,
    ) -> Self {
        Self {
            limits,
            ticket,
            milliunits: charge.milliunits,
            ran: None,
            allowed: charge.allowed,
            remaining,
        }
    }

    /// The user's limits, as they were at admission.
    pub fn allowed(&self) -> &Allowance {
        &self.allowed
    }

    /// The accelerator works on it from now on; until steps are told, all of it counts as worked off.
    pub fn start(&mut self) {
        self.ran.get_or_insert((1, 1));
    }

    /// The accelerator has taken so many of its steps. The step under way counts as taken.
    pub fn progress(&mut self, step: usize, steps: usize) {
        let steps = (steps as u64).max(1);
        self.ran = Some(((step as u64).saturating_add(1).min(steps), steps));
    }

    /// The work was done: the charge stays.
    pub fn commit(mut self) {
        self.settle(Settle::Keep(self.milliunits));
    }

    /// The work failed, and not by the caller's doing: all is given back.
    pub fn refund(mut self) {
        self.settle(Settle::Refund);
    }

    fn settle(&mut self, settle: Settle) {
        if let Some(ticket) = self.ticket.take() {
            self.limits.settle(ticket, settle);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let settle = match self.ran {
            None => Settle::Refund,
            Some((run, steps)) => {
                let part = u128::from(self.milliunits) * u128::from(run);
                let part = part.div_ceil(u128::from(steps.max(1)));
                Settle::Keep(u64::try_from(part).unwrap_or(self.milliunits))
            }
        };
        self.settle(settle);
    }
}
