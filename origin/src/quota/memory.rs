//! The limits in memory: one lock, one decision.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::client_ip::{self, WIDE_FACTOR};
use shared::gcra::{Decision, Rate};

use super::headers::wait_seconds;
use super::{LimitSettings, PolicyUse, RateSettings, Refusal, Reservation};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
/// The penalty box counts arrivals of the last so many nanoseconds.
const PENALTY_WINDOW: u64 = 60 * SECOND;
/// Idle entries are swept out after so many decisions.
const SWEEP_EVERY: u32 = 4096;

/// Who wants to spend.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The token's id.
    pub token: &'a str,
    /// The user.
    pub user: &'a str,
}

/// What one admission charged.
#[derive(Debug)]
pub(super) struct Taken {
    address: IpAddr,
    wide: Option<IpAddr>,
    token: Box<str>,
    user: Box<str>,
    at: u64,
}

/// Arrivals of an address, and whether it is blocked.
#[derive(Debug, Default)]
struct Penalty {
    arrivals: VecDeque<u64>,
    blocked_until: u64,
}

#[derive(Debug, Default)]
struct Tables {
    addresses: HashMap<IpAddr, u64>,
    wide: HashMap<IpAddr, u64>,
    tokens: HashMap<Box<str>, u64>,
    hours: HashMap<Box<str>, VecDeque<u64>>,
    jobs: HashMap<Box<str>, u32>,
    penalties: HashMap<IpAddr, Penalty>,
    reads: HashMap<Box<str>, u64>,
    uploads: HashMap<Box<str>, u64>,
    links: HashMap<IpAddr, u64>,
    token_endpoint: HashMap<IpAddr, u64>,
    decisions: u32,
}

#[derive(Debug)]
struct Rates {
    address: Rate,
    wide: Rate,
    token: Rate,
    reads: Rate,
    uploads: Rate,
    links: Rate,
    token_endpoint: Rate,
}

/// The limits of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limits {
    settings: Arc<LimitSettings>,
    rates: Arc<Rates>,
    tables: Arc<Mutex<Tables>>,
}

fn refusal(policy: &'static str, rate: Rate, wait: u64) -> Refusal {
    Refusal {
        policy,
        limit: u64::from(rate.capacity()),
        window_seconds: wait_seconds(rate.window()),
        retry_after: wait_seconds(wait),
    }
}

/// The new `tat`, or the refusal; changes nothing.
fn ask<K: Hash + Eq>(
    table: &HashMap<K, u64>,
    key: &K,
    rate: Rate,
    policy: &'static str,
    now: u64,
) -> Result<(u64, u64), Refusal> {
    match rate.decide(table.get(key).copied(), now) {
        Decision::Pass { tat, remaining, .. } => Ok((tat, u64::from(remaining))),
        Decision::Refuse { retry_after, .. } => Err(refusal(policy, rate, retry_after)),
    }
}

