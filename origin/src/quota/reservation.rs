//! What an admission charged, to be kept or given back exactly once.
//!
//! Until the admission is written into a job's row ([`Reservation::write`]) it lives here alone, and dropping it gives
//! everything back. From then on it is the row's: whoever ends the job settles it there, in one transaction with the
//! end, and tells the counts ([`Reservation::settled`]). Dropped before, as when the process stops, it leaves everything
//! as it is.

use super::{Charge, Limits, Ticket};
use crate::state::charges::JobCharge;
use crate::state::jobs::JobRow;

/// How an admission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// All is given back.
    Refund,
    /// The charge stays, with so many of its milliunits.
    Keep(u64),
}

/// A charged admission. Once something of its work is done ([`Reservation::worked`]) the charge of the rates stays, and
/// of the cost units the part that was worked off, however the job ends: who leaves early, is denied or comes too late
/// pays for what ran. Where nothing ran all is given back. Either way the place among the concurrent jobs is freed.
#[derive(Debug)]
pub struct Reservation {
    limits: Limits,
    ticket: Option<Ticket>,
    milliunits: u64,
    /// Milliunits that were worked off; none before the first.
    ran: Option<u64>,
    /// What of it an earlier process worked off.
    before: Option<u64>,
    is_written: bool,
    admitted: u64,
    /// The user's share of a busy machine, as it was at admission.
    pub weight: u32,
    /// What is left of the tightest policy, for the log and the answer.
    pub remaining: u64,
}

impl Reservation {
    pub(super) fn new(
        limits: Limits,
        ticket: Option<Ticket>,
        charge: &Charge<'_>,
        now: u64,
        remaining: u64,
    ) -> Self {
        Self {
            limits,
            ticket,
            milliunits: charge.milliunits,
            ran: None,
            before: None,
            is_written: false,
            admitted: now,
            weight: charge.allowed.weight,
            remaining,
        }
    }

    pub(super) fn resumed(limits: Limits, ticket: Option<Ticket>, job: &JobRow) -> Self {
        let ran = Some(job.charge.ran.min(job.milliunits)).filter(|&ran| ran > 0);
        Self {
            limits,
            ticket,
            milliunits: job.milliunits,
            ran,
            before: ran,
            is_written: true,
            admitted: job.charge.admitted,
            weight: job.charge.weight.max(1),
            remaining: 0,
        }
    }

    /// What a job's row keeps of it. From now on it is the row's.
    pub fn write(&mut self) -> JobCharge {
        self.is_written = true;
        let (spend, admission) = match &self.ticket {
            None => (None, None),
            Some(Ticket::Here { record, .. }) => (record.as_deref().map(str::to_owned), None),
            Some(Ticket::Shared(admitted)) => (None, serde_json::to_string(admitted).ok()),
        };
        JobCharge {
            admitted: self.admitted,
            weight: self.weight,
            ran: self.ran.unwrap_or(0),
            spend,
            admission,
        }
    }

    /// The row could not be written: it is its own again.
    pub fn unwritten(&mut self) {
        self.is_written = false;
    }

    /// So much of its work was done, of so much in all, in whatever unit.
    pub fn worked(&mut self, part: u64, whole: u64) {
        if part == 0 {
            return;
        }
        let whole = u128::from(whole.max(1));
        let ran = (u128::from(self.milliunits) * u128::from(part)).div_ceil(whole);
        let ran = u64::try_from(ran).unwrap_or(u64::MAX).min(self.milliunits);
        self.ran = self.ran.max(Some(ran));
    }

    /// What seemed to work on it has done nothing that counts.
    pub fn idled(&mut self) {
        self.ran = self.before;
    }

    /// Thousandths of a unit that stay charged if it ends now; none: nothing ran, and all is given back.
    pub fn kept(&self) -> Option<u64> {
        self.ran
    }

    /// All of it was done: the charge stays.
    pub fn commit(mut self) {
        self.worked(1, 1);
        self.settle();
    }

    /// Nothing of it counts: all is given back.
    pub fn refund(mut self) {
        self.ran = None;
        self.settle();
    }

    /// Its row was settled with what is kept: the counts follow. Once.
    pub fn settled(&mut self) {
        self.settle();
    }

    fn settle(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let settle = self.kept().map_or(Settle::Refund, Settle::Keep);
            self.limits.settle(ticket, settle, !self.is_written);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_written {
            self.settle();
        }
    }
}
