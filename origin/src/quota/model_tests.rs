//! Any sequence of admissions, settlements and waits is decided as by a model that keeps plain lists of everything.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::memory::{HOUR, SECOND};
use super::*;
use crate::state::StateSettings;
use crate::state::users::UserRow;
use crate::test_redis::Server;
use std::time::{Duration, Instant};

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
    /// What a server makes of jobs of which it heard nothing for an hour: they are over, and their units given back.
    fn end_leases(&mut self, now: u64) {
        for one in &mut self.known {
            if one.open && one.at + HOUR <= now {
                (one.open, one.cost) = (false, 0);
            }
        }
    }

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

fn settings() -> LimitSettings {
    LimitSettings {
        address: RateSettings {
            per_minute: 20,
            burst: 5,
        },
        token: RateSettings {
            per_minute: 10,
            burst: 3,
        },
        user: RateSettings {
            per_minute: 60_000,
            burst: 60_000,
        },
        user_hour: 12,
        jobs: 4,
        units_day: 20,
        ..LimitSettings::default()
    }
}

/// Walks the steps with limits and model side by side. `pass` turns the clock of the limits where they have their own;
/// such limits end jobs after an hour by themselves.
async fn compare(
    limits: &Limits,
    steps: &[Step],
    mut now: u64,
    pass: Option<&dyn Fn(u64)>,
) -> Result<(), TestCaseError> {
    let allowed = limits.allowance(&UserRow::default());
    let mut model = Model::default();
    let mut open: Vec<(usize, Reservation, u8, u8)> = Vec::new();
    for step in steps {
        match *step {
            Step::Pass { seconds } => {
                now += seconds * SECOND;
                if let Some(pass) = pass {
                    pass(seconds);
                    model.end_leases(now);
                }
            }
            Step::Admit {
                address,
                token,
                user,
                cost,
            } => {
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
                match (
                    limits.admit(charge, now).await,
                    model.admit(address, token, user, cost, now),
                ) {
                    (Ok(reservation), Ok(index)) => open.push((index, reservation, address, token)),
                    (Err(QuotaError::Refused(refusal)), Err(policy)) => {
                        prop_assert_eq!(refusal.policy, policy);
                    }
                    (got, wanted) => {
                        prop_assert!(false, "{:?} against {:?}", got.map(|_| ()), wanted);
                    }
                }
            }
            Step::Settle { which, how } => {
                if open.is_empty() {
                    continue;
                }
                let (index, mut reservation, address, token) = open.remove(which % open.len());
                let known = &mut model.known[index];
                let ended_before = !std::mem::take(&mut known.open);
                match how {
                    0 => reservation.refund(),
                    1 => drop(reservation),
                    2 => reservation.commit(),
                    run => {
                        reservation.worked(u64::from(run - 3) + 1, 10);
                        drop(reservation);
                    }
                }
                limits.settled().await;
                match how {
                    _ if ended_before => {}
                    0 | 1 => {
                        known.counts = false;
                        known.cost = 0;
                        let (at, user) = (known.at, known.user);
                        let narrow = model.addresses.get_mut(&address).unwrap();
                        *narrow = (*narrow - ADDRESS.0).max(at);
                        let token = model.tokens.get_mut(&(user, token)).unwrap();
                        *token = (*token - TOKEN.0).max(at);
                    }
                    2 => {}
                    run => known.cost = (known.cost * (u64::from(run - 3) + 1)).div_ceil(10),
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn memory_decides_as_the_model_of_plain_lists(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limits = Limits::new(&settings(), &Plans::new()).unwrap();
        runtime.block_on(compare(&limits, &steps, NOW, None))?;
    }
}

#[test]
fn a_server_decides_as_the_model_of_plain_lists() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    let state = StateSettings {
        timeout_ms: 5_000,
        ..StateSettings::at(server.url())
    };
    let tried = TestRunner::new(ProptestConfig::with_cases(60)).run(&steps(), |steps| {
        server.ask(&["FLUSHALL"]);
        runtime.block_on(async {
            let limits = Limits::shared(&settings(), &Plans::new(), &state).unwrap();
            let turn = |seconds| limits.remote().unwrap().turn(seconds);
            // In the middle of an hour, so that both clocks count in the same one.
            let begun = Instant::now();
            let clock = server.ask(&["TIME"]);
            let clock: u64 = clock.lines().next().unwrap().parse().unwrap();
            let to_half = (3_600 + 1_800 - clock % 3_600) % 3_600;
            turn(to_half);
            let now = (clock + to_half) * SECOND;
            let same = compare(&limits, &steps, now, Some(&turn)).await;
            limits.settled().await;
            // The server's clock went on meanwhile: where that was half a second, nothing is said.
            prop_assume!(same.is_ok() || begun.elapsed() < Duration::from_millis(500));
            same
        })
    });
    tried.unwrap();
}
