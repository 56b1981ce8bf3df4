//! Plans and overrides: whose limits are which.
//!
//! `[limits]` holds for everybody; a plan (`[plans.NAME]`) changes some of them for its users, and an override one of
//! them for one user. What comes out is an [`Allowance`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::decided::{Decided, Pair};
use shared::gcra::Rate;

use super::{LimitSettings, RateSettings};

/// The plan of users without one, where there is a plan of this name.
pub const DEFAULT_PLAN: &str = "default";

/// The section `plans`: plans by name.
pub type Plans = BTreeMap<String, PlanSettings>;

/// What a plan changes of `[limits]`; what it leaves out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanSettings {
    /// Share of a busy machine beside other users' (1 without it).
    pub weight: Option<u32>,
    /// Policy `token`.
    pub token: Option<RateSettings>,
    /// Policy `user`.
    pub user: Option<RateSettings>,
    /// Policy `user-hour`.
    pub user_hour: Option<u32>,
    /// Policy `jobs`.
    pub jobs: Option<u32>,
    /// Policy `units-day`; 0: no such limit.
    pub units_day: Option<u64>,
    /// Policy `storage`.
    pub storage_bytes: Option<u64>,
}

/// The names that `signet user limit` takes.
pub const OVERRIDABLE: [&str; 7] = [
    "token",
    "user",
    "user-hour",
    "jobs",
    "units-day",
    "storage",
    "weight",
];

