//! One suite for every backend: whatever keeps the counts, these hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::SECOND;
use super::*;
use crate::state::charges::JobCharge;
use crate::state::jobs::JobRow;
use crate::state::users::UserRow;

/// Limits with a clock that tests turn.
pub(super) struct Bench {
    pub limits: Limits,
    pub now: Arc<AtomicU64>,
    /// Turns the backend's own clock, where it has one, by so many seconds.
    pub turn: Box<dyn Fn(u64) + Send + Sync>,
}

impl Bench {
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    pub async fn pass(&self, seconds: u64) {
        self.limits.settled().await;
        self.now.fetch_add(seconds * SECOND, Ordering::SeqCst);
        (self.turn)(seconds);
    }

    pub fn charge<'a>(&self, address: &str, token: &'a str, user: &'a str) -> Charge<'a> {
        Charge {
            address: address.parse().unwrap(),
            token,
            user,
            milliunits: 1_000,
            allowed: self.limits.allowance(&UserRow::default()),
        }
    }

    pub async fn admit(&self, charge: Charge<'_>) -> Result<Reservation, Refusal> {
        match self.limits.admit(charge, self.now()).await {
            Ok(reservation) => Ok(reservation),
            Err(QuotaError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn used(&self, charge: Charge<'_>) -> Vec<(&'static str, u64)> {
        // Settling goes on behind the caller's back where the backend is another process.
        self.limits.settled().await;
        let rows = self.limits.usage(charge, 0, self.now()).await;
        rows.into_iter().map(|row| (row.policy, row.used)).collect()
    }
}

/// Rates that get in nobody's way.
pub(super) fn wide_open(settings: &mut LimitSettings) {
    let open = RateSettings {
        per_minute: 60,
        burst: 60_000,
    };
    settings.address = open;
    settings.token = open;
    settings.user = open;
    settings.user_hour = 60_000;
    settings.jobs = 60_000;
    settings.units_day = 0;
}

/// Makes a bench of a backend.
pub(super) type Open = dyn Fn(LimitSettings, Plans) -> Bench;

fn bench(open: &Open, change: impl Fn(&mut LimitSettings)) -> Bench {
    let mut settings = LimitSettings::default();
    change(&mut settings);
    open(settings, Plans::new())
}

pub(super) async fn an_address_passes_burst_and_one_more(open: &Open) {
    let bench = bench(open, |_| {});
    let mut kept = Vec::new();
    for _ in 0..10 {
        kept.push(bench.admit(bench.charge("192.0.2.1", "t", "u")).await);
    }
    assert_eq!(kept.iter().filter(|one| one.is_ok()).count(), 4);
    let refusal = kept.into_iter().find_map(Result::err).unwrap();
    assert_eq!(
        (refusal.policy, refusal.limit, refusal.retry_after),
        ("address", 4, 12)
    );
    assert!(
        bench
            .admit(bench.charge("192.0.2.2", "t", "u"))
            .await
            .is_ok()
    );
}

pub(super) async fn the_answer_names_the_first_layer_that_refused(open: &Open) {
    let one = RateSettings {
        per_minute: 1,
        burst: 0,
    };
    for (policy, change) in [
        (
            "address",
            (|s| {
                s.address = RateSettings {
                    per_minute: 1,
                    burst: 0,
                }
            }) as fn(&mut LimitSettings),
        ),
        ("token", |s| {
            s.token = RateSettings {
                per_minute: 1,
                burst: 0,
            }
        }),
        ("user", |s| {
            s.user = RateSettings {
                per_minute: 1,
                burst: 0,
            }
        }),
        ("user-hour", |s| s.user_hour = 1),
        ("jobs", |s| s.jobs = 1),
        ("units-day", |s| s.units_day = 1),
    ] {
        let bench = bench(open, |settings| {
            wide_open(settings);
            change(settings);
        });
        let who = bench.charge("192.0.2.1", "t", "u");
        let first = bench.admit(who).await.unwrap();
        let before = bench.used(who).await;
        for _ in 0..20 {
            assert_eq!(bench.admit(who).await.unwrap_err().policy, policy);
        }
        assert_eq!(
            bench.used(who).await,
            before,
            "{policy}: a refusal charges nothing"
        );
        drop(first);
        assert!(
            bench.used(who).await.iter().all(|(_, used)| *used == 0),
            "{policy}"
        );
    }
    let _ = one;
}

pub(super) async fn a_reservation_is_settled_once(open: &Open) {
    let bench = bench(open, |settings| settings.units_day = 100);
    let who = bench.charge("192.0.2.1", "t", "u");
    let idle = bench.used(who).await;
    drop(bench.admit(who).await.unwrap());
    assert_eq!(
        bench.used(who).await,
        idle,
        "dropped while it waits: all is given back"
    );
    bench.admit(who).await.unwrap().refund();
    assert_eq!(bench.used(who).await, idle, "refunded: all is given back");
    bench.admit(who).await.unwrap().commit();
    let after = bench.used(who).await;
    for row in [
        ("address", 1),
        ("token", 1),
        ("user", 1),
        ("user-hour", 1),
        ("jobs", 0),
        ("units-day", 1),
    ] {
        assert!(after.contains(&row), "{row:?} in {after:?}");
    }
}

pub(super) async fn a_cancelled_job_pays_for_what_it_ran(open: &Open) {
    let bench = bench(open, |settings| {
        wide_open(settings);
        settings.units_day = 100;
    });
    let who = Charge {
        milliunits: 20_000,
        ..bench.charge("192.0.2.1", "t", "u")
    };
    let mut running = bench.admit(who).await.unwrap();
    running.worked(5, 20);
    drop(running);
    // Four steps and the one under way, of twenty: five units.
    let after = bench.used(who).await;
    assert!(
        after.contains(&("units-day", 5)) && after.contains(&("user-hour", 1)),
        "{after:?}"
    );
    // A loop of cancelled jobs is stopped by what it ran.
    let mut loops = 0;
    while let Ok(mut job) = bench.admit(who).await {
        job.worked(5, 20);
        drop(job);
        bench.limits.settled().await;
        loops += 1;
        assert!(loops < 100, "cancelling is free");
    }
    assert_eq!(
        loops, 16,
        "80 units are left after the first; the last try finds under 20"
    );
    let mut failed = bench
        .admit(Charge {
            milliunits: 10,
            ..who
        })
        .await
        .unwrap();
    failed.worked(11, 20);
    let before = bench.used(who).await;
    failed.refund();
    assert_ne!(bench.used(who).await, before);
}

pub(super) async fn what_a_jobs_row_keeps_is_settled_by_whoever_ends_it(open: &Open) {
    let bench = bench(open, |settings| {
        wide_open(settings);
        settings.units_day = 100;
    });
    let who = Charge {
        milliunits: 20_000,
        ..bench.charge("192.0.2.1", "t", "u")
    };
    for (ran, hour, units) in [(0, 0, 0), (3_500, 1, 4)] {
        let mut begun = bench.admit(who).await.unwrap();
        let charge = begun.write();
        let row = JobRow {
            id: "1".into(),
            user_id: "u".into(),
            created: 5,
            request: None,
            handed_over: true,
            starts: 1,
            key: None,
            milliunits: 20_000,
            // Without a file only the server's admission stands there.
            charge: JobCharge {
                ran,
                spend: Some("s".into()),
                ..charge
            },
            running: false,
            end: None,
        };
        // The process stops, and that gives nothing back.
        drop(begun);
        let used = bench.used(who).await;
        for row in [("jobs", 1), ("units-day", 20), ("user-hour", 1)] {
            assert!(used.contains(&row), "{row:?} in {used:?}");
        }
        let mut resumed = bench.limits.resume(&row);
        assert_eq!(resumed.kept(), (ran > 0).then_some(ran));
        resumed.settled();
        resumed.settled();
        drop(resumed);
        let used = bench.used(who).await;
        for row in [("jobs", 0), ("units-day", units), ("user-hour", hour)] {
            assert!(used.contains(&row), "{row:?} in {used:?}");
        }
    }
}

pub(super) async fn the_hour_slides(open: &Open) {
    let bench = bench(open, |settings| {
        wide_open(settings);
        settings.user_hour = 3;
    });
    let who = bench.charge("192.0.2.1", "t", "u");
    for step in [0, 1_000, 1_000] {
        bench.pass(step).await;
        bench.admit(who).await.unwrap().commit();
    }
    bench.pass(1_590).await;
    assert_eq!(bench.admit(who).await.unwrap_err().retry_after, 10);
    bench.pass(10).await;
    bench.admit(who).await.unwrap().commit();
    bench.pass(1).await;
    assert_eq!(bench.admit(who).await.unwrap_err().retry_after, 999);
}

pub(super) async fn a_steady_client_above_its_limit_still_gets_its_limit(open: &Open) {
    let bench = bench(open, wide_open_with_fifty);
    // 60 an hour against 50: over ten hours every hour gets its 50.
    let mut granted = 0;
    for _ in 0..600 {
        let who = bench.charge("192.0.2.1", "t", "u");
        if let Ok(job) = bench.admit(who).await {
            job.commit();
            granted += 1;
        }
        bench.pass(60).await;
    }
    assert_eq!(granted, 500);
}

fn wide_open_with_fifty(settings: &mut LimitSettings) {
    wide_open(settings);
    settings.user_hour = 50;
}

pub(super) async fn units_of_a_day_come_back_after_a_day(open: &Open) {
    let bench = bench(open, |settings| {
        wide_open(settings);
        settings.units_day = 10;
    });
    let who = |units: u64| Charge {
        milliunits: units * 1_000,
        ..bench.charge("192.0.2.1", "t", "u")
    };
    bench.admit(who(6)).await.unwrap().commit();
    bench.pass(7_200).await;
    bench.admit(who(4)).await.unwrap().commit();
    let refused = bench.admit(who(1)).await.unwrap_err();
    assert_eq!(
        (refused.policy, refused.limit, refused.window_seconds),
        ("units-day", 10, 86_400)
    );
    assert!(
        refused.retry_after > 86_400 - 7_200 && refused.retry_after <= 90_000 - 7_200,
        "{refused:?}"
    );
    bench.pass(refused.retry_after - 1_800).await;
    assert!(bench.admit(who(1)).await.is_err());
    bench.pass(1_800).await;
    assert!(bench.admit(who(7)).await.is_err());
    bench.admit(who(6)).await.unwrap().commit();
    // What exceeds the limit by itself, or all counting, is refused and does no harm.
    for cost in [11_000, u64::MAX - 5, u64::MAX] {
        let refused = bench
            .admit(Charge {
                milliunits: cost,
                ..who(0)
            })
            .await
            .unwrap_err();
        assert_eq!(refused.retry_after, 86_400);
    }
}

pub(super) async fn the_penalty_box_blocks_for_its_time_and_not_longer(open: &Open) {
    let bench = bench(open, |_| {});
    let arrive = async |address: &str| {
        bench
            .limits
            .arrive(address.parse().unwrap(), bench.now())
            .await
    };
    for _ in 0..30 {
        arrive("192.0.2.1").await.unwrap();
    }
    bench.pass(1).await;
    assert_eq!(arrive("192.0.2.1").await.unwrap_err().retry_after, 600);
    // Arrivals while blocked do not extend the block.
    for _ in 0..59 {
        bench.pass(10).await;
        assert_eq!(arrive("192.0.2.1").await.unwrap_err().policy, "penalty-box");
    }
    bench.pass(10).await;
    assert!(arrive("192.0.2.1").await.is_ok());
    assert!(arrive("192.0.2.2").await.is_ok());
}

pub(super) async fn the_penalty_box_gives_an_ipv6_network_ten_times_the_room_of_its_part(
    open: &Open,
) {
    let bench = bench(open, wide_open);
    let arrive = async |address: String| {
        let address = address.parse().unwrap();
        bench.limits.arrive(address, bench.now()).await
    };
    // Eleven parts in turn, none of them above its own 30.
    for n in 0..300 {
        arrive(format!("2001:db8:1:{:x}::{n:x}", n % 11))
            .await
            .unwrap();
    }
    let who = bench.charge("2001:db8:1:ff::1", "t", "u");
    assert_eq!(bench.used(who).await.first(), Some(&("penalty-box", 300)));
    bench.pass(1).await;
    let refused = arrive("2001:db8:1:ff::1".into()).await.unwrap_err();
    // The network is slowed, for a minute at the most, and never blocked.
    assert_eq!((refused.policy, refused.retry_after), ("penalty-box", 59));
    assert!(arrive("2001:db8:1:fe::1".into()).await.is_err());
    assert!(arrive("2001:db8:2:ff::1".into()).await.is_ok());
    assert!(arrive("192.0.2.1".into()).await.is_ok());
    bench.pass(59).await;
    // What came while the network was full counted for none of its parts.
    for _ in 0..30 {
        arrive("2001:db8:1:fe::1".into()).await.unwrap();
    }
    // A part that is blocked takes nothing from its network.
    for _ in 0..400 {
        assert!(arrive("2001:db8:1:fe::1".into()).await.is_err());
    }
    assert!(arrive("2001:db8:1:fd::1".into()).await.is_ok());
}

pub(super) async fn an_ipv6_network_has_ten_times_the_room_of_its_part(open: &Open) {
    let bench = bench(open, |settings| {
        let address = settings.address;
        wide_open(settings);
        settings.address = address;
    });
    let mut granted = 0;
    for n in 0..100 {
        let address = format!("2001:db8:0:{n:x}::1");
        if let Ok(job) = bench.admit(bench.charge(&address, "t", "u")).await {
            job.commit();
            granted += 1;
        }
    }
    assert_eq!(granted, 31);
}

pub(super) async fn links_and_token_requests_of_an_ipv6_network_have_ten_times_the_room(
    open: &Open,
) {
    let bench = bench(open, |settings| {
        for rate in [&mut settings.links, &mut settings.token_endpoint] {
            *rate = RateSettings {
                per_minute: 1,
                burst: 2,
            };
        }
    });
    let part = |n: u32| format!("2001:db8:1:{n:x}::1").parse().unwrap();
    let (mut links, mut tokens) = (0, 0);
    for n in 0..100 {
        // The first part is its network's first address, and still another count.
        links += u32::from(bench.limits.link(part(n), bench.now()).is_ok());
        let asked = bench.limits.token_endpoint(part(n), None, bench.now());
        tokens += u32::from(asked.await.is_ok());
    }
    assert_eq!((links, tokens), (21, 21));
    let refused = bench.limits.link(part(200), bench.now()).unwrap_err();
    assert_eq!((refused.policy, refused.limit), ("links", 21));
    let other = "2001:db8:2::1".parse().unwrap();
    assert!(bench.limits.link(other, bench.now()).is_ok());
    for _ in 0..3 {
        let asked = bench.limits.token_endpoint(other, None, bench.now());
        asked.await.unwrap();
    }
    let asked = bench.limits.token_endpoint(other, None, bench.now());
    assert_eq!(asked.await.unwrap_err().limit, 3);
}

pub(super) async fn callers_at_once_get_exactly_the_limit(open: &Open) {
    let bench = Arc::new(bench(open, wide_open_with_fifty));
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let who = bench.charge("192.0.2.1", "t", "u");
                bench.admit(who).await.map(Reservation::commit).is_ok()
            })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        granted += usize::from(task.await.unwrap());
    }
    assert_eq!(granted, 50);
}

