//! The suite on the limits in memory, and what only they have.

use super::memory::{HOUR, SECOND};
use super::suite::{Bench, run_suite, wide_open};
use super::*;
use crate::state::State;

const NOW: u64 = 1_800_000_000 * SECOND;

fn open(settings: LimitSettings, plans: Plans) -> Bench {
    Bench {
        limits: Limits::new(&settings, &plans).unwrap(),
        now: std::sync::Arc::new(NOW.into()),
        turn: Box::new(|_| {}),
    }
}

run_suite!(open);

fn bench(change: impl Fn(&mut LimitSettings)) -> Bench {
    let mut settings = LimitSettings::default();
    change(&mut settings);
    open(settings, Plans::new())
}

#[tokio::test]
async fn strangers_leave_no_memory() {
    let bench = bench(|_| {});
    for n in 0..20_000u64 {
        // Each from a /64 of its own, admitted, arrived or refused, and hours after the one before.
        let address = IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(n) << 64).into());
        let user = format!("u{n}");
        let charge = Charge {
            address,
            ..bench.charge("::1", "t", &user)
        };
        bench.admit(charge).await.unwrap().commit();
        bench.limits.arrive(address, bench.now()).await.unwrap();
        bench.limits.read(&user, bench.now()).await.unwrap();
        bench.pass(90_001).await;
    }
    let (addresses, users) = bench.limits.kept();
    assert!(
        addresses <= 17_000 && users <= 17_000,
        "{addresses} {users}"
    );
    // Once all is idle for long, the same number of decisions leaves next to nothing.
    for _ in 0..40_000 {
        drop(bench.admit(bench.charge("192.0.2.1", "t", "u")).await);
    }
}

#[tokio::test]
async fn a_clock_set_back_refuses_an_hour_at_most_and_grants_no_second_hour() {
    let bench = bench(|settings| {
        wide_open(settings);
        settings.user_hour = 3;
        settings.units_day = 100;
    });
    let who = bench.charge("192.0.2.1", "t", "u");
    for _ in 0..3 {
        bench.admit(who).await.unwrap().commit();
    }
    let back = |hours: u64| {
        bench
            .now
            .fetch_sub(hours * HOUR, std::sync::atomic::Ordering::SeqCst)
    };
    back(100);
    let refused = bench.admit(who).await.unwrap_err();
    assert_eq!((refused.policy, refused.retry_after), ("user-hour", 3_600));
    bench.pass(3_600).await;
    for _ in 0..3 {
        bench.admit(who).await.unwrap().commit();
        // The rates, too, took the step: they have room for one, and go on from there.
        bench.pass(1).await;
    }
    assert!(bench.admit(who).await.is_err());
    // The units are still counted, and leave a day later by the new clock.
    let used = bench.used(who).await;
    assert!(used.contains(&("units-day", 6)), "{used:?}");
    bench.pass(26 * 3_600).await;
    assert!(bench.used(who).await.contains(&("units-day", 0)));
}