impl PlanSettings {
    /// Changes one policy: a number, or for rates `PER_MINUTE/BURST`.
    ///
    /// # Errors
    /// A sentence that names the policy.
    pub fn set(&mut self, policy: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{policy}={value} is not a limit of this form");
        let rate = || {
            let (per_minute, burst) = value.split_once('/')?;
            let rate = RateSettings {
                per_minute: per_minute.parse().ok()?,
                burst: burst.parse().ok()?,
            };
            rate.rate().map(|_| rate)
        };
        let positive = || value.parse().ok().filter(|&number: &u32| number > 0);
        match policy {
            "token" => self.token = Some(rate().ok_or_else(wrong)?),
            "user" => self.user = Some(rate().ok_or_else(wrong)?),
            "user-hour" => self.user_hour = Some(positive().ok_or_else(wrong)?),
            "jobs" => self.jobs = Some(positive().ok_or_else(wrong)?),
            "weight" => self.weight = Some(positive().ok_or_else(wrong)?),
            "units-day" => self.units_day = Some(value.parse().map_err(|_| wrong())?),
            "storage" => self.storage_bytes = Some(value.parse().map_err(|_| wrong())?),
            _ => {
                return Err(format!(
                    "no limit is called {policy:?}; there are {}",
                    OVERRIDABLE.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// A list `policy=value`, separated by spaces, as the state keeps a user's overrides.
    ///
    /// # Errors
    /// A sentence that names the first entry that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for entry in text.split(' ').filter(|entry| !entry.is_empty()) {
            let (policy, value) = entry
                .split_once('=')
                .ok_or_else(|| format!("{entry:?} is not POLICY=VALUE"))?;
            plan.set(policy, value)?;
        }
        Ok(plan)
    }
}

/// The limits of one user, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Policy `token`.
    pub token: Rate,
    /// Policy `user`.
    pub user: Rate,
    /// Policy `user-hour`.
    pub user_hour: u32,
    /// Policy `jobs`.
    pub jobs: u32,
    /// Policy `units-day` in thousandths of a unit; none: no such limit.
    pub milliunits_day: Option<u64>,
    /// Policy `storage`.
    pub storage_bytes: u64,
    /// Share of a busy machine.
    pub weight: u32,
}

impl Allowance {
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn of(limits: &LimitSettings) -> Result<Self, String> {
        let rate = |name: &str, one: RateSettings| {
            one.rate()
                .ok_or_else(|| format!("limits.{name}.per_minute is 0"))
        };
        Ok(Self {
            token: rate("token", limits.token)?,
            user: rate("user", limits.user)?,
            user_hour: limits.user_hour,
            jobs: limits.jobs,
            milliunits_day: milliunits(limits.units_day),
            storage_bytes: limits.storage_bytes,
            weight: 1,
        })
    }

    /// What the edge decided by the very rate that holds for this user is only counted.
    pub fn decided(mut self, at_edge: Decided) -> Self {
        let theirs = at_edge
            .token
            .and_then(|Pair(per_minute, burst)| Rate::per_minute(per_minute, burst));
        if theirs == Some(self.token) {
            self.token = self.token.counted();
        }
        self
    }

    /// What a plan makes of it.
    pub(super) fn under(mut self, plan: &PlanSettings) -> Self {
        let rate = |changed: Option<RateSettings>, rate: Rate| {
            changed.and_then(RateSettings::rate).unwrap_or(rate)
        };
        self.token = rate(plan.token, self.token);
        self.user = rate(plan.user, self.user);
        self.user_hour = plan.user_hour.unwrap_or(self.user_hour).max(1);
        self.jobs = plan.jobs.unwrap_or(self.jobs).max(1);
        self.milliunits_day = plan.units_day.map_or(self.milliunits_day, milliunits);
        self.storage_bytes = plan.storage_bytes.unwrap_or(self.storage_bytes);
        self.weight = plan.weight.unwrap_or(self.weight).max(1);
        self
    }
}

fn milliunits(units: u64) -> Option<u64> {
    (units > 0).then(|| units.saturating_mul(1000))
}

/// # Errors
/// A sentence that names the plan and the setting.
pub fn validate(plans: &Plans) -> Result<(), String> {
    for (name, plan) in plans {
        let named = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if !named {
            return Err(format!(
                "plans.{name}: a plan's name is 1 to 32 of a-z 0-9 -"
            ));
        }
        for (setting, rate) in [("token", plan.token), ("user", plan.user)] {
            if rate.is_some_and(|rate| rate.rate().is_none()) {
                return Err(format!("plans.{name}.{setting}.per_minute is 0"));
            }
        }
        for (setting, value) in [
            ("weight", plan.weight),
            ("user_hour", plan.user_hour),
            ("jobs", plan.jobs),
        ] {
            if value == Some(0) {
                return Err(format!("plans.{name}.{setting} is 0"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plan_changes_what_it_names_and_nothing_else() {
        let base = Allowance::of(&LimitSettings::default()).unwrap();
        let paid = base.under(&PlanSettings::parse("user-hour=500 units-day=9 weight=4").unwrap());
        assert_eq!(
            (paid.user_hour, paid.milliunits_day, paid.weight),
            (500, Some(9_000), 4)
        );
        assert_eq!(
            (paid.token, paid.jobs, paid.storage_bytes),
            (base.token, base.jobs, base.storage_bytes)
        );
        let override_on_top = paid.under(&PlanSettings::parse("user-hour=7 token=1/0").unwrap());
        assert_eq!((override_on_top.user_hour, override_on_top.weight), (7, 4));
        assert_eq!(override_on_top.token.capacity(), 1);
    }

    #[test]
    fn only_a_token_rate_equal_to_ours_is_left_to_the_edge() {
        let base = Allowance::of(&LimitSettings::default()).unwrap();
        let at_edge = |token| Decided {
            token: Some(token),
            ..Decided::default()
        };
        assert_eq!(base.decided(Decided::default()), base);
        assert_eq!(base.decided(at_edge(Pair(60, 20))), base);
        assert_eq!(base.decided(at_edge(Pair(0, 5))), base);
        let left = base.decided(at_edge(Pair(20, 5)));
        assert_eq!((left.token, left.user), (base.token.counted(), base.user));
    }

    #[test]
    fn overrides_of_another_form_are_refused() {
        for bad in [
            "jobs",
            "jobs=0",
            "jobs=-1",
            "jobs=x",
            "token=5",
            "token=0/3",
            "units-day=-5",
            "units-day=99999999999999999999999",
            "address=1/1",
        ] {
            assert!(PlanSettings::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_beyond_counting_is_no_small_one() {
        let plan = PlanSettings::parse(&format!("units-day={}", u64::MAX)).unwrap();
        let base = Allowance::of(&LimitSettings::default()).unwrap();
        assert_eq!(base.under(&plan).milliunits_day, Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn arbitrary_overrides_never_panic(text in "([a-z-]{0,9}=?[0-9/-]{0,12} ?){0,4}|.{0,40}") {
            let _ = PlanSettings::parse(&text);
        }
    }
}