pub(super) async fn reads_and_token_requests_have_their_rates(open: &Open) {
    let bench = bench(open, |settings| {
        settings.reads = RateSettings {
            per_minute: 60,
            burst: 2,
        };
        settings.writes = RateSettings {
            per_minute: 1,
            burst: 1,
        };
        settings.token_endpoint_client = RateSettings {
            per_minute: 1,
            burst: 4,
        };
    });
    let mut reads = 0;
    while bench.limits.read("u", bench.now()).await.is_ok() {
        reads += 1;
        assert!(reads < 10);
    }
    assert_eq!(reads, 3);
    assert!(bench.limits.read("v", bench.now()).await.is_ok());
    let mut writes = 0;
    while bench.limits.write("u", bench.now()).await.is_ok() {
        writes += 1;
        assert!(writes < 10);
    }
    assert_eq!(writes, 2, "counted apart from reads");
    let used = bench.used(bench.charge("192.0.2.1", "t", "u")).await;
    assert!(used.contains(&("writes", 2)), "{used:?}");
    let refused = bench.limits.write("u", bench.now()).await.unwrap_err();
    assert_eq!((refused.policy, refused.limit), ("writes", 2));
    assert!(bench.limits.write("v", bench.now()).await.is_ok());
    let ask = async |address: &str, client: &str| {
        let address = address.parse().unwrap();
        bench
            .limits
            .token_endpoint(address, Some(client), bench.now())
            .await
    };
    // The owner signs in; strangers at many addresses guess.
    ask("192.0.2.1", "c").await.unwrap();
    bench
        .limits
        .token_granted("192.0.2.1".parse().unwrap(), "c", bench.now())
        .await;
    for n in 1..=5 {
        ask(&format!("198.51.100.{n}"), "c").await.unwrap();
    }
    let refused = ask("198.51.100.99", "c").await.unwrap_err();
    assert_eq!(refused.policy, "token-endpoint-client");
    assert!(
        ask("198.51.100.99", "d").await.is_ok(),
        "another client is open"
    );
    assert!(
        ask("192.0.2.1", "c").await.is_ok(),
        "the owner is not locked out"
    );
    // The address's own limit is the first.
    for _ in 0..8 {
        ask("192.0.2.1", "c").await.unwrap();
    }
    assert_eq!(
        ask("192.0.2.1", "c").await.unwrap_err().policy,
        "token-endpoint"
    );
}

