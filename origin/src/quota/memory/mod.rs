//! The limits in memory: the part of an address and the part of a user are locked together for one decision.
//!
//! Both are spread over shards; the address's shard is always locked before the user's, so no two decisions can wait
//! for each other. What is idle is swept out shard by shard, so memory follows who is active.

mod address;
mod requests;
mod usage;
mod user;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::gcra::{Decision, Rate};
use shared::penalty;

use self::address::Addresses;
use self::user::User;
use super::headers::wait_seconds;
use super::{Ask, Rates, Refusal, Settle, Taken, TakenRates};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const HOUR: u64 = 3_600 * SECOND;
/// The penalty box counts arrivals of the last so many nanoseconds.
const PENALTY_WINDOW: u64 = 60 * SECOND;
/// Stored times so far ahead of the clock mean that it was set back.
const CLOCK_STEP: u64 = 60 * SECOND;
/// A shard is swept after so many decisions, or as many as it has entries.
const SWEEP_AFTER: usize = 256;
const SHARDS: usize = 64;

#[derive(Debug, Default)]
struct Users {
    known: HashMap<Box<str>, User>,
    /// Failed token requests by the hash of the client's id.
    clients: HashMap<u64, u64>,
    decisions: usize,
}

/// All counters of one process.
#[derive(Debug)]
pub(super) struct Memory {
    addresses: Vec<Mutex<Addresses>>,
    users: Vec<Mutex<Users>>,
    hasher: RandomState,
}

/// The penalty box in nanoseconds.
fn penalty_rule(arrivals: u32, seconds: u64) -> penalty::Rule {
    penalty::Rule {
        arrivals,
        window: PENALTY_WINDOW,
        block: seconds.saturating_mul(SECOND),
        step: CLOCK_STEP,
    }
}

pub(super) fn refusal(policy: &'static str, rate: Rate, wait: u64) -> Refusal {
    Refusal {
        policy,
        limit: u64::from(rate.capacity()),
        window_seconds: wait_seconds(rate.window()),
        retry_after: wait_seconds(wait),
    }
}

fn decide(rate: Rate, tat: u64, policy: &'static str, now: u64) -> Result<(u64, u64), Refusal> {
    match rate.decide(Some(tat), now) {
        Decision::Pass { tat, remaining, .. } => Ok((tat, u64::from(remaining))),
        Decision::Refuse { retry_after, .. } => Err(refusal(policy, rate, retry_after)),
    }
}

