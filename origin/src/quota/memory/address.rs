//! What one address has used.

use std::collections::VecDeque;

use super::super::Refusal;
use super::super::headers::wait_seconds;
use super::{CLOCK_STEP, PENALTY_WINDOW, SECOND};

/// Times in nanoseconds; a rate's time is its `tat`, 0 when idle.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) rate: u64,
    pub(super) links: u64,
    pub(super) token_endpoint: u64,
    pub(super) penalty: Option<Box<Penalty>>,
}

/// Arrivals of an address, and whether it is blocked.
#[derive(Debug, Default)]
pub(super) struct Penalty {
    arrivals: VecDeque<u64>,
    blocked_until: u64,
}

impl Address {
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.rate <= now
            && self.links <= now
            && self.token_endpoint <= now
            && self
                .penalty
                .as_ref()
                .is_none_or(|penalty| penalty.is_idle(now))
    }
}

impl Penalty {
    fn is_idle(&self, now: u64) -> bool {
        self.blocked_until <= now
            && self
                .arrivals
                .back()
                .is_none_or(|&last| last.saturating_add(PENALTY_WINDOW) <= now)
    }

    /// Arrivals that count now, the limit when blocked, and nanoseconds until all is forgotten.
    pub(super) fn peek(&self, limit: u64, now: u64) -> (u64, u64) {
        if now < self.blocked_until {
            return (limit, self.blocked_until - now);
        }
        let live = |at: &&u64| at.saturating_add(PENALTY_WINDOW) > now;
        let used = self.arrivals.iter().filter(live).count() as u64;
        let last = self.arrivals.back().map_or(0, |&last| {
            last.saturating_add(PENALTY_WINDOW).saturating_sub(now)
        });
        (used.min(limit), last)
    }

    /// Counts an arrival.
    pub(super) fn arrive(&mut self, limit: u32, seconds: u64, now: u64) -> Result<(), Refusal> {
        let blocked = |until: u64| Refusal {
            policy: "penalty-box",
            limit: u64::from(limit),
            window_seconds: PENALTY_WINDOW / SECOND,
            retry_after: wait_seconds(until.saturating_sub(now)),
        };
        let longest = now.saturating_add(seconds.saturating_mul(SECOND));
        // A clock that was set back must not make a block longer than it was meant.
        self.blocked_until = self.blocked_until.min(longest);
        if now < self.blocked_until {
            return Err(blocked(self.blocked_until));
        }
        let is_live = |at: u64| {
            at.saturating_add(PENALTY_WINDOW) > now && at <= now.saturating_add(CLOCK_STEP)
        };
        while self.arrivals.front().is_some_and(|&at| !is_live(at)) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(now);
        if self.arrivals.len() > limit as usize {
            self.arrivals = VecDeque::new();
            self.blocked_until = longest;
            return Err(blocked(self.blocked_until));
        }
        Ok(())
    }
}