pub(super) async fn uploads_count_as_files_and_by_their_work(open: &Open) {
    let bench = bench(open, |settings| {
        settings.uploads_work = RateSettings {
            per_minute: 60,
            burst: 99,
        };
    });
    let who = bench.charge("192.0.2.1", "t", "u");
    let work = async |units| bench.limits.upload_work("u", units, bench.now()).await;
    bench.limits.upload("u", bench.now()).await.unwrap();
    work(64).await.unwrap();
    let used = bench.used(who).await;
    assert!(used.contains(&("uploads", 1)), "{used:?}");
    assert!(used.contains(&("uploads-work", 64)), "{used:?}");
    // 36 are left; what is refused takes nothing.
    let refused = work(40).await.unwrap_err();
    assert_eq!(
        (
            refused.policy,
            refused.limit,
            refused.window_seconds,
            refused.retry_after
        ),
        ("uploads-work", 100, 100, 4)
    );
    work(36).await.unwrap();
    assert_eq!(work(1).await.unwrap_err().retry_after, 1);
    assert!(bench.limits.upload_work("v", 1, bench.now()).await.is_ok());
    // One unit a second comes back.
    bench.pass(10).await;
    assert!(bench.used(who).await.contains(&("uploads-work", 90)));
    assert_eq!(work(11).await.unwrap_err().retry_after, 1);
    work(10).await.unwrap();
    // What is more than the limit by itself counts as all of it, and passes from idle alone.
    bench.pass(99).await;
    assert_eq!(work(500).await.unwrap_err().retry_after, 1);
    bench.pass(1).await;
    work(500).await.unwrap();
    assert!(bench.used(who).await.contains(&("uploads-work", 100)));
}