/// Locks one shard. A panic while locked leaves numbers that are still numbers.
fn lock<T>(shards: &[Mutex<T>], hash: u64) -> Option<MutexGuard<'_, T>> {
    let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
    shards
        .get(index)
        .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            addresses: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            users: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            hasher: RandomState::new(),
        }
    }

    fn address_shard(
        &self,
        narrow: IpAddr,
        wide: Option<IpAddr>,
    ) -> Option<MutexGuard<'_, Addresses>> {
        lock(
            &self.addresses,
            self.hasher.hash_one(wide.unwrap_or(narrow)),
        )
    }

    fn user_shard(&self, user: &str) -> Option<MutexGuard<'_, Users>> {
        lock(&self.users, self.hasher.hash_one(user))
    }

    /// Counts an arrival at a generation route. `now` in nanoseconds.
    pub(super) fn arrive(
        &self,
        ask: &Ask<'_>,
        limit: u32,
        seconds: u64,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut shard) = self.address_shard(ask.narrow, ask.wide) else {
            return Ok(());
        };
        shard.sweep(now);
        let rule = penalty_rule(limit, seconds);
        shard.arrive(ask, rule, now).map_err(|blocked| Refusal {
            policy: "penalty-box",
            limit: u64::from(limit),
            window_seconds: PENALTY_WINDOW / SECOND,
            retry_after: wait_seconds(blocked.until.saturating_sub(now)),
        })
    }

    /// Charges every layer, or none; what is left of the tightest rate.
    pub(super) fn admit(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
        now: u64,
    ) -> Result<(Taken, u64), Refusal> {
        let token = self.hasher.hash_one(ask.token);
        let (Some(mut addresses), Some(mut users)) = (
            self.address_shard(ask.narrow, ask.wide),
            self.user_shard(ask.user),
        ) else {
            return Err(refusal("address", rates.address, SECOND));
        };
        addresses.sweep(now);
        users.sweep(now);
        let rate = ("address", [rates.address, rates.wide]);
        let address = addresses.next(ask, rate, |one| &mut one.rate, now)?;
        let mut remaining = address.remaining;
        let cost = ask.milliunits;
        match users.known.get_mut(ask.user) {
            Some(user) => {
                let next = user.ask(token, cost, &ask.allowed, now)?;
                user.charge(&next, cost, now);
                remaining = remaining.min(next.remaining);
            }
            None => {
                // A stranger who is refused leaves nothing behind.
                let mut user = User::default();
                let next = user.ask(token, cost, &ask.allowed, now)?;
                user.charge(&next, cost, now);
                remaining = remaining.min(next.remaining);
                users.known.insert(ask.user.into(), user);
            }
        }
        addresses.charge(ask, &address, |one| &mut one.rate);
        let taken = Taken {
            user: ask.user.into(),
            at: now,
            milliunits: cost,
            rates: Some(TakenRates {
                narrow: ask.narrow,
                wide: ask.wide,
                token,
                allowed: ask.allowed,
            }),
        };
        Ok((taken, remaining))
    }

    /// Frees the job's place, and gives back what is not kept.
    pub(super) fn settle(&self, taken: &Taken, settle: Settle, rates: &Rates) {
        if let Some(mut users) = self.user_shard(&taken.user)
            && let Some(user) = users.known.get_mut(&taken.user)
        {
            user.jobs = user.jobs.saturating_sub(1);
            match settle {
                Settle::Keep(kept) => {
                    user.give_back(taken.at, taken.milliunits.saturating_sub(kept));
                }
                Settle::Refund => {
                    user.give_back(taken.at, taken.milliunits);
                    if let Some(charged) = &taken.rates {
                        let token = user
                            .tokens
                            .iter_mut()
                            .find(|(known, _)| *known == charged.token);
                        if let Some((_, tat)) = token {
                            *tat = charged.allowed.token.refund(*tat, taken.at);
                        }
                        user.rate = charged.allowed.user.refund(user.rate, taken.at);
                    }
                    if let Some(at) = user.hour.iter().rposition(|&at| at == taken.at) {
                        user.hour.remove(at);
                    }
                }
            }
        }
        if settle == Settle::Refund
            && let Some(charged) = &taken.rates
            && let Some(mut shard) = self.address_shard(charged.narrow, charged.wide)
        {
            if let Some(address) = shard.narrow.get_mut(&charged.narrow) {
                address.rate = rates.address.refund(address.rate, taken.at);
            }
            if let Some(network) = charged.wide.and_then(|wide| shard.wide.get_mut(&wide)) {
                network.rate = rates.wide.refund(network.rate, taken.at);
            }
        }
    }

    /// A job of before the last start, which holds its place until it ends.
    pub(super) fn occupy(&self, user: &str) {
        if let Some(mut users) = self.user_shard(user) {
            let user = users.known.entry(user.into()).or_default();
            user.jobs = user.jobs.saturating_add(1);
        }
    }

    /// A spend of before the last start.
    pub(super) fn remember(&self, user: &str, at: u64, milliunits: u64) {
        if let Some(mut users) = self.user_shard(user) {
            users
                .known
                .entry(user.into())
                .or_default()
                .remember(at, milliunits);
        }
    }
}

impl Users {
    fn sweep(&mut self, now: u64) {
        self.decisions += 1;
        if self.decisions > SWEEP_AFTER.max(self.known.len() + self.clients.len()) {
            self.decisions = 0;
            self.known.retain(|_, user| !user.is_idle(now));
            self.clients.retain(|_, tat| *tat > now);
        }
    }
}

#[cfg(test)]
impl Memory {
    /// Addresses and users that are kept.
    pub(super) fn kept(&self) -> (usize, usize) {
        let addresses = |shard: &Mutex<Addresses>| shard.lock().unwrap().narrow.len();
        let users = |shard: &Mutex<Users>| shard.lock().unwrap().known.len();
        (
            self.addresses.iter().map(addresses).sum(),
            self.users.iter().map(users).sum(),
        )
    }
}
