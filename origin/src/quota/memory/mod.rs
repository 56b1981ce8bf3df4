//! The limits in memory: the part of an address and the part of a user are locked together for one decision.
//!
//! Both are spread over shards; the address's shard is always locked before the user's, so no two decisions can wait
//! for each other. What is idle is swept out shard by shard, so memory follows who is active.

mod address;
mod user;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::gcra::{Decision, Rate};
use shared::penalty::{self, Record};

use self::address::{Addresses, Of};
use self::user::User;
use super::headers::wait_seconds;
use super::{Ask, PolicyUse, Rates, Refusal, Settle, Simple, Taken};

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
            narrow: ask.narrow,
            wide: ask.wide,
            token,
            user: ask.user.into(),
            at: now,
            milliunits: cost,
            allowed: ask.allowed,
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
                    let token = user
                        .tokens
                        .iter_mut()
                        .find(|(known, _)| *known == taken.token);
                    if let Some((_, tat)) = token {
                        *tat = taken.allowed.token.refund(*tat, taken.at);
                    }
                    user.rate = taken.allowed.user.refund(user.rate, taken.at);
                    if let Some(at) = user.hour.iter().rposition(|&at| at == taken.at) {
                        user.hour.remove(at);
                    }
                }
            }
        }
        if settle == Settle::Refund
            && let Some(mut shard) = self.address_shard(taken.narrow, taken.wide)
        {
            if let Some(address) = shard.narrow.get_mut(&taken.narrow) {
                address.rate = rates.address.refund(address.rate, taken.at);
            }
            if let Some(network) = taken.wide.and_then(|wide| shard.wide.get_mut(&wide)) {
                network.rate = rates.wide.refund(network.rate, taken.at);
            }
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

    /// Counts a read or an upload of a user.
    pub(super) fn simple(
        &self,
        what: Simple,
        user: &str,
        rate: Rate,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut users) = self.user_shard(user) else {
            return Ok(());
        };
        users.sweep(now);
        let known = users.known.get_mut(user).map_or(0, |one| *what.of(one));
        let (tat, _) = decide(rate, known, what.policy(), now)?;
        match users.known.get_mut(user) {
            Some(one) => *what.of(one) = tat,
            None => *what.of(users.known.entry(user.into()).or_default()) = tat,
        }
        Ok(())
    }

    pub(super) fn link(&self, ask: &Ask<'_>, rates: &Rates, now: u64) -> Result<(), Refusal> {
        let Some(mut shard) = self.address_shard(ask.narrow, ask.wide) else {
            return Ok(());
        };
        shard.sweep(now);
        let next = shard.next(ask, ("links", rates.links), |one| &mut one.links, now)?;
        shard.charge(ask, &next, |one| &mut one.links);
        Ok(())
    }

    /// Counts a request for a token from an address, and when `client` is given against that client too.
    pub(super) fn token_endpoint(
        &self,
        ask: &Ask<'_>,
        client: Option<&str>,
        rates: &Rates,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut shard) = self.address_shard(ask.narrow, ask.wide) else {
            return Ok(());
        };
        shard.sweep(now);
        let of: Of = |one| &mut one.token_endpoint;
        let next = shard.next(ask, ("token-endpoint", rates.token_endpoint), of, now)?;
        if let Some(client) = client
            && let Some(mut users) = self.user_shard(client)
        {
            users.sweep(now);
            let key = self.hasher.hash_one(client);
            let known = users.clients.get(&key).copied().unwrap_or(0);
            let policy = "token-endpoint-client";
            let (tat, _) = decide(rates.token_endpoint_client, known, policy, now)?;
            users.clients.insert(key, tat);
        }
        shard.charge(ask, &next, of);
        Ok(())
    }

    /// The request in the client's name was good: it does not count against the client.
    pub(super) fn forgive_client(&self, client: &str, rates: &Rates, now: u64) {
        if let Some(mut users) = self.user_shard(client) {
            let key = self.hasher.hash_one(client);
            if let Some(tat) = users.clients.get_mut(&key) {
                *tat = rates.token_endpoint_client.refund(*tat, now);
            }
        }
    }

    /// What is used of every policy, in the order of [`super::usage`].
    pub(super) fn usage(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
        penalty: u32,
        now: u64,
    ) -> Vec<PolicyUse> {
        use super::usage::{count, rate, tighter};
        let rule = penalty_rule(penalty, 0);
        let penalty = |known: Option<&Record>, rule: penalty::Rule| {
            let (used, reset) = known.map_or((0, 0), |it| it.peek(rule, now));
            let limit = u64::from(rule.arrivals);
            count("penalty-box", limit, used, Some(60), Some(reset))
        };
        let (mut penalty_box, mut address) =
            (penalty(None, rule), rate("address", rates.address, 0, now));
        if let Some(shard) = self.address_shard(ask.narrow, ask.wide) {
            if let Some(one) = shard.narrow.get(&ask.narrow) {
                penalty_box = penalty(one.penalty.as_deref(), rule);
                address = rate("address", rates.address, one.rate, now);
            }
            if let Some(network) = ask.wide.and_then(|wide| shard.wide.get(&wide)) {
                let wide = penalty(network.penalty.as_deref(), rule.wide());
                penalty_box = tighter(penalty_box, Some(wide));
                let wide = rate("address", rates.wide, network.rate, now);
                address = tighter(address, Some(wide));
            }
        }
        let nobody = User::default();
        let mut users = self.user_shard(ask.user);
        let user = users
            .as_mut()
            .and_then(|users| users.known.get_mut(ask.user));
        let user: &User = match user {
            Some(user) => {
                user.forget(now);
                user
            }
            None => &nobody,
        };
        let token = user.token(self.hasher.hash_one(ask.token));
        let allowed = &ask.allowed;
        let hour_reset = user
            .hour
            .back()
            .map_or(0, |&last| last.saturating_add(HOUR).saturating_sub(now));
        let day_reset = user.units.last().map_or(0, |&(hour, _)| {
            (hour + user::UNIT_HOURS + 1)
                .saturating_mul(HOUR)
                .saturating_sub(now)
        });
        let mut rows = vec![
            penalty_box,
            address,
            rate("token", allowed.token, token, now),
            rate("user", allowed.user, user.rate, now),
            count(
                "user-hour",
                u64::from(allowed.user_hour),
                user.hour.len() as u64,
                Some(3600),
                Some(hour_reset),
            ),
            count(
                "jobs",
                u64::from(allowed.jobs),
                u64::from(user.jobs),
                None,
                None,
            ),
        ];
        if let Some(limit) = allowed.milliunits_day {
            let used = user.spent().div_ceil(1000);
            rows.push(count(
                "units-day",
                limit / 1000,
                used,
                Some(86_400),
                Some(day_reset),
            ));
        }
        rows.push(rate("reads", rates.reads, user.reads, now));
        rows.push(rate("uploads", rates.uploads, user.uploads, now));
        rows
    }
}

impl Simple {
    fn of(self, user: &mut User) -> &mut u64 {
        match self {
            Self::Reads => &mut user.reads,
            Self::Uploads => &mut user.uploads,
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
