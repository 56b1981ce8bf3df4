//! What is asked of the server.

use std::net::IpAddr;
use std::time::Duration;

use shared::client_ip::WIDE_FACTOR;
use shared::gcra::Rate;

use super::script::Packed;
use super::settler::Message;
use super::{Admitted, Remote, RemoteError, address_key, key, short_hash};
use crate::quota::headers::wait_seconds;
use crate::quota::memory::refusal;
use crate::quota::reservation::Settle;
use crate::quota::usage::{count, rate, tighter};
use crate::quota::{Ask, PolicyUse, Rates, Refusal};

/// The server counts in microseconds.
const MICRO: u64 = 1_000;
const DAY_SECONDS: u64 = 86_400;

/// A decision of the server's.
pub(super) type Verdict<T> = Result<Result<T, Refusal>, RemoteError>;

fn emission(rate: Rate) -> u64 {
    rate.emission().div_ceil(MICRO)
}

fn tolerance(rate: Rate) -> u64 {
    emission(rate).saturating_mul(u64::from(rate.capacity()) - 1)
}

impl Packed {
    fn rate(self, rate: Rate) -> Self {
        self.number(emission(rate)).number(tolerance(rate))
    }

    /// A rate as one sees it that counts for so many, as [`Rate::times`].
    fn times(self, rate: Rate, count: u32) -> Self {
        let (one, count) = (emission(rate), count.clamp(1, rate.capacity()));
        let more = one.saturating_mul(u64::from(count) - 1);
        self.number(one.saturating_add(more))
            .number(tolerance(rate).saturating_sub(more))
    }
}

/// Keys of a user, an address and perhaps its network, in the order the scripts take them.
fn keys(ask: &Ask<'_>) -> Vec<String> {
    let mut keys = vec![key("u", ask.user), address_key("a", ask.narrow)];
    keys.extend(ask.wide.map(|wide| address_key("w", wide)));
    keys
}

/// Gives an admission up whose answer never came, or was not waited for: it may have been charged all the same.
struct GiveUp<'a>(&'a Remote, Option<Admitted>);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if let Some(admitted) = self.1.take() {
            self.0.send(Message::Settle {
                admitted,
                settle: Settle::Refund,
                may_come: true,
            });
        }
    }
}

impl Remote {
    /// Charges every layer, or none; what is left of the tightest rate.
    pub(in crate::quota) async fn admit(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
    ) -> Verdict<(Admitted, u64)> {
        self.admit_as(rand::random(), ask, rates).await
    }

    /// Under this name; sent twice it is charged once.
    pub(in crate::quota) async fn admit_as(
        &self,
        id: [u8; 8],
        ask: &Ask<'_>,
        rates: &Rates,
    ) -> Verdict<(Admitted, u64)> {
        let allowed = &ask.allowed;
        let admitted = Admitted {
            id,
            keys: keys(ask),
            emissions: [rates.address, rates.wide, allowed.token, allowed.user].map(emission),
        };
        let unit_limit = allowed.milliunits_day.unwrap_or(0);
        let packed = Packed::new(self).rate(rates.address);
        let packed = match ask.wide {
            Some(_) => packed.rate(rates.wide),
            None => packed.number(0).number(0),
        };
        let packed = packed
            .rate(allowed.token)
            .rate(allowed.user)
            .number(u64::from(allowed.user_hour))
            .number(u64::from(allowed.jobs))
            .number(u64::from(allowed.milliunits_day.is_some()))
            .number(unit_limit)
            .number(ask.milliunits)
            .name(admitted.id)
            .name(short_hash(ask.token));
        let mut undecided = GiveUp(self, Some(admitted));
        let Some(keys) = undecided.1.as_ref().map(|admitted| admitted.keys.clone()) else {
            return Err(RemoteError::Broken("no keys".into()));
        };
        let answer = self.decision(keys, packed).await;
        if matches!(answer, Err(RemoteError::Broken(_))) {
            // It was ended before anything was written for it.
            undecided.1 = None;
        }
        let [layer, number] = answer?;
        let admitted = undecided.1.take();
        let wait = number.saturating_mul(MICRO);
        let fixed = |policy, limit, window_seconds| Refusal {
            policy,
            limit,
            window_seconds,
            retry_after: wait_seconds(wait),
        };
        Ok(match (layer, admitted) {
            (0, Some(admitted)) => Ok((admitted, number)),
            (1, _) => Err(refusal("address", rates.address, wait)),
            (2, _) => Err(refusal("address", rates.wide, wait)),
            (3, _) => Err(refusal("token", allowed.token, wait)),
            (4, _) => Err(refusal("user", allowed.user, wait)),
            (5, _) => Err(fixed("user-hour", u64::from(allowed.user_hour), 3600)),
            (6, _) => Err(fixed("jobs", u64::from(allowed.jobs), 1)),
            (7, _) => Err(fixed("units-day", unit_limit / 1000, DAY_SECONDS)),
            (other, _) => return Err(RemoteError::Broken(format!("layer {other}"))),
        })
    }

