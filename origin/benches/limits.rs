//! The limits, measured: `limits memory`, `limits durable`, `limits redis SOCKET` and `limits race SOCKET` print rows of
//! a table.
//! scripts/bench.d/limits runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use origin::quota::{Charge, LimitSettings, Limits, Plans, RateSettings, Reservation};
use origin::state::{State, StateSettings, users::UserRow};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;
const HOUR_LIMIT: u32 = 50;

/// Only the sliding hour binds.
fn settings() -> LimitSettings {
    let open = RateSettings {
        per_minute: 60_000,
        burst: 60_000,
    };
    LimitSettings {
        address: open,
        token: open,
        user: open,
        user_hour: HOUR_LIMIT,
        jobs: 1_000_000,
        units_day: 1_000_000_000,
        ..LimitSettings::default()
    }
}

fn remote(socket: &str) -> Limits {
    let state = StateSettings {
        url: format!("unix://{socket}"),
        timeout_ms: 10_000,
        ..StateSettings::default()
    };
    Limits::shared(&settings(), &Plans::new(), &state).unwrap()
}

struct Who {
    users: Vec<String>,
    allowed: origin::quota::Allowance,
}

impl Who {
    fn new(limits: &Limits, count: usize) -> Self {
        Self {
            users: (0..count).map(|n| format!("usr_{n:032x}")).collect(),
            allowed: limits.allowance(&UserRow::default()),
        }
    }

    fn charge(&self, n: usize) -> Charge<'_> {
        let user = &self.users[n % self.users.len()];
        Charge {
            address: Ipv4Addr::from(0x0a00_0000 + (n % self.users.len()) as u32).into(),
            token: user,
            user,
            milliunits: 40_000,
            allowed: self.allowed,
        }
    }
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn row(what: &str, value: String) {
    println!("| {what} | {value} |");
}

fn millions(count: usize, took: Duration) -> String {
    format!("{:.2} million/s", count as f64 / took.as_secs_f64() / 1e6)
}

fn memory() {
    let limits = Limits::new(&settings(), &Plans::new()).unwrap();
    let who = Who::new(&limits, 10_000);
    let admit = |n: usize, now: u64| limits.admit(who.charge(n), now).now_or_never().unwrap();
    // Warm: every user is known.
    (0..10_000).for_each(|n| drop(admit(n, NOW)));
    let mut times: Vec<u64> = Vec::with_capacity(400_000);
    for n in 0..400_000 {
        let begun = Instant::now();
        let reservation = admit(n, NOW + n as u64 * 1_000);
        times.push(begun.elapsed().as_nanos() as u64);
        reservation.unwrap().commit();
    }
    times.sort_unstable();
    row(
        "memory: one decision over all layers, p50 (one thread)",
        format!("{} ns", times[times.len() / 2]),
    );
    row(
        "memory: the same, p99",
        format!("{} ns", times[times.len() * 99 / 100]),
    );

    // Granted and given back: decisions that charge, without filling the hour.
    let limits = Limits::new(&settings(), &Plans::new()).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (limits, who) = (&limits, &who);
            scope.spawn(move || {
                for n in 0..1_000_000 {
                    let n = n * 2 + thread;
                    drop(
                        limits
                            .admit(who.charge(n), NOW + n as u64)
                            .now_or_never()
                            .unwrap()
                            .unwrap(),
                    );
                }
            });
        }
    });
    row(
        "memory: decisions with their settlement, two threads",
        millions(2_000_000, begun.elapsed()),
    );

    let limits = Limits::new(&settings(), &Plans::new()).unwrap();
    (0..10_000 * HOUR_LIMIT as usize).for_each(|n| {
        limits
            .admit(who.charge(n), NOW + n as u64)
            .now_or_never()
            .unwrap()
            .unwrap()
            .commit();
    });
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (limits, who) = (&limits, &who);
            scope.spawn(move || {
                for n in 0..1_500_000 {
                    let n = n * 2 + thread;
                    let refused = limits
                        .admit(who.charge(n), NOW + SECOND + n as u64)
                        .now_or_never()
                        .unwrap();
                    assert!(refused.is_err());
                }
            });
        }
    });
    row(
        "memory: refusals by the last layers, two threads",
        millions(3_000_000, begun.elapsed()),
    );

    let limits = Limits::new(&settings(), &Plans::new()).unwrap();
    let who = Who::new(&limits, 100_000);
    let before = resident();
    let fill = |times: usize| {
        for n in 0..100_000 * times {
            limits
                .admit(who.charge(n), NOW + n as u64)
                .now_or_never()
                .unwrap()
                .unwrap()
                .commit();
        }
    };
    fill(1);
    let once = resident();
    fill(HOUR_LIMIT as usize - 1);
    let full = resident();
    row(
        "memory: bytes per user with address, token, user, units and one admission (100,000 users)",
        format!("{}", (once - before) / 100_000),
    );
    row(
        "memory: bytes per user that a full sliding hour adds",
        format!("{}", (full - once) / 100_000),
    );
}