pub(super) async fn ids_at_the_edge_of_their_alphabet_are_kept_apart(open: &Open) {
    let bench = bench(open, |settings| {
        wide_open(settings);
        settings.user_hour = 1;
    });
    let (long, longer) = ("a".repeat(64), "a".repeat(63));
    let users = [
        "-",
        "_",
        "--",
        "a-b",
        "a_b",
        "a",
        "A",
        "0",
        &long,
        &longer,
        "u-jobs",
        "constructor",
    ];
    for user in users {
        let who = bench.charge("192.0.2.1", "t", user);
        bench
            .admit(who)
            .await
            .unwrap_or_else(|refused| panic!("{user}: {refused:?}"))
            .commit();
    }
    for user in users {
        assert!(
            bench
                .admit(bench.charge("192.0.2.1", "t", user))
                .await
                .is_err(),
            "{user}"
        );
    }
}

pub(super) async fn plans_and_overrides_hold_and_are_told(open: &Open) {
    let paid = PlanSettings::parse("user-hour=4 weight=3 storage=9").unwrap();
    let bench = open(
        {
            let mut settings = LimitSettings::default();
            wide_open(&mut settings);
            settings.user_hour = 2;
            settings
        },
        Plans::from([("paid".to_owned(), paid)]),
    );
    let count = async |user: &'static str, row: UserRow| {
        let allowed = bench.limits.allowance(&row);
        let who = Charge {
            allowed,
            ..bench.charge("192.0.2.1", "t", user)
        };
        let mut granted = 0;
        while let Ok(job) = bench.admit(who).await {
            job.commit();
            granted += 1;
            assert!(granted < 20);
        }
        bench.limits.settled().await;
        let rows = bench.limits.usage(who, 5, bench.now()).await;
        let hour = rows.iter().find(|row| row.policy == "user-hour").unwrap();
        assert_eq!(
            (hour.limit, hour.used, hour.remaining),
            (granted, granted, 0)
        );
        let storage = rows.iter().find(|row| row.policy == "storage").unwrap();
        assert_eq!((storage.limit, storage.used), (allowed.storage_bytes, 5));
        granted
    };
    let plan = |name: &str, overrides: &str| UserRow {
        plan: Some(name.into()),
        overrides: overrides.into(),
        ..UserRow::default()
    };
    assert_eq!(count("none", UserRow::default()).await, 2);
    assert_eq!(count("paid", plan("paid", "")).await, 4);
    assert_eq!(count("more", plan("paid", "user-hour=6")).await, 6);
    assert_eq!(count("lost", plan("gone", "")).await, 2);
    assert_eq!(bench.limits.allowance(&plan("paid", "")).weight, 3);
}

/// Every test of the suite, for one backend.
macro_rules! run_suite {
    ($open:path) => {
        run_suite!($open;
            an_address_passes_burst_and_one_more, the_answer_names_the_first_layer_that_refused,
            a_reservation_is_settled_once, a_cancelled_job_pays_for_what_it_ran,
            what_a_jobs_row_keeps_is_settled_by_whoever_ends_it, the_hour_slides,
            a_steady_client_above_its_limit_still_gets_its_limit, units_of_a_day_come_back_after_a_day,
            the_penalty_box_blocks_for_its_time_and_not_longer,
            the_penalty_box_gives_an_ipv6_network_ten_times_the_room_of_its_part, an_ipv6_network_has_ten_times_the_room_of_its_part,
            links_and_token_requests_of_an_ipv6_network_have_ten_times_the_room,
            callers_at_once_get_exactly_the_limit, reads_and_token_requests_have_their_rates,
            uploads_count_as_files_and_by_their_work,
            ids_at_the_edge_of_their_alphabet_are_kept_apart, plans_and_overrides_hold_and_are_told);
    };
    ($open:path; $($name:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::quota::suite::$name(&$open).await;
        }
    )+};
}
pub(super) use run_suite;