impl Limits {
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: &LimitSettings) -> Result<Self, String> {
        settings.validate()?;
        let rate = |one: RateSettings| one.rate().ok_or_else(|| "a rate of 0".to_owned());
        let wide = RateSettings {
            per_minute: settings.address.per_minute.saturating_mul(WIDE_FACTOR),
            burst: settings.address.burst.saturating_mul(WIDE_FACTOR),
        };
        let rates = Rates {
            address: rate(settings.address)?,
            wide: rate(wide)?,
            token: rate(settings.token)?,
            reads: rate(settings.reads)?,
            uploads: rate(settings.uploads)?,
            links: rate(settings.links)?,
            token_endpoint: rate(settings.token_endpoint)?,
        };
        Ok(Self {
            settings: Arc::new(settings.clone()),
            rates: Arc::new(rates),
            tables: Arc::default(),
        })
    }

    /// The configured limits.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Bytes a user may store.
    pub fn storage_limit(&self) -> u64 {
        if self.settings.enabled {
            self.settings.storage_bytes
        } else {
            u64::MAX
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic while locked leaves numbers that are still numbers.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an arrival at a generation route, refused and unauthenticated ones included. While an address is
    /// blocked its arrivals neither count nor extend the block. `now` in nanoseconds.
    ///
    /// # Errors
    /// The policy `penalty-box`.
    pub fn arrive(&self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        if !self.settings.enabled {
            return Ok(());
        }
        let mut tables = self.lock();
        // Arrivals that never get as far as an admission must not stay for ever either.
        tables.sweep(now);
        let penalty = tables
            .penalties
            .entry(client_ip::group(address).narrow)
            .or_default();
        let blocked = |until: u64| Refusal {
            policy: "penalty-box",
            limit: u64::from(self.settings.penalty_arrivals),
            window_seconds: PENALTY_WINDOW / SECOND,
            retry_after: wait_seconds(until.saturating_sub(now)),
        };
        if now < penalty.blocked_until {
            return Err(blocked(penalty.blocked_until));
        }
        while penalty
            .arrivals
            .front()
            .is_some_and(|&first| first.saturating_add(PENALTY_WINDOW) <= now)
        {
            penalty.arrivals.pop_front();
        }
        penalty.arrivals.push_back(now);
        if penalty.arrivals.len() > self.settings.penalty_arrivals as usize {
            penalty.arrivals = VecDeque::new();
            penalty.blocked_until =
                now.saturating_add(self.settings.penalty_seconds.saturating_mul(SECOND));
            return Err(blocked(penalty.blocked_until));
        }
        Ok(())
    }

    /// Charges every layer of a generation, or none. `now` in nanoseconds.
    ///
    /// # Errors
    /// The first layer that refused.
    pub fn admit(&self, charge: Charge<'_>, now: u64) -> Result<Reservation, Refusal> {
        let group = client_ip::group(charge.address);
        let taken = Taken {
            address: group.narrow,
            wide: group.wide,
            token: charge.token.into(),
            user: charge.user.into(),
            at: now,
        };
        if !self.settings.enabled {
            let mut tables = self.lock();
            *tables.jobs.entry(taken.user.clone()).or_default() += 1;
            return Ok(Reservation::new(self.clone(), taken, u64::MAX));
        }
        let rates = &self.rates;
        let mut tables = self.lock();
        tables.sweep(now);
        let (address_tat, address_left) = ask(
            &tables.addresses,
            &taken.address,
            rates.address,
            "address",
            now,
        )?;
        let wide_tat = match &taken.wide {
            Some(wide) => Some(ask(&tables.wide, wide, rates.wide, "address", now)?.0),
            None => None,
        };
        let (token_tat, token_left) = ask(&tables.tokens, &taken.token, rates.token, "token", now)?;
        let hour_left = tables.ask_hour(&taken.user, u64::from(self.settings.user_hour), now)?;
        let running = tables.jobs.get(&taken.user).copied().unwrap_or(0);
        if running >= self.settings.jobs {
            // How long a job takes is not known here; the next second is an honest time to look again.
            return Err(Refusal {
                policy: "jobs",
                limit: u64::from(self.settings.jobs),
                window_seconds: 1,
                retry_after: 1,
            });
        }
        // Nobody refused: charge all.
        tables.addresses.insert(taken.address, address_tat);
        if let (Some(wide), Some(tat)) = (taken.wide, wide_tat) {
            tables.wide.insert(wide, tat);
        }
        tables.tokens.insert(taken.token.clone(), token_tat);
        tables
            .hours
            .entry(taken.user.clone())
            .or_default()
            .push_back(now);
        tables.jobs.insert(taken.user.clone(), running + 1);
        drop(tables);
        let remaining = address_left.min(token_left).min(hour_left);
        Ok(Reservation::new(self.clone(), taken, remaining))
    }

    /// Frees the job's place, and gives the charge back when `refund`.
    pub(super) fn settle(&self, taken: &Taken, refund: bool) {
        let mut tables = self.lock();
        match tables.jobs.get_mut(&taken.user) {
            Some(running) if *running > 1 => *running -= 1,
            _ => {
                tables.jobs.remove(&taken.user);
            }
        }
        if !refund || !self.settings.enabled {
            return;
        }
        let rates = &self.rates;
        if let Some(tat) = tables.addresses.get_mut(&taken.address) {
            *tat = rates.address.refund(*tat, taken.at);
        }
        if let Some(tat) = taken
            .wide
            .as_ref()
            .and_then(|wide| tables.wide.get_mut(wide))
        {
            *tat = rates.wide.refund(*tat, taken.at);
        }
        if let Some(tat) = tables.tokens.get_mut(&taken.token) {
            *tat = rates.token.refund(*tat, taken.at);
        }
        if let Some(times) = tables.hours.get_mut(&taken.user)
            && let Some(at) = times.iter().rposition(|&time| time == taken.at)
        {
            times.remove(at);
        }
    }

    /// Counts a read of jobs or lists.
    ///
    /// # Errors
    /// The policy `reads`.
    pub fn read(&self, user: &str, now: u64) -> Result<(), Refusal> {
        let rate = self.rates.reads;
        self.simple(|tables| &mut tables.reads, user.into(), rate, "reads", now)
    }

    /// Counts an upload.
    ///
    /// # Errors
    /// The policy `uploads`.
    pub fn upload(&self, user: &str, now: u64) -> Result<(), Refusal> {
        let rate = self.rates.uploads;
        self.simple(
            |tables| &mut tables.uploads,
            user.into(),
            rate,
            "uploads",
            now,
        )
    }

    /// Counts an opened link.
    ///
    /// # Errors
    /// The policy `links`.
    pub fn link(&self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        let key = client_ip::group(address).narrow;
        self.simple(
            |tables| &mut tables.links,
            key,
            self.rates.links,
            "links",
            now,
        )
    }

    /// Counts a request for a token.
    ///
    /// # Errors
    /// The policy `token-endpoint`.
    pub fn token_endpoint(&self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        let key = client_ip::group(address).narrow;
        self.simple(
            |tables| &mut tables.token_endpoint,
            key,
            self.rates.token_endpoint,
            "token-endpoint",
            now,
        )
    }

    fn simple<K: Hash + Eq>(
        &self,
        table: impl Fn(&mut Tables) -> &mut HashMap<K, u64>,
        key: K,
        rate: Rate,
        policy: &'static str,
        now: u64,
    ) -> Result<(), Refusal> {
        if !self.settings.enabled {
            return Ok(());
        }
        let mut tables = self.lock();
        tables.sweep(now);
        let (tat, _) = ask(table(&mut tables), &key, rate, policy, now)?;
        table(&mut tables).insert(key, tat);
        Ok(())
    }

    /// Every limit that applies to the caller, as it stands. `stored` in bytes, `now` in nanoseconds.
    pub fn usage(&self, charge: Charge<'_>, stored: u64, now: u64) -> Vec<PolicyUse> {
        if !self.settings.enabled {
            return Vec::new();
        }
        let tables = self.lock();
        let rate = |policy, rate: Rate, tat: Option<u64>| {
            let (remaining, reset) = rate.peek(tat, now);
            let limit = u64::from(rate.capacity());
            PolicyUse {
                policy,
                limit,
                used: limit - u64::from(remaining),
                remaining: u64::from(remaining),
                window_seconds: Some(wait_seconds(rate.window())),
                reset_seconds: Some(reset.div_ceil(SECOND)),
            }
        };
        let count = |policy, limit: u64, used: u64, window, reset| PolicyUse {
            policy,
            limit,
            used,
            remaining: limit.saturating_sub(used),
            window_seconds: window,
            reset_seconds: reset,
        };
        let times = tables.hours.get(charge.user);
        let recent = |time: &&u64| time.saturating_add(HOUR) > now;
        let used = times.map_or(0, |times| times.iter().filter(recent).count() as u64);
        let last = times
            .and_then(|times| times.back())
            .map_or(0, |&last| last.saturating_add(HOUR).saturating_sub(now));
        vec![
            rate(
                "address",
                self.rates.address,
                tables
                    .addresses
                    .get(&client_ip::group(charge.address).narrow)
                    .copied(),
            ),
            rate(
                "token",
                self.rates.token,
                tables.tokens.get(charge.token).copied(),
            ),
            count(
                "user-hour",
                u64::from(self.settings.user_hour),
                used,
                Some(3600),
                Some(last.div_ceil(SECOND)),
            ),
            count(
                "jobs",
                u64::from(self.settings.jobs),
                u64::from(tables.jobs.get(charge.user).copied().unwrap_or(0)),
                None,
                None,
            ),
            count("storage", self.settings.storage_bytes, stored, None, None),
            rate(
                "reads",
                self.rates.reads,
                tables.reads.get(charge.user).copied(),
            ),
            rate(
                "uploads",
                self.rates.uploads,
                tables.uploads.get(charge.user).copied(),
            ),
        ]
    }
}

impl Tables {
    /// How many of the sliding hour would be left after one more.
    fn ask_hour(&mut self, user: &str, limit: u64, now: u64) -> Result<u64, Refusal> {
        let Some(times) = self.hours.get_mut(user) else {
            return Ok(limit - 1);
        };
        while times
            .front()
            .is_some_and(|&first| first.saturating_add(HOUR) <= now)
        {
            times.pop_front();
        }
        let used = times.len() as u64;
        match times.front() {
            Some(&first) if used >= limit => Err(Refusal {
                policy: "user-hour",
                limit,
                window_seconds: 3600,
                retry_after: wait_seconds(first.saturating_add(HOUR).saturating_sub(now)),
            }),
            _ => Ok(limit - used - 1),
        }
    }

    /// Forgets what is idle, now and then, so that memory follows who is active.
    fn sweep(&mut self, now: u64) {
        self.decisions += 1;
        if self.decisions < SWEEP_EVERY {
            return;
        }
        self.decisions = 0;
        self.addresses.retain(|_, tat| *tat > now);
        self.wide.retain(|_, tat| *tat > now);
        self.tokens.retain(|_, tat| *tat > now);
        self.reads.retain(|_, tat| *tat > now);
        self.uploads.retain(|_, tat| *tat > now);
        self.links.retain(|_, tat| *tat > now);
        self.token_endpoint.retain(|_, tat| *tat > now);
        self.hours.retain(|_, times| {
            times
                .back()
                .is_some_and(|&last| last.saturating_add(HOUR) > now)
        });
        let recent = |penalty: &Penalty| {
            penalty
                .arrivals
                .back()
                .is_some_and(|&last| last.saturating_add(PENALTY_WINDOW) > now)
        };
        self.penalties
            .retain(|_, penalty| penalty.blocked_until > now || recent(penalty));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000 * SECOND;

    fn limits(change: impl Fn(&mut LimitSettings)) -> Limits {
        let mut settings = LimitSettings::default();
        change(&mut settings);
        Limits::new(&settings).unwrap()
    }

    fn charge<'a>(address: &str, token: &'a str, user: &'a str) -> Charge<'a> {
        Charge {
            address: address.parse().unwrap(),
            token,
            user,
        }
    }

    fn used(limits: &Limits, charge: Charge<'_>) -> Vec<(&'static str, u64)> {
        limits
            .usage(charge, 0, NOW)
            .into_iter()
            .map(|row| (row.policy, row.used))
            .collect()
    }

    #[test]
    fn an_address_passes_burst_and_one_more() {
        let limits = limits(|_| {});
        let kept: Vec<_> = (0..10)
            .map(|_| limits.admit(charge("192.0.2.1", "t", "u"), NOW))
            .collect();
        assert_eq!(kept.iter().filter(|one| one.is_ok()).count(), 4);
        let refusal = kept.into_iter().find_map(Result::err).unwrap();
        assert_eq!(
            (refusal.policy, refusal.limit, refusal.retry_after),
            ("address", 4, 12)
        );
    }

    #[test]
    fn a_refusal_of_any_layer_charges_no_other() {
        let limits = limits(|settings| settings.user_hour = 2);
        let first: Vec<_> = (0..2)
            .map(|_| limits.admit(charge("192.0.2.1", "t", "u"), NOW).unwrap())
            .collect();
        let before = used(&limits, charge("192.0.2.1", "t", "u"));
        for _ in 0..100 {
            assert_eq!(
                limits
                    .admit(charge("192.0.2.1", "t", "u"), NOW)
                    .unwrap_err()
                    .policy,
                "user-hour"
            );
        }
        assert_eq!(used(&limits, charge("192.0.2.1", "t", "u")), before);
        first.into_iter().for_each(Reservation::commit);
    }

    #[test]
    fn a_dropped_reservation_gives_all_back_and_a_committed_one_only_its_place() {
        let limits = limits(|_| {});
        let who = charge("192.0.2.1", "t", "u");
        let idle = used(&limits, who);
        drop(limits.admit(who, NOW).unwrap());
        assert_eq!(used(&limits, who), idle);
        limits.admit(who, NOW).unwrap().commit();
        let after = used(&limits, who);
        assert!(
            after.contains(&("address", 1))
                && after.contains(&("user-hour", 1))
                && after.contains(&("jobs", 0))
        );
    }

    #[test]
    fn the_hour_slides() {
        let limits = limits(|settings| {
            settings.user_hour = 3;
            settings.address = RateSettings {
                per_minute: 1_000,
                burst: 1_000,
            };
        });
        let at = |seconds: u64| {
            limits
                .admit(charge("192.0.2.1", "t", "u"), NOW + seconds * SECOND)
                .map(Reservation::commit)
        };
        assert!(at(0).is_ok() && at(1_000).is_ok() && at(2_000).is_ok());
        assert_eq!(at(3_599).unwrap_err().retry_after, 1);
        assert!(at(3_600).is_ok());
        assert_eq!(at(3_601).unwrap_err().retry_after, 999);
    }

    #[test]
    fn a_steady_client_above_its_limit_still_gets_its_limit() {
        let limits = limits(|settings| {
            settings.address = RateSettings {
                per_minute: 1_000,
                burst: 1_000,
            };
            settings.token = RateSettings {
                per_minute: 1_000,
                burst: 1_000,
            };
        });
        // 60 an hour against 50: over ten hours every hour gets its 50.
        let granted = (0..600)
            .filter(|n| {
                limits
                    .admit(charge("192.0.2.1", "t", "u"), NOW + n * 60 * SECOND)
                    .map(Reservation::commit)
                    .is_ok()
            })
            .count();
        assert_eq!(granted, 500);
    }

    #[test]
    fn concurrent_admissions_are_exact() {
        let limits = limits(|settings| {
            settings.address = RateSettings {
                per_minute: 1,
                burst: 49,
            };
            settings.token = RateSettings {
                per_minute: 1_000,
                burst: 1_000,
            };
            settings.jobs = 1_000;
            settings.user_hour = 1_000;
        });
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..125)
                            .filter(|_| {
                                limits
                                    .admit(charge("192.0.2.1", "t", "u"), NOW)
                                    .map(Reservation::commit)
                                    .is_ok()
                            })
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(granted, 50);
    }

    #[test]
    fn the_penalty_box_blocks_for_its_time_and_not_longer() {
        let limits = limits(|_| {});
        let at = |seconds: u64| limits.arrive("192.0.2.1".parse().unwrap(), NOW + seconds * SECOND);
        assert!((0..30).all(|_| at(0).is_ok()));
        assert_eq!(at(1).unwrap_err().retry_after, 600);
        // Arrivals while blocked do not extend the block.
        assert!((2..601).step_by(3).all(|seconds| at(seconds).is_err()));
        assert!(at(601).is_ok());
        assert!(limits.arrive("192.0.2.2".parse().unwrap(), NOW).is_ok());
    }

    #[test]
    fn an_ipv6_network_has_ten_times_the_room_of_its_part() {
        let limits = limits(|settings| {
            settings.token = RateSettings {
                per_minute: 10_000,
                burst: 10_000,
            };
            settings.jobs = 1_000;
            settings.user_hour = 1_000;
        });
        let granted = (0..100)
            .filter(|n| {
                let address = format!("2001:db8:0:{n:x}::1");
                limits
                    .admit(charge(&address, "t", "u"), NOW)
                    .map(Reservation::commit)
                    .is_ok()
            })
            .count();
        assert_eq!(granted, 31);
    }

    #[test]
    fn refused_strangers_leave_no_memory() {
        let limits = limits(|_| {});
        for n in 0..20_000u32 {
            let address = IpAddr::V4((0x0a00_0000 + n).into());
            let charge = Charge {
                address,
                token: "t",
                user: "u",
            };
            // Hours later each is idle again, so the sweep finds them.
            drop(limits.admit(charge, NOW + u64::from(n) * 7_200 * SECOND));
        }
        assert!(limits.lock().addresses.len() <= SWEEP_EVERY as usize);
    }

    #[test]
    fn arrivals_of_strangers_leave_no_memory() {
        let limits = limits(|_| {});
        for n in 0..20_000u64 {
            // Each from a /64 of its own, and long after the one before.
            let address = IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(n) << 64).into());
            limits.arrive(address, NOW + n * 120 * SECOND).unwrap();
        }
        assert!(limits.lock().penalties.len() <= SWEEP_EVERY as usize);
    }

    #[test]
    fn leaving_early_is_free_only_until_the_work_starts() {
        let limits = limits(|_| {});
        let who = charge("192.0.2.1", "t", "u");
        let mut running = limits.admit(who, NOW).unwrap();
        running.start();
        drop(running);
        let after = used(&limits, who);
        assert!(after.contains(&("user-hour", 1)) && after.contains(&("address", 1)));
        assert!(after.contains(&("jobs", 0)));
        let mut failed = limits.admit(who, NOW).unwrap();
        failed.start();
        failed.refund();
        assert_eq!(used(&limits, who), after);
    }

    #[test]
    fn switched_off_they_refuse_nothing() {
        let limits = limits(|settings| settings.enabled = false);
        for _ in 0..1_000 {
            limits.arrive("192.0.2.1".parse().unwrap(), NOW).unwrap();
            limits
                .admit(charge("192.0.2.1", "t", "u"), NOW)
                .unwrap()
                .commit();
        }
        assert_eq!(limits.usage(charge("192.0.2.1", "t", "u"), 0, NOW), []);
    }
}
