//! What one user has used.

use std::collections::VecDeque;

use shared::gcra::Decision;

use super::super::headers::wait_seconds;
use super::super::{Allowance, Refusal};
use super::{CLOCK_STEP, HOUR, refusal};

/// Cost units count for so many whole hours after the one in which they were spent, so that no 24 hours hold more
/// than the limit.
pub(super) const UNIT_HOURS: u64 = 24;
const DAY_SECONDS: u64 = 86_400;

/// Times in nanoseconds; a rate's time is its `tat`, 0 when idle.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) rate: u64,
    pub(super) reads: u64,
    pub(super) uploads: u64,
    pub(super) writes: u64,
    pub(super) uploads_work: u64,
    /// Tokens that are not idle, by the hash of their id.
    pub(super) tokens: Vec<(u64, u64)>,
    /// Admissions of the last hour, oldest first.
    pub(super) hour: VecDeque<u64>,
    pub(super) jobs: u32,
    /// Milliunits by the hour they were spent in, oldest first.
    pub(super) units: Vec<(u64, u64)>,
}

/// What a user's part of an admission would change.
pub(super) struct Next {
    token: (u64, u64),
    rate: u64,
    pub(super) remaining: u64,
}

impl User {
    pub(super) fn is_idle(&self, now: u64) -> bool {
        let hour = now / HOUR;
        self.jobs == 0
            && self.rate <= now
            && self.reads <= now
            && self.uploads <= now
            && self.writes <= now
            && self.uploads_work <= now
            && self.tokens.iter().all(|&(_, tat)| tat <= now)
            && self.hour.back().is_none_or(|&at| at + HOUR <= now)
            && self
                .units
                .last()
                .is_none_or(|&(at, _)| at + UNIT_HOURS < hour)
    }

    /// Drops what no longer counts. Times that a clock set back left in the future count from now on.
    pub(super) fn forget(&mut self, now: u64) {
        while self
            .hour
            .front()
            .is_some_and(|&at| at.saturating_add(HOUR) <= now)
        {
            self.hour.pop_front();
        }
        let latest = now.saturating_add(CLOCK_STEP);
        for at in self.hour.iter_mut().rev().take_while(|at| **at > latest) {
            *at = now;
        }
        let hour = now / HOUR;
        self.units
            .retain(|&(at, _)| at.saturating_add(UNIT_HOURS) >= hour);
        if self.units.last().is_some_and(|&(at, _)| at > hour + 1) {
            for (at, _) in &mut self.units {
                *at = (*at).min(hour);
            }
        }
        self.tokens.retain(|&(_, tat)| tat > now);
    }

    /// Milliunits that count now.
    pub(super) fn spent(&self) -> u64 {
        self.units
            .iter()
            .fold(0u64, |sum, &(_, spent)| sum.saturating_add(spent))
    }

    pub(super) fn token(&self, token: u64) -> u64 {
        self.tokens
            .iter()
            .find(|(known, _)| *known == token)
            .map_or(0, |&(_, tat)| tat)
    }

    /// Asks every layer in order; changes nothing that counts.
    pub(super) fn ask(
        &mut self,
        token: u64,
        cost: u64,
        allowed: &Allowance,
        now: u64,
    ) -> Result<Next, Refusal> {
        self.forget(now);
        let rate = |policy, rate: shared::gcra::Rate, tat: u64| match rate.decide(Some(tat), now) {
            Decision::Pass { tat, remaining, .. } => Ok((tat, u64::from(remaining))),
            Decision::Refuse { retry_after, .. } => Err(refusal(policy, rate, retry_after)),
        };
        let (token_tat, token_left) = rate("token", allowed.token, self.token(token))?;
        let (user_tat, user_left) = rate("user", allowed.user, self.rate)?;
        let hour_left = self.ask_hour(allowed, now)?;
        if self.jobs >= allowed.jobs {
            // How long a job takes is not known here; the next second is an honest time to look again.
            return Err(Refusal {
                policy: "jobs",
                limit: u64::from(allowed.jobs),
                window_seconds: 1,
                retry_after: 1,
            });
        }
        self.ask_units(cost, allowed, now)?;
        Ok(Next {
            token: (token, token_tat),
            rate: user_tat,
            remaining: token_left.min(user_left).min(hour_left),
        })
    }

    fn ask_hour(&self, allowed: &Allowance, now: u64) -> Result<u64, Refusal> {
        let (limit, used) = (u64::from(allowed.user_hour), self.hour.len() as u64);
        if used < limit {
            return Ok(limit - used - 1);
        }
        // A plan may have shrunk: the place is free when enough have left, not when the first has.
        let leaves = self
            .hour
            .get(usize::try_from(used - limit).unwrap_or(0))
            .copied()
            .unwrap_or(now);
        Err(Refusal {
            policy: "user-hour",
            limit,
            window_seconds: 3600,
            retry_after: wait_seconds(leaves.saturating_add(HOUR).saturating_sub(now)),
        })
    }

    fn ask_units(&self, cost: u64, allowed: &Allowance, now: u64) -> Result<(), Refusal> {
        let Some(limit) = allowed.milliunits_day else {
            return Ok(());
        };
        let mut used = self.spent();
        let fits = |used: u64| used.checked_add(cost).is_some_and(|sum| sum <= limit);
        if fits(used) {
            return Ok(());
        }
        let refuse = |retry_after| Refusal {
            policy: "units-day",
            limit: limit / 1000,
            window_seconds: DAY_SECONDS,
            retry_after,
        };
        for &(hour, spent) in &self.units {
            used = used.saturating_sub(spent);
            if fits(used) {
                let free = (hour + UNIT_HOURS + 1).saturating_mul(HOUR);
                return Err(refuse(wait_seconds(free.saturating_sub(now))));
            }
        }
        // More than the limit by itself: no wait helps.
        Err(refuse(DAY_SECONDS))
    }

    /// Charges what [`User::ask`] found room for.
    pub(super) fn charge(&mut self, next: &Next, cost: u64, now: u64) {
        let (token, tat) = next.token;
        match self.tokens.iter_mut().find(|(known, _)| *known == token) {
            Some(known) => known.1 = tat,
            None => self.tokens.push((token, tat)),
        }
        self.rate = next.rate;
        self.jobs = self.jobs.saturating_add(1);
        self.remember(now, cost);
    }

    /// An admission at `at` that cost so much: into the sliding hour and the day.
    pub(super) fn remember(&mut self, at: u64, cost: u64) {
        // Threads read their clocks before they take the lock: keep the order all the same.
        let place = self.hour.iter().rposition(|&known| known <= at);
        self.hour.insert(place.map_or(0, |place| place + 1), at);
        if cost > 0 {
            let hour = at / HOUR;
            match self.units.iter_mut().find(|(known, _)| *known == hour) {
                Some((_, spent)) => *spent = spent.saturating_add(cost),
                None => {
                    self.units.push((hour, cost));
                    self.units.sort_unstable();
                }
            }
        }
    }

    /// Gives milliunits of this hour back.
    pub(super) fn give_back(&mut self, at: u64, cost: u64) {
        // Where the clock was set back in between, the units moved to an earlier hour.
        let hour = at / HOUR;
        if let Some((_, spent)) = self.units.iter_mut().rfind(|(known, _)| *known <= hour) {
            *spent = spent.saturating_sub(cost);
        }
        self.units.retain(|&(_, spent)| spent > 0);
    }
}
