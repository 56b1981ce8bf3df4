//! Any sequence of admissions, settlements and waits is decided as by a model that keeps plain lists of everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::memory::{HOUR, SECOND};
use super::*;
use crate::state::users::UserRow;

const NOW: u64 = 500_000 * HOUR;

#[derive(Clone, Debug)]
enum Step {
    Admit {
        address: u8,
        token: u8,
        user: u8,
        cost: u64,
    },
    /// Settles the n-th open job: refund, commit, or dropped after a part of 10 steps.
    Settle {
        which: usize,
        how: u8,
    },
    Pass {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..3, 0u8..3, 0u8..2, 0u64..6_000).prop_map(|(address, token, user, cost)| Step::Admit { address, token, user, cost }),
        3 => (0usize..8, 0u8..13).prop_map(|(which, how)| Step::Settle { which, how }),
        2 => prop_oneof![0u64..90, 600u64..5_000, 50_000u64..100_000].prop_map(|seconds| Step::Pass { seconds }),
    ];
    prop::collection::vec(step, 1..120)
}

/// One admission, as the model remembers it.
#[derive(Clone, Debug)]
struct Known {
    user: u8,
    at: u64,
    cost: u64,
    counts: bool,
    open: bool,
}

/// A leaky bucket of whole emissions: when it will be empty.
#[derive(Default)]
struct Model {
    addresses: BTreeMap<u8, u64>,
    tokens: BTreeMap<(u8, u8), u64>,
    known: Vec<Known>,
}

const ADDRESS: (u64, u64) = (3 * SECOND, 5);
const TOKEN: (u64, u64) = (6 * SECOND, 3);
const HOUR_LIMIT: usize = 12;
const JOBS: usize = 4;
const UNITS: u64 = 20_000;

fn fits((emission, burst): (u64, u64), empty_at: u64, now: u64) -> bool {
    empty_at.saturating_sub(now) <= emission * burst
}

impl Model {
    fn admit(
        &mut self,
        address: u8,
        token: u8,
        user: u8,
        cost: u64,
        now: u64,
    ) -> Result<usize, &'static str> {
        let narrow = self.addresses.get(&address).copied().unwrap_or(0);
        if !fits(ADDRESS, narrow, now) {
            return Err("address");
        }
        let known = self.tokens.get(&(user, token)).copied().unwrap_or(0);
        if !fits(TOKEN, known, now) {
            return Err("token");
        }
        let own = || self.known.iter().filter(|one| one.user == user);
        if own()
            .filter(|one| one.counts && one.at + HOUR > now)
            .count()
            >= HOUR_LIMIT
        {
            return Err("user-hour");
        }
        if own().filter(|one| one.open).count() >= JOBS {
            return Err("jobs");
        }
        let lives = |one: &&Known| one.at / HOUR + 24 >= now / HOUR;
        if own().filter(lives).map(|one| one.cost).sum::<u64>() + cost > UNITS {
            return Err("units-day");
        }
        self.addresses.insert(address, narrow.max(now) + ADDRESS.0);
        self.tokens.insert((user, token), known.max(now) + TOKEN.0);
        self.known.push(Known {
            user,
            at: now,
            cost,
            counts: true,
            open: true,
        });
        Ok(self.known.len() - 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn it_decides_as_the_model_of_plain_lists(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let settings = LimitSettings {
            address: RateSettings { per_minute: 20, burst: 5 },
            token: RateSettings { per_minute: 10, burst: 3 },
            user: RateSettings { per_minute: 60_000, burst: 60_000 },
            user_hour: 12,
            jobs: 4,
            units_day: 20,
            ..LimitSettings::default()
        };
        let limits = Limits::new(&settings, &Plans::new()).unwrap();
        let allowed = limits.allowance(&UserRow::default());
        let mut model = Model::default();
        let mut open: Vec<(usize, Reservation, u8, u8)> = Vec::new();
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Pass { seconds } => now += seconds * SECOND,
                Step::Admit { address, token, user, cost } => {
                    // No two at the same instant, so that the model knows which one is settled.
                    now += 1;
                    let (token_text, user_text) = (format!("t{token}"), format!("u{user}"));
                    let charge = Charge {
                        address: IpAddr::from([192, 0, 2, address]),
                        token: &token_text,
                        user: &user_text,
                        milliunits: cost,
                        allowed,
                    };
                    let got = runtime.block_on(limits.admit(charge, now));
                    match (got, model.admit(address, token, user, cost, now)) {
                        (Ok(reservation), Ok(index)) => open.push((index, reservation, address, token)),
                        (Err(QuotaError::Refused(refusal)), Err(policy)) => prop_assert_eq!(refusal.policy, policy),
                        (got, wanted) => prop_assert!(false, "{:?} against {:?}", got.map(|_| ()), wanted),
                    }
                }
                Step::Settle { which, how } => {
                    if open.is_empty() {
                        continue;
                    }
                    let (index, mut reservation, address, token) = open.remove(which % open.len());
                    let known = &mut model.known[index];
                    known.open = false;
                    match how {
                        0 | 1 => {
                            if how == 0 { reservation.refund() } else { drop(reservation) }
                            known.counts = false;
                            known.cost = 0;
                            let (at, user) = (known.at, known.user);
                            let narrow = model.addresses.get_mut(&address).unwrap();
                            *narrow = (*narrow - ADDRESS.0).max(at);
                            let token = model.tokens.get_mut(&(user, token)).unwrap();
                            *token = (*token - TOKEN.0).max(at);
                        }
                        2 => reservation.commit(),
                        run => {
                            let step = u64::from(run - 3);
                            reservation.progress(step as usize, 10);
                            drop(reservation);
                            known.cost = (known.cost * (step + 1)).div_ceil(10);
                        }
                    }
                }
            }
        }
    }
}
