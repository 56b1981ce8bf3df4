//! The suite on a real server, and what only a server can do: go away, come back, and hold something else.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::suite::{Bench, run_suite, wide_open};
use super::*;
use crate::state::StateSettings;
use crate::test_redis::Server;

impl Server {
    fn limits(&self, settings: &LimitSettings, plans: &Plans) -> Limits {
        Limits::shared(settings, plans, &StateSettings::at(self.url())).unwrap()
    }
}

fn bench(server: &Arc<Server>, settings: LimitSettings, plans: Plans) -> Bench {
    let limits = server.limits(&settings, &plans);
    let turned = limits.clone();
    let server = Arc::clone(server);
    Bench {
        limits,
        now: Arc::new(1_000_000_000.into()),
        turn: Box::new(move |seconds| {
            let _alive = &server;
            turned.remote().unwrap().turn(seconds);
        }),
    }
}

fn open(settings: LimitSettings, plans: Plans) -> Bench {
    bench(&Arc::new(Server::start()), settings, plans)
}

run_suite!(open);

fn fifty() -> LimitSettings {
    let mut settings = LimitSettings::default();
    wide_open(&mut settings);
    settings.user_hour = 50;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_origins_share_one_limit_exactly() {
    let server = Arc::new(Server::start());
    let both: Vec<_> = (0..2)
        .map(|_| Arc::new(bench(&server, fifty(), Plans::new())))
        .collect();
    let tasks: Vec<_> = (0..1_000)
        .map(|n| {
            let bench = Arc::clone(&both[n % 2]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_not_locked_out_at_one_origin_where_it_signed_in_at_another() {
    let server = Arc::new(Server::start());
    let settings = LimitSettings {
        token_endpoint_client: RateSettings {
            per_minute: 1,
            burst: 4,
        },
        ..LimitSettings::default()
    };
    let [one, other] = [(); 2].map(|()| bench(&server, settings.clone(), Plans::new()));
    let home = "192.0.2.1".parse().unwrap();
    one.limits.token_granted(home, "c", one.now()).await;
    let ask = async |address: &str, client: &str| {
        let address = address.parse().unwrap();
        let asked = other
            .limits
            .token_endpoint(address, Some(client), other.now());
        asked.await.map_err(|refusal| refusal.policy)
    };
    for n in 1..=5 {
        for client in ["c", "d"] {
            ask(&format!("198.51.100.{n}"), client).await.unwrap();
        }
    }
    assert_eq!(ask("192.0.2.1", "c").await, Ok(()));
    assert_eq!(ask("192.0.2.1", "c").await, Ok(()), "from memory by now");
    for (address, client) in [("192.0.2.2", "c"), ("192.0.2.1", "d")] {
        assert_eq!(ask(address, client).await, Err("token-endpoint-client"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_bounds_what_passes_and_charges_nothing_twice() {
    let mut server = Server::start();
    let settings = fifty();
    let both = [
        server.limits(&settings, &Plans::new()),
        server.limits(&settings, &Plans::new()),
    ];
    let admit = async |limits: &Limits| {
        let charge = Charge {
            address: "192.0.2.1".parse().unwrap(),
            token: "t",
            user: "u",
            milliunits: 0,
            allowed: limits.allowance(&Default::default()),
        };
        // Nobody waits much longer than the time-out, whatever the server does.
        let waited =
            tokio::time::timeout(Duration::from_secs(20), limits.admit(charge, 1_000_000_000));
        waited.await.expect("an admission hangs")
    };
    let mut before = Vec::new();
    for n in 0..20 {
        before.push(admit(&both[n % 2]).await.unwrap());
    }
    server.kill();
    let (mut away, mut refused) = (0, 0);
    for n in 0..300 {
        match admit(&both[n % 2]).await {
            Ok(job) => {
                away += 1;
                job.commit();
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!((away, refused), (100, 200), "two processes, fifty each");
    // What was admitted at the server ends while it is away: half of it is given back.
    for (n, job) in before.into_iter().enumerate() {
        if n < 10 { job.commit() } else { job.refund() }
    }
    server.again();
    for limits in &both {
        limits.settled().await;
    }
    let who = Charge {
        address: "192.0.2.1".parse().unwrap(),
        token: "t",
        user: "u",
        milliunits: 0,
        allowed: both[0].allowance(&Default::default()),
    };
    let rows = both[0].usage(who, 0, 1_000_000_000).await;
    let used = |policy: &str| rows.iter().find(|row| row.policy == policy).unwrap().used;
    assert_eq!(
        (used("user-hour"), used("jobs")),
        (10, 0),
        "of twenty before, ten were given back, each once"
    );
    let mut after = 0;
    while let Ok(job) = admit(&both[after % 2]).await {
        job.commit();
        after += 1;
        assert!(after <= 50);
    }
    assert_eq!(after, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_holds_nobody_longer_than_the_time_out() {
    let server = Arc::new(Server::start());
    let bench = bench(&server, fifty(), Plans::new());
    let who = bench.charge("192.0.2.1", "t", "u");
    bench.admit(who).await.unwrap().commit();
    bench.limits.settled().await;
    let stop = |signal: &str| {
        let id = server.child.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    stop("-STOP");
    let mut granted = 0;
    for _ in 0..60 {
        granted += usize::from(bench.admit(who).await.map(Reservation::commit).is_ok());
    }
    stop("-CONT");
    assert_eq!(granted, 50, "the local bound");
    bench.limits.settled().await;
    // The one that was sent into the silence is not charged, whether it came before or after it was given up.
    let wanted = [
        ("penalty-box", 0),
        ("address", 0),
        ("token", 0),
        ("user", 0),
        ("user-hour", 1),
        ("jobs", 0),
        ("reads", 0),
        ("uploads", 0),
        ("writes", 0),
        ("uploads-work", 0),
        ("storage", 0),
    ];
    let mut used = Vec::new();
    for _ in 0..500 {
        used = bench.used(who).await;
        if used == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(used, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admission_that_is_sent_twice_is_charged_once_and_ended_once() {
    let server = Arc::new(Server::start());
    let bench = bench(&server, fifty(), Plans::new());
    let who = bench.charge("192.0.2.1", "t", "u");
    let (remote, rates) = (bench.limits.remote().unwrap(), bench.limits.rates());
    let ask = Ask::from(Charge {
        milliunits: 3_000,
        allowed: Allowance {
            milliunits_day: Some(9_000),
            ..who.allowed
        },
        ..who
    });
    let with_units = Charge {
        allowed: ask.allowed,
        ..who
    };
    let mut admitted = Vec::new();
    for _ in 0..3 {
        admitted.push(
            remote
                .admit_as(*b"the same", &ask, rates)
                .await
                .unwrap()
                .unwrap()
                .0,
        );
    }
    let used = async |wanted: [(&str, u64); 3]| {
        let used = bench.used(with_units).await;
        for row in wanted {
            assert!(used.contains(&row), "{row:?} in {used:?}");
        }
    };
    used([("user-hour", 1), ("jobs", 1), ("units-day", 3)]).await;
    // Ended many times, it ends once; what came first stands.
    remote
        .settle_now(&admitted[0], reservation::Settle::Keep(2_000), false)
        .await
        .unwrap();
    for end in [reservation::Settle::Refund, reservation::Settle::Keep(0)] {
        for one in &admitted {
            remote.settle_now(one, end, false).await.unwrap();
        }
        used([("user-hour", 1), ("jobs", 0), ("units-day", 2)]).await;
    }
    // Given up before it came: when it comes after all, nothing is charged.
    let late = remote
        .admit_as(*b"late one", &ask, rates)
        .await
        .unwrap()
        .unwrap()
        .0;
    remote
        .settle_now(&late, reservation::Settle::Refund, true)
        .await
        .unwrap();
    server.ask(&["FLUSHALL"]);
    remote
        .settle_now(&late, reservation::Settle::Refund, true)
        .await
        .unwrap();
    assert!(remote.admit_as(*b"late one", &ask, rates).await.is_err());
    used([("user-hour", 0), ("jobs", 0), ("units-day", 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_hold_something_else_let_nobody_spend_and_stay_as_they_are() {
    let server = Arc::new(Server::start());
    let bench = bench(&server, fifty(), Plans::new());
    let who = bench.charge("192.0.2.1", "t", "u");
    for spoil in [
        vec!["LPUSH", "{signet}:u:u", "x"],
        vec!["SET", "{signet}:u:u", "what is this"],
        vec!["SET", "{signet}:u:u", "\u{3}"],
        vec!["HSET", "{signet}:a:192.0.2.1", "x", "y"],
        vec!["SET", "{signet}:a:192.0.2.1", "soon"],
    ] {
        server.ask(&["FLUSHALL"]);
        server.ask(&spoil);
        let error = bench
            .limits
            .admit(who, bench.now())
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(&error, QuotaError::State(_)), "{spoil:?}: {error}");
        assert_eq!(
            server.ask(&["DBSIZE"]),
            "1",
            "{spoil:?}: nothing was charged"
        );
    }
    server.ask(&["FLUSHALL"]);
    assert!(bench.admit(who).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admissions_that_go_together_are_decided_each_for_itself() {
    let server = Arc::new(Server::start());
    let mut settings = fifty();
    settings.user_hour = 3;
    let bench = Arc::new(bench(&server, settings, Plans::new()));
    server.ask(&["SET", "{signet}:u:user-7", "what is this"]);
    let tasks: Vec<_> = (0..1_000)
        .map(|n| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let user = format!("user-{}", n % 100);
                let address = match n % 2 {
                    0 => "192.0.2.1",
                    _ => "2001:db8::1",
                };
                let charge = bench.charge(address, "t", &user);
                let admitted = bench.limits.admit(charge, bench.now()).await;
                (n % 100, admitted.map(Reservation::commit))
            })
        })
        .collect();
    let mut granted = [0; 100];
    for task in tasks {
        match task.await.unwrap() {
            (user, Ok(())) => granted[user] += 1,
            (7, Err(QuotaError::State(_))) => {}
            (user, Err(QuotaError::Refused(refusal))) => {
                assert_eq!((user == 7, refusal.policy), (false, "user-hour"));
            }
            (user, Err(error)) => panic!("{user}: {error}"),
        }
    }
    let expected: [u32; 100] = std::array::from_fn(|user| if user == 7 { 0 } else { 3 });
    assert_eq!(granted, expected);
    bench.limits.settled().await;
    let stats = server.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| {
        let calls = line.strip_prefix("cmdstat_evalsha:calls=")?;
        calls.split(',').next()?.parse::<u32>().ok()
    });
    // A thousand decisions, and 297 ends, which are told one by one.
    assert!(calls.unwrap() < 297 + 700, "{calls:?}");
}

#[tokio::test]
async fn an_admission_that_nobody_waits_for_any_more_charges_nothing() {
    let server = Arc::new(Server::start());
    let bench = bench(&server, fifty(), Plans::new());
    let who = bench.charge("192.0.2.1", "t", "u");
    for _ in 0..100 {
        // Asked once, and left before the answer.
        let mut asked = Box::pin(bench.limits.admit(who, bench.now()));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Future::poll(asked.as_mut(), context).is_ready())
        });
        assert!(!polled.await);
    }
    let used = bench.used(who).await;
    assert!(used.contains(&("user-hour", 0)), "{used:?}");
    assert!(used.contains(&("jobs", 0)), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_lies_in_one_slot_and_dies_by_itself() {
    let server = Arc::new(Server::start());
    // A rate's key lives as long as one of its emissions: long enough here for a slow look.
    let mut settings = LimitSettings::default();
    for rate in [
        &mut settings.reads,
        &mut settings.writes,
        &mut settings.token,
        &mut settings.token_endpoint,
    ] {
        rate.per_minute = 1;
    }
    let bench = bench(&server, settings, Plans::new());
    let who = bench.charge("2001:db8::1", "t", "u");
    bench.admit(who).await.unwrap().commit();
    bench.limits.arrive(who.address, 0).await.unwrap();
    bench.limits.read("u", 0).await.unwrap();
    bench.limits.write("u", 0).await.unwrap();
    bench
        .limits
        .token_endpoint(who.address, Some("a client of any length"), 0)
        .await
        .unwrap();
    bench.limits.settled().await;
    let keys = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 10, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with("{signet}:"), "{key}");
        let life: i64 = server.ask(&["PTTL", key]).parse().unwrap();
        assert!(life > 0 && life <= 112_500_000, "{key}: {life}");
    }
}

#[tokio::test]
async fn a_server_that_was_never_there_is_no_error_and_the_local_bound_holds() {
    let state = StateSettings {
        url: "redis://127.0.0.1:1".into(),
        ..StateSettings::default()
    };
    let limits = Limits::shared(&fifty(), &Plans::new(), &state).unwrap();
    let bench = Bench {
        limits,
        now: Arc::new(1_000_000_000.into()),
        turn: Box::new(|_| {}),
    };
    let who = bench.charge("192.0.2.1", "t", "u");
    let mut granted = 0;
    for _ in 0..100 {
        granted += usize::from(bench.admit(who).await.map(Reservation::commit).is_ok());
    }
    assert_eq!(granted, 50);
}