    /// Tells the server how an admission ended, as soon as it is there.
    pub(in crate::quota) fn settle(&self, admitted: Admitted, settle: Settle) {
        self.send(Message::Settle {
            admitted,
            settle,
            may_come: false,
        });
    }

    pub(in crate::quota) async fn settle_now(
        &self,
        admitted: &Admitted,
        settle: Settle,
        may_come: bool,
    ) -> Result<(), RemoteError> {
        let [address, wide, token, user] = admitted.emissions;
        let (refund, kept) = match settle {
            Settle::Refund => (1, 0),
            Settle::Keep(kept) => (0, kept),
        };
        let packed = Packed::new(self)
            .number(address)
            .number(wide)
            .number(token)
            .number(user)
            .number(refund)
            .number(kept)
            .number(u64::from(may_come))
            .name(admitted.id);
        self.run::<1>(&self.inner.scripts.settle, &admitted.keys, packed)
            .await
            .map(|_| ())
    }

    /// Counts an arrival at a generation route.
    pub(in crate::quota) async fn arrive(
        &self,
        ask: &Ask<'_>,
        limit: u32,
        seconds: u64,
    ) -> Verdict<()> {
        let packed = Packed::new(self)
            .number(u64::from(limit))
            .number(u64::from(limit.saturating_mul(WIDE_FACTOR)))
            .number(60_000_000)
            .number(seconds.saturating_mul(1_000_000));
        let mut keys = vec![address_key("p", ask.narrow)];
        keys.extend(ask.wide.map(|wide| address_key("pw", wide)));
        let [blocked, wait] = self
            .run::<2>(&self.inner.scripts.arrive, &keys, packed)
            .await?;
        Ok(if blocked == 0 {
            Ok(())
        } else {
            Err(Refusal {
                policy: "penalty-box",
                limit: u64::from(limit),
                window_seconds: 60,
                retry_after: wait_seconds(wait.saturating_mul(MICRO)),
            })
        })
    }

