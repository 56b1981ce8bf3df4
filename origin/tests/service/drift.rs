//! `kill -9` amid a thousand reservations of cost and storage: after a restart and a sweep every count is what is there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{ALL_SCOPES, Home, Service, files, quick};

const CALLERS: usize = 8;
const REQUESTS: usize = 1_000;

fn usage(service: &Service, token: &str, policy: &str) -> u64 {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["policy"] == policy).unwrap();
    row["used"].as_u64().unwrap()
}

#[test]
fn killed_amid_a_thousand_reservations_nothing_drifts() {
    let home = Home::new(&[
        ("SIGNET_AUTH__ISSUER", "https://issuer.example"),
        ("SIGNET_LIMITS__USER__PER_MINUTE", "60000"),
        ("SIGNET_LIMITS__USER__BURST", "60000"),
        ("SIGNET_LIMITS__ADDRESS__BURST", "60000"),
        ("SIGNET_LIMITS__TOKEN__BURST", "60000"),
        ("SIGNET_LIMITS__USER_HOUR", "100000"),
        ("SIGNET_LIMITS__UNITS_DAY", "100000"),
        ("SIGNET_LIMITS__JOBS", "1000"),
    ]);
    let service = home.serve();
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let (asked, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let home = std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            let request = service.post("/api/generate").token(&token).json(&quick());
            let (asked, answered) = (&asked, &answered);
            scope.spawn(move || {
                while asked.fetch_add(1, Ordering::SeqCst) < REQUESTS {
                    match request.try_send() {
                        Ok(answer) => {
                            assert_eq!(answer.status, 200);
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        // Killed.
                        Err(_) => return,
                    }
                }
            });
        }
        // In the middle of it: many are done, many are under way.
        while answered.load(Ordering::SeqCst) < REQUESTS / 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        service.kill()
    });
    let answered = answered.into_inner() as u64;
    let service = home.serve();
    let report: Value =
        serde_json::from_str(&service.home().succeed(&["sweep", "--json"])).unwrap();
    for name in ["orphans", "missing", "usage_corrected"] {
        assert_eq!(report[name], 0, "{report}");
    }
    // Every listed picture has its object, every object its row, and the bytes are theirs to the last one.
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    let mut target = "/api/images?limit=100".to_owned();
    loop {
        let page = service.get(&target).token(&token).send().ok().json();
        for image in page["images"].as_array().unwrap() {
            keys.insert(image["key"].as_str().unwrap().to_owned());
            bytes += image["bytes"].as_u64().unwrap();
        }
        match page["next"].as_str() {
            Some(next) => target = format!("/api/images?limit=100&cursor={next}"),
            None => break,
        }
    }
    let folder = service.home().path("data/objects");
    let objects: BTreeSet<_> = files(&folder)
        .into_iter()
        .filter(|file| file.starts_with("generated/"))
        .collect();
    assert_eq!(keys, objects);
    let there: u64 = objects
        .iter()
        .map(|key| std::fs::metadata(folder.join(key)).unwrap().len())
        .sum();
    assert_eq!((usage(&service, &token, "storage"), bytes), (there, there));
    assert!(keys.len() as u64 >= answered, "what was answered is there");
    // Each picture is paid, and what was under way and lost is paid as far as it ran.
    let (charged, pictures) = (usage(&service, &token, "user-hour"), keys.len() as u64);
    assert!(
        charged >= pictures,
        "{charged} charges for {pictures} pictures"
    );
    assert!(
        charged <= pictures + CALLERS as u64,
        "{charged} charges for {pictures} pictures"
    );
    assert_eq!(usage(&service, &token, "jobs"), 0);
    // And it counts on from there.
    service
        .generate(
            &token,
            &json!({ "prompt": "x", "steps": 1, "guidance_scale": 1 }),
        )
        .ok();
    assert_eq!(usage(&service, &token, "user-hour"), charged + 1);
    let again: Value = serde_json::from_str(&service.home().succeed(&["sweep", "--json"])).unwrap();
    assert_eq!(again["usage_corrected"], 0);
}
