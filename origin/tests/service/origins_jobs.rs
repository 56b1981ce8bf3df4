//! Jobs of two origins on one state: taken over once, followed and cancelled from either.

use std::path::Path;

use serde_json::{Value, json};

use crate::jobs::{ask, events, long, path, submit, until, used};
use crate::program::{ALL_SCOPES, Home, Service, files, quick};
use crate::redis::{Redis, origin};

/// An origin that has the demo model too, and counts fast: one is dead after five seconds, which no busy machine makes a
/// living one wait.
fn home(redis: &Redis, store: &Path) -> Home {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let models = [
        root.join("tests/goldens/engine/model"),
        root.join("models/demo/emoji-128"),
    ];
    let mut home = origin(redis, store);
    home.set("SIGNET_INFER__MODELS", &json!(models).to_string());
    home.set("SIGNET_TEST_BEAT_MS", "1000");
    home
}

fn listed(service: &Service, token: &str) -> usize {
    let answer = service.get("/api/images").token(token).send().ok().json();
    answer["images"].as_array().unwrap().len()
}

fn settled(service: &Service, token: &str) {
    let settled = (0..2_400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25));
        used(service, token, "jobs") == 0
    });
    assert!(settled, "a place among the jobs is never given back");
}

#[test]
fn what_a_killed_origin_had_is_finished_once_by_the_one_that_lives() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let one = home(&redis, store.path()).serve();
    let other = home(&redis, store.path()).serve();
    let token = one.token(ALL_SCOPES);
    let jobs: Vec<Value> = (0..3).map(|_| submit(&one, &token, &long())).collect();
    until(&one, &token, &jobs[0], &["running"]);
    let seen = until(&other, &token, &jobs[0], &["running"]);
    assert_eq!(seen["job"]["queue_position"], Value::Null);
    drop(one.kill());
    for job in &jobs {
        let done = until(&other, &token, job, &["done", "failed"]);
        assert_eq!(done["job"]["status"], "done", "{done}");
        assert_eq!(done["images"].as_array().unwrap().len(), 1);
    }
    assert_eq!(listed(&other, &token), 3);
    assert_eq!(files(store.path()).len(), 3);
    assert_eq!(used(&other, &token, "user-hour"), 3);
}

#[test]
fn an_origin_that_stood_still_lists_nothing_that_another_took_over() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let one = home(&redis, store.path()).serve();
    let other = home(&redis, store.path()).serve();
    let token = one.token(ALL_SCOPES);
    // It comes to the end of its own while the other is at it, and after the other's end.
    for waits_for in ["step", "done"] {
        let job = submit(&one, &token, &long());
        until(&one, &token, &job, &["running"]);
        one.signal("STOP");
        let is_taken_over = (0..2_400).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(25));
            let seen = other.get(&path(&job)).token(&token).send().ok().json();
            !seen["job"]["step"].is_null() || seen["job"]["status"] == "done"
        });
        assert!(is_taken_over);
        if waits_for == "done" {
            until(&other, &token, &job, &["done"]);
        }
        one.signal("CONT");
        let done = until(&other, &token, &job, &["done", "failed"]);
        assert_eq!(done["job"]["status"], "done", "{done}");
        assert_eq!(done["images"].as_array().unwrap().len(), 1, "{waits_for}");
        settled(&one, &token);
    }
    let keys = |service: &Service| {
        let answer = service.get("/api/images").token(&token).send().ok().json();
        let images = answer["images"].as_array().unwrap().clone();
        let mut keys: Vec<_> = images
            .iter()
            .map(|image| image["key"].as_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    };
    let listed = keys(&other);
    assert_eq!(listed.len(), 2);
    assert_eq!(keys(&one), listed);
    // What the one wrote behind its row is listed nowhere, and is left to the sweep, once it is old.
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let kept = (0..2_400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25));
        let mut there = files(store.path());
        for name in there.iter().filter(|name| !listed.contains(name)) {
            if let Ok(file) = std::fs::File::options()
                .write(true)
                .open(store.path().join(name))
            {
                file.set_modified(old).unwrap();
            }
        }
        if there.len() > listed.len() {
            other.home().succeed(&["sweep", "--remove-orphans"]);
            there = files(store.path());
        }
        there.sort();
        there == listed
    });
    assert!(kept, "{listed:?} {:?}", files(store.path()));
}

#[test]
fn a_starting_origin_leaves_alone_what_another_is_doing() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let mut pausing = home(&redis, store.path());
    pausing.set("SIGNET_TEST_PAUSE_AT", "stored");
    let one = pausing.serve();
    let token = one.token(ALL_SCOPES);
    let job = submit(&one, &token, &quick());
    // Its picture is pending from now on.
    while files(store.path()).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let other = home(&redis, store.path()).serve();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let seen = other.get(&path(&job)).token(&token).send().ok().json();
    assert_ne!(seen["job"]["status"], "done");
    assert_eq!(files(store.path()).len(), 1);
    drop(one.kill());
    until(&other, &token, &job, &["done"]);
    assert_eq!((listed(&other, &token), files(store.path()).len()), (1, 1));
}

#[test]
fn a_job_is_followed_and_cancelled_through_the_other_origin() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let one = home(&redis, store.path()).serve();
    let other = home(&redis, store.path()).serve();
    let token = one.token(ALL_SCOPES);
    let job = submit(&one, &token, &quick());
    let told = events(&other, &token, &job);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "done");
    assert_eq!(told[0].1["images"].as_array().unwrap().len(), 1);
    // Long enough for the one that has them to be asked.
    let mut longer = long();
    longer["n"] = json!(4);
    let jobs: Vec<Value> = (0..3).map(|_| submit(&one, &token, &longer)).collect();
    std::thread::scope(|scope| {
        for job in &jobs {
            let cancel = other.delete(&path(job)).token(&token);
            scope.spawn(move || {
                let answer = cancel.send().ok().json();
                assert_eq!(answer["job"]["status"], "cancelled", "{answer}");
            });
        }
    });
    let strange = other.token(ALL_SCOPES);
    let mine = submit(&one, &token, &quick());
    assert_eq!(
        other.delete(&path(&mine)).token(&strange).send().status,
        404
    );
    until(&other, &token, &mine, &["done"]);
    assert_eq!(listed(&other, &token), 2);
}

#[test]
fn equal_requests_at_two_origins_at_once_are_one_job() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let one = home(&redis, store.path()).serve();
    let other = home(&redis, store.path()).serve();
    let token = one.token(ALL_SCOPES);
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..20)
            .map(|n| {
                let (service, token) = (if n % 2 == 0 { &one } else { &other }, &token);
                scope.spawn(move || {
                    let answer = ask(service, token, &quick())
                        .header("idempotency-key", "the same")
                        .send()
                        .ok();
                    answer.json()["job"]["id"].clone()
                })
            })
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    settled(&one, &token);
    assert_eq!(listed(&other, &token), 1);
    assert_eq!(used(&other, &token, "user-hour"), 1);
}

#[test]
fn an_origin_that_stops_hands_over_what_waits_at_once() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let one = home(&redis, store.path()).serve();
    let other = home(&redis, store.path()).serve();
    let token = one.token(ALL_SCOPES);
    let jobs: Vec<Value> = (0..4).map(|_| submit(&one, &token, &long())).collect();
    one.signal("TERM");
    assert!(one.ended().0.success());
    for job in &jobs {
        let done = until(&other, &token, job, &["done", "failed"]);
        assert_eq!(done["job"]["status"], "done", "{done}");
    }
    assert_eq!(listed(&other, &token), 4);
}