    /// Charges rates that stand for themselves, all or none: policy, rate and the name it counts by.
    pub(in crate::quota) async fn rates(
        &self,
        asked: &[(&'static str, Rate, String)],
    ) -> Verdict<()> {
        let keys: Vec<String> = asked
            .iter()
            .map(|(policy, _, name)| key(policy, name))
            .collect();
        let packed = asked
            .iter()
            .fold(Packed::new(self), |packed, (_, rate, _)| packed.rate(*rate));
        let [refused, wait] = self
            .run::<2>(&self.inner.scripts.rates, &keys, packed)
            .await?;
        let refused = usize::try_from(refused)
            .ok()
            .and_then(|index| asked.get(index.checked_sub(1)?));
        Ok(match refused {
            None => Ok(()),
            Some((policy, rate, _)) => Err(refusal(policy, *rate, wait.saturating_mul(MICRO))),
        })
    }

    /// Charges one rate of a user so many times, or not at all.
    pub(in crate::quota) async fn spend(
        &self,
        policy: &'static str,
        of: Rate,
        user: &str,
        count: u32,
    ) -> Verdict<()> {
        let packed = Packed::new(self).times(of, count);
        let [refused, wait] = self
            .run::<2>(&self.inner.scripts.rates, &[key(policy, user)], packed)
            .await?;
        Ok(if refused == 0 {
            Ok(())
        } else {
            Err(refusal(policy, of, wait.saturating_mul(MICRO)))
        })
    }

    /// The name a client's failures count by: ids come from strangers, and may be of any length.
    pub(in crate::quota) fn client_name(client: &str) -> String {
        short_hash(client)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Gives one pass of a rate back.
    pub(in crate::quota) async fn forgive(
        &self,
        policy: &'static str,
        of: Rate,
        name: &str,
    ) -> Result<(), RemoteError> {
        let packed = Packed::new(self).number(emission(of));
        self.run::<2>(&self.inner.scripts.forgive, &[key(policy, name)], packed)
            .await
            .map(|_| ())
    }

    /// Tells all origins for so long that a client signed in from an address. Away: only this one knows.
    pub(in crate::quota) async fn know_place(&self, client: &str, address: IpAddr, long: Duration) {
        let place = format!("{}:{address}", Self::client_name(client));
        let known = self.server().is_first("place", &place, long.as_secs());
        let _ = known.await;
    }

    /// Whether a client signed in from an address lately, at any origin.
    pub(in crate::quota) async fn is_known_place(&self, client: &str, address: IpAddr) -> bool {
        let place = format!("{}:{address}", Self::client_name(client));
        let known = self.server().is_known("place", &place).await;
        known.unwrap_or(false)
    }

    /// What is used of every policy.
    pub(in crate::quota) async fn usage(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
        limit: u32,
    ) -> Result<Vec<PolicyUse>, RemoteError> {
        let mut keys = vec![
            key("u", ask.user),
            address_key("a", ask.narrow),
            address_key("p", ask.narrow),
            key("reads", ask.user),
            key("uploads", ask.user),
            key("writes", ask.user),
            key("uploads-work", ask.user),
        ];
        if let Some(wide) = ask.wide {
            keys.extend(["w", "pw"].map(|kind| address_key(kind, wide)));
        }
        let packed = Packed::new(self).name(short_hash(ask.token));
        let [
            now,
            address,
            wide,
            reads,
            uploads,
            writes,
            uploads_work,
            token,
            user,
            hour,
            hour_age,
            jobs,
            units,
            unit_hour,
            arrivals,
            arrival_age,
            blocked,
            wide_arrivals,
            wide_arrival_age,
            wide_blocked,
        ] = self
            .run::<20>(&self.inner.scripts.usage, &keys, packed)
            .await?;
        let allowed = &ask.allowed;
        let nanos = |micros: u64| micros.saturating_mul(MICRO);
        let row = |policy, of: Rate, tat: u64| rate(policy, of, nanos(tat), nanos(now));
        let narrow = row("address", rates.address, address);
        let wide = row("address", rates.wide, wide);
        let since = |used: u64, window: u64, age_ms: u64| {
            let left = (window * 1_000)
                .saturating_sub(age_ms)
                .saturating_mul(1_000_000);
            if used == 0 { 0 } else { left }
        };
        let penalty = |limit: u32, arrivals: u64, age, blocked| {
            let limit = u64::from(limit);
            let (arrived, free) = if blocked > 0 {
                (limit, nanos(blocked))
            } else {
                (arrivals.min(limit), since(arrivals, 60, age))
            };
            count("penalty-box", limit, arrived, Some(60), Some(free))
        };
        let narrow_penalty = penalty(limit, arrivals, arrival_age, blocked);
        let wide_limit = limit.saturating_mul(WIDE_FACTOR);
        let wide_penalty = penalty(wide_limit, wide_arrivals, wide_arrival_age, wide_blocked);
        let has_wide = ask.wide.is_some();
        let mut rows = vec![
            tighter(narrow_penalty, has_wide.then_some(wide_penalty)),
            tighter(narrow, has_wide.then_some(wide)),
            row("token", allowed.token, token),
            row("user", allowed.user, user),
            count(
                "user-hour",
                u64::from(allowed.user_hour),
                hour,
                Some(3600),
                Some(since(hour, 3600, hour_age)),
            ),
            count("jobs", u64::from(allowed.jobs), jobs, None, None),
        ];
        if let Some(limit) = allowed.milliunits_day {
            let ends = (unit_hour + 25).saturating_mul(3_600_000_000);
            let free = if units == 0 {
                0
            } else {
                nanos(ends.saturating_sub(now))
            };
            let used = units.div_ceil(1000);
            rows.push(count(
                "units-day",
                limit / 1000,
                used,
                Some(DAY_SECONDS),
                Some(free),
            ));
        }
        rows.push(row("reads", rates.reads, reads));
        rows.push(row("uploads", rates.uploads, uploads));
        rows.push(row("writes", rates.writes, writes));
        rows.push(row("uploads-work", rates.uploads_work, uploads_work));
        Ok(rows)
    }
}
