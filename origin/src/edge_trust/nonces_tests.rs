use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn accepted(nonce: &str, created: u64) -> Accepted<'_> {
    Accepted { nonce, created }
}

#[test]
fn of_many_at_once_one_is_first() {
    let nonces = Nonces::default();
    let is_first =
        |n: &usize| nonces.remember_here(&accepted(&format!("nonce-{n}"), 9), 9) == Nonce::First;
    let firsts: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..500).filter(is_first).count()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(firsts, 500);
}

#[test]
fn a_nonce_is_remembered_as_long_as_its_signature_is_fresh_and_forgotten_later() {
    let nonces = Nonces::default();
    let created = 1_000;
    let at = |now| nonces.remember_here(&accepted("a", created), now);
    assert_eq!(at(created - WINDOW), Nonce::First);
    for now in created - WINDOW..=created + WINDOW {
        assert_eq!(at(now), Nonce::Replayed, "at {now}");
    }
    // The next request of any kind gives the memory back.
    let later = created + WINDOW + 1;
    nonces.remember_here(&accepted("b", later), later);
    assert_eq!(nonces.seen.lock().unwrap().entries, 1);
}

#[test]
fn six_hundred_thousand_requests_in_a_minute_leave_room_for_a_fresh_one_and_for_no_replay() {
    let nonces = Nonces::default();
    let name = |n: u64| format!("{n:032x}");
    for n in 0..600_000 {
        let now = 1_000_000 + n / 10_000;
        let nonce = name(n);
        let verdict = nonces.remember_here(&accepted(&nonce, now), now);
        assert_eq!(verdict, Nonce::First);
    }
    let now = 1_000_060;
    let fresh = nonces.remember_here(&accepted("fresh-fresh-fresh", now), now);
    assert_eq!(fresh, Nonce::First);
    for n in (310_000..600_000).step_by(997) {
        let nonce = name(n);
        let again = nonces.remember_here(&accepted(&nonce, 1_000_000 + n / 10_000), now);
        assert_eq!(again, Nonce::Replayed, "{n}");
    }
}

#[test]
fn at_the_bound_nothing_is_forgotten_and_room_comes_back_by_the_second() {
    let nonces = Nonces::with_capacity(100, None);
    let mut names = (0..).map(|n| format!("nonce-{n:030}"));
    let mut remember =
        |created, now| nonces.remember_here(&accepted(&names.next().unwrap(), created), now);
    for n in 0..100 {
        assert_eq!(remember(1_000 + n / 50, 1_001), Nonce::First);
    }
    assert_eq!(remember(1_001, 1_001), Nonce::NoRoom);
    let replay = nonces.remember_here(&accepted(&format!("nonce-{:030}", 7), 1_000), 1_001);
    assert_eq!(replay, Nonce::Replayed, "a full memory forgets nothing");
    assert_eq!(remember(1_031, 1_030), Nonce::NoRoom);
    // The first second is over, and with it fifty entries.
    for _ in 0..50 {
        assert_eq!(remember(1_031, 1_031), Nonce::First);
    }
    assert_eq!(remember(1_031, 1_031), Nonce::NoRoom);
}

proptest! {
    #[test]
    fn it_decides_as_a_list_of_all_requests(steps in prop::collection::vec((0u64..4, 0u64..=2 * WINDOW, 0u8..6), 1..400)) {
        let nonces = Nonces::default();
        let mut answered: HashMap<(u64, u8), ()> = HashMap::new();
        let mut now = 1_000;
        for (pause, ahead, name) in steps {
            now += pause * 9;
            let created = now - WINDOW + ahead;
            let is_new = answered.insert((created, name), ()).is_none();
            let verdict = nonces.remember_here(&accepted(&format!("nonce-{name}"), created), now);
            prop_assert_eq!(verdict == Nonce::First, is_new);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_counts_once_over_all_origins_and_while_redis_is_away_once_at_each() {
    let mut redis = crate::test_redis::Server::start();
    let settings = crate::state::StateSettings::at(redis.url());
    let open = || Nonces::shared(Some(Server::open(&settings).unwrap()));
    let origins = [open(), open()];
    let is_first = async |origin: &Nonces, nonce: &str, now| {
        origin.remember(&accepted(nonce, now), now).await == Nonce::First
    };
    let mut asked = Vec::new();
    for n in 0..400 {
        let (origin, nonce) = (origins[n % 2].clone(), format!("nonce-{}", n / 2));
        asked.push(tokio::spawn(async move {
            origin.remember(&accepted(&nonce, 9), 9).await == Nonce::First
        }));
    }
    let mut firsts = 0;
    for one in asked {
        firsts += usize::from(one.await.unwrap());
    }
    assert_eq!(firsts, 200);
    let lasts: u64 = redis
        .ask(&["TTL", "{signet}:nonce:nonce-7"])
        .parse()
        .unwrap();
    assert!((1..=SECONDS as u64).contains(&lasts));
    redis.kill();
    for origin in &origins {
        assert!(is_first(origin, "away", 10).await);
        assert!(!is_first(origin, "away", 10).await);
        assert!(
            !is_first(origin, "nonce-0", 9).await || !is_first(origin, "nonce-0", 9).await,
            "what was seen here is remembered"
        );
    }
}