#[tokio::test]
async fn a_clock_set_forwards_opens_one_hour_and_settles_what_was_reserved_before() {
    let bench = bench(|settings| {
        wide_open(settings);
        settings.user_hour = 3;
        settings.jobs = 4;
        settings.units_day = 100;
    });
    let who = bench.charge("192.0.2.1", "t", "u");
    let before = bench.admit(who).await.unwrap();
    for _ in 0..2 {
        bench.admit(who).await.unwrap().commit();
    }
    bench
        .now
        .fetch_add(100 * HOUR, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..3 {
        bench.admit(who).await.unwrap().commit();
    }
    let refused = bench.admit(who).await.unwrap_err();
    assert_eq!(refused.policy, "user-hour");
    // What was reserved in an hour that is over gives nothing back to this one, but its place among the jobs.
    drop(before);
    assert_eq!(bench.admit(who).await.unwrap_err().policy, "user-hour");
    let used = bench.used(who).await;
    assert!(
        used.contains(&("units-day", 3)) && used.contains(&("jobs", 0)),
        "{used:?}"
    );
    // Set right again, it costs an hour's wait at most.
    bench
        .now
        .fetch_sub(100 * HOUR, std::sync::atomic::Ordering::SeqCst);
    assert!(bench.admit(who).await.unwrap_err().retry_after <= 3_600);
    bench.pass(3_600).await;
    bench.admit(who).await.unwrap().commit();
}

#[tokio::test]
async fn a_block_ends_in_time_though_the_clock_was_set_back() {
    let bench = bench(|_| {});
    let address = "192.0.2.1".parse().unwrap();
    while bench.limits.arrive(address, bench.now()).await.is_ok() {}
    bench
        .now
        .fetch_sub(50 * HOUR, std::sync::atomic::Ordering::SeqCst);
    let refused = bench.limits.arrive(address, bench.now()).await.unwrap_err();
    assert_eq!(refused.retry_after, 600);
    bench.pass(600).await;
    assert!(bench.limits.arrive(address, bench.now()).await.is_ok());
}

#[tokio::test]
async fn switched_off_they_refuse_nothing() {
    let bench = bench(|settings| settings.enabled = false);
    let who = bench.charge("192.0.2.1", "t", "u");
    for _ in 0..1_000 {
        bench.limits.arrive(who.address, bench.now()).await.unwrap();
        bench.admit(who).await.unwrap().commit();
    }
    assert_eq!(bench.limits.usage(who, 0, bench.now()).await, []);
}

#[tokio::test]
async fn hour_and_units_outlive_the_process_and_a_crash_gives_back_what_never_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite");
    let mut settings = LimitSettings::default();
    wide_open(&mut settings);
    settings.units_day = 100;
    let state = State::open(&file).unwrap();
    let open = async |state: &State| {
        let limits = Limits::open(&settings, &Plans::new(), state, NOW)
            .await
            .unwrap();
        Bench {
            limits,
            now: std::sync::Arc::new(NOW.into()),
            turn: Box::new(|_| {}),
        }
    };
    let bench = open(&state).await;
    let who = Charge {
        milliunits: 8_000,
        ..bench.charge("192.0.2.1", "t", "u")
    };
    bench.admit(who).await.unwrap().commit();
    bench.admit(who).await.unwrap().refund();
    let mut part = bench.admit(who).await.unwrap();
    part.worked(2, 8);
    drop(part);
    let unsettled = bench.admit(who).await.unwrap();
    state.user("u").await.unwrap();
    // As after kill -9: the file as it is, without anybody tidying up.
    let copy = folder.path().join("copy.sqlite");
    for end in ["", "-wal"] {
        std::fs::copy(
            format!("{}{end}", file.display()),
            format!("{}{end}", copy.display()),
        )
        .unwrap();
    }
    drop(unsettled);
    let after = open(&State::open(&copy).unwrap()).await;
    let used = after.used(who).await;
    assert!(
        used.contains(&("units-day", 10)) && used.contains(&("user-hour", 2)),
        "{used:?}"
    );
    assert!(used.contains(&("jobs", 0)));
}

#[tokio::test]
async fn a_state_that_takes_no_writes_lets_nobody_spend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite");
    let state = State::open(&file).unwrap();
    let settings = LimitSettings::default();
    let limits = Limits::open(&settings, &Plans::new(), &state, NOW)
        .await
        .unwrap();
    state
        .transact(|tx| Ok(tx.execute_batch("DROP TABLE spends")?))
        .await
        .unwrap();
    let bench = Bench {
        limits,
        now: std::sync::Arc::new(NOW.into()),
        turn: Box::new(|_| {}),
    };
    let who = bench.charge("192.0.2.1", "t", "u");
    assert!(matches!(
        bench.limits.admit(who, NOW).await,
        Err(QuotaError::State(_))
    ));
    assert!(
        bench.used(who).await.iter().all(|(_, used)| *used == 0),
        "nothing stays charged"
    );
}