/// With the record in SQLite that must be on the disk before a job starts; callers at once share a commit.
async fn durable() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("state.sqlite")).unwrap();
    let limits = Limits::open(&settings(), &Plans::new(), &state, NOW)
        .await
        .unwrap();
    let who = Arc::new(Who::new(&limits, 10_000));
    for at_once in [1, 64] {
        let times: Vec<_> = (0..at_once)
            .map(|task| {
                let (limits, who) = (limits.clone(), Arc::clone(&who));
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for n in 0..500 {
                        let begun = Instant::now();
                        let admitted = limits.admit(who.charge(n * at_once + task), NOW).await;
                        times.push(begun.elapsed());
                        admitted.unwrap().commit();
                    }
                    times
                })
            })
            .collect();
        let begun = Instant::now();
        let mut all = Vec::new();
        for task in times {
            all.extend(task.await.unwrap());
        }
        let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
        all.sort_unstable();
        row(
            &format!("durable: decisions recorded on the disk, {at_once} callers at once"),
            format!(
                "{rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
                all[all.len() / 2].as_secs_f64() * 1e3,
                all[all.len() * 99 / 100].as_secs_f64() * 1e3
            ),
        );
    }
}

/// A bare script that increments one key, as many connections as `limits` has: one.
async fn rate_of<F: Future<Output = ()> + Send + 'static>(work: impl Fn(usize) -> F) -> f64 {
    const COUNT: usize = 60_000;
    const AT_ONCE: usize = 64;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let calls: Vec<F> = (0..COUNT / AT_ONCE)
                .map(|n| work(n * AT_ONCE + task))
                .collect();
            tokio::spawn(async move {
                for call in calls {
                    call.await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (COUNT / AT_ONCE * AT_ONCE) as f64 / begun.elapsed().as_secs_f64()
}

fn used_memory(socket: &str) -> u64 {
    let info = std::process::Command::new("redis-cli")
        .args(["-s", socket, "INFO", "memory"])
        .output()
        .unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    let line = info
        .lines()
        .find(|line| line.starts_with("used_memory:"))
        .unwrap();
    line["used_memory:".len()..].trim().parse().unwrap()
}

async fn redis_rows(socket: String) {
    let limits = remote(&socket);
    // So many that hardly one has more than a few jobs open.
    let who = Arc::new(Who::new(&limits, 100_000));
    let client = redis::Client::open(format!("unix://{socket}")).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let bare = Arc::new(redis::Script::new("return redis.call('INCR', KEYS[1])"));
    let mut ratios = Vec::new();
    let (mut best, mut best_bare) = (0f64, 0f64);
    for round in 0..5 {
        let incremented = rate_of(|_| {
            let (mut connection, bare) = (connection.clone(), Arc::clone(&bare));
            async move {
                let _: i64 = bare
                    .key("{signet}:bare")
                    .invoke_async(&mut connection)
                    .await
                    .unwrap();
            }
        })
        .await;
        let decided = rate_of(|n| {
            let (limits, who) = (limits.clone(), Arc::clone(&who));
            async move {
                // Settled apart, so that one call is one round trip.
                if let Ok(reservation) = limits.admit(who.charge(n), NOW).await {
                    std::mem::forget(reservation);
                }
            }
        })
        .await;
        if round > 0 {
            ratios.push(decided / incremented);
            best = best.max(decided);
            best_bare = best_bare.max(incremented);
        }
    }
    ratios.sort_by(f64::total_cmp);
    row(
        "Redis: decisions over all layers, one connection, 64 callers",
        format!("{best:.0}/s"),
    );
    row(
        "Redis: a bare EVALSHA that increments one key, the same way",
        format!("{best_bare:.0}/s"),
    );
    row(
        "Redis: ratio of the two, median of 4 rounds",
        format!("{:.2}", ratios[ratios.len() / 2]),
    );

    let flush = || {
        std::process::Command::new("redis-cli")
            .args(["-s", &socket, "FLUSHALL"])
            .output()
            .unwrap()
    };
    flush();
    let before = used_memory(&socket);
    let many = Arc::new(Who::new(&limits, 20_000));
    let fill = async |who: &Arc<Who>, users: usize, times: usize| {
        let next = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (limits, who, next) = (limits.clone(), Arc::clone(who), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= users * times {
                            return;
                        }
                        if let Ok(job) = limits.admit(who.charge(n), NOW).await {
                            job.commit();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Ends are told one after the other: wait for the last.
        loop {
            let last = limits.usage(who.charge(users - 1), 0, NOW).await;
            if last.iter().any(|row| row.policy == "jobs" && row.used == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    fill(&many, 20_000, 1).await;
    let once = used_memory(&socket);
    row(
        "Redis: bytes per user with address, token, user, units and one admission (20,000 users)",
        format!("{}", (once - before) / 20_000),
    );
    flush();
    let before = used_memory(&socket);
    let few = Arc::new(Who::new(&limits, 500));
    fill(&few, 500, 1).await;
    let first = used_memory(&socket);
    fill(&few, 500, HOUR_LIMIT as usize - 1).await;
    let full = used_memory(&socket);
    let _ = before;
    row(
        "Redis: bytes per user that a full sliding hour adds (500 users)",
        format!("{}", full.saturating_sub(first) / 500),
    );
}

/// The guide's sorted set, as it stands there.
async fn guide(connection: &mut redis::aio::MultiplexedConnection, user: &str) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let key = format!("gen_quota:{user}");
    let answers: (i64, i64, i64, i64) = redis::pipe()
        .zrembyscore(&key, 0, now - 3600.0)
        .zcard(&key)
        .zadd(&key, now.to_string(), now)
        .expire(&key, 3600)
        .query_async(connection)
        .await
        .unwrap();
    answers.1 < i64::from(HOUR_LIMIT)
}

async fn race(socket: String) {
    const RUNS: usize = 20;
    const CALLERS: usize = 1_000;
    let both = [remote(&socket), remote(&socket)];
    let client = redis::Client::open(format!("unix://{socket}")).unwrap();
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(client.get_multiplexed_async_connection().await.unwrap());
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let user = format!("u{run}");
        let mut tasks = Vec::new();
        for n in 0..CALLERS {
            let (limits, user) = (both[n % 2].clone(), user.clone());
            tasks.push(tokio::spawn(async move {
                let charge = Charge {
                    address: Ipv4Addr::LOCALHOST.into(),
                    token: &user,
                    user: &user,
                    milliunits: 0,
                    allowed: limits.allowance(&UserRow::default()),
                };
                limits
                    .admit(charge, NOW)
                    .await
                    .map(Reservation::commit)
                    .is_ok()
            }));
        }
        let mut admitted = 0;
        for task in tasks {
            admitted += usize::from(task.await.unwrap());
        }
        ours.push(admitted);
        let mut tasks = Vec::new();
        for n in 0..CALLERS {
            let (mut connection, user) = (connections[n % 8].clone(), user.clone());
            tasks.push(tokio::spawn(
                async move { guide(&mut connection, &user).await },
            ));
        }
        let mut admitted = 0;
        for task in tasks {
            admitted += usize::from(task.await.unwrap());
        }
        theirs.push(admitted);
    }
    let range = |runs: &[usize]| {
        format!(
            "{} to {} of {CALLERS}",
            runs.iter().min().unwrap(),
            runs.iter().max().unwrap()
        )
    };
    row(
        "1,000 callers at once, two origins' limiters, one Redis, limit 50, 20 runs: admitted",
        range(&ours),
    );
    row(
        "the guide's sorted set, the same callers, 8 connections: admitted",
        range(&theirs),
    );
    // A steady client at 1.2 times its limit, ten hours by a clock that is turned.
    let limits = Limits::new(&settings(), &Plans::new()).unwrap();
    let who = Who::new(&limits, 1);
    let granted = |n: u64| {
        limits
            .admit(who.charge(0), NOW + n * 60 * SECOND)
            .now_or_never()
            .unwrap()
            .map(Reservation::commit)
            .is_ok()
    };
    let ours = (0..600u64).filter(|n| granted(*n)).count();
    let mut set: Vec<u64> = Vec::new();
    let theirs = (0..600u64)
        .filter(|n| {
            let now = n * 60;
            set.retain(|at| *at + 3600 > now);
            let passes = set.len() < HOUR_LIMIT as usize;
            set.push(now);
            passes
        })
        .count();
    row(
        "a steady client at 1.2 times its limit, ten hours (500 are its limit): admitted",
        ours.to_string(),
    );
    row(
        "the guide's sorted set, the same client: admitted",
        theirs.to_string(),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("memory"), _) => memory(),
        (Some("durable"), _) => runtime().block_on(durable()),
        (Some("redis"), Some(socket)) => runtime().block_on(redis_rows(socket.clone())),
        (Some("race"), Some(socket)) => runtime().block_on(race(socket.clone())),
        _ => panic!("limits memory | durable | redis SOCKET | race SOCKET"),
    }
}
