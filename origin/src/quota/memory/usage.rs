//! The usage report of what is kept in memory.

use std::hash::BuildHasher;

use shared::penalty::{self, Record};

use super::user::{self, User};
use super::{HOUR, Memory, penalty_rule};
use crate::quota::usage::{count, rate, tighter};
use crate::quota::{Ask, PolicyUse, Rates};

impl Memory {
    /// What is used of every policy, in the order of [`crate::quota::usage`].
    pub(in crate::quota) fn usage(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
        penalty: u32,
        now: u64,
    ) -> Vec<PolicyUse> {
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
        rows.push(rate("writes", rates.writes, user.writes, now));
        let work = rate("uploads-work", rates.uploads_work, user.uploads_work, now);
        rows.push(work);
        rows
    }
}
