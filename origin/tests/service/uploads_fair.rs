//! Uploads of several users at once: who waits for whom, and what work counts for.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use image::{ImageFormat, RgbImage};
use serde_json::Value;

use crate::program::{ALL_SCOPES, Service};
use crate::uploads::{picture, send};

/// A picture of so many pixels a side in few bytes.
fn flat(side: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    RgbImage::new(side, side)
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// The markers of a progressive gray JPEG of 8192×8192 with so many scans that say nothing.
fn scans(count: usize) -> Vec<u8> {
    let mut file = b"\xff\xd8\xff\xc2\0\x0b\x08\x20\0\x20\0\x01\x01\x11\0".to_vec();
    for _ in 0..count {
        file.extend(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\x12\x34");
    }
    file.extend(b"\xff\xd9");
    file
}

fn row(service: &Service, token: &str, policy: &str) -> Value {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    let found = rows.into_iter().find(|row| row["policy"] == policy);
    found.unwrap_or_else(|| panic!("no row {policy}"))
}

/// A service with one turn a lane and limits that let a flood through, for which alone the order of turns is then left.
fn busy() -> Service {
    Service::start(&[
        ("SIGNET_UPLOADS__PARALLEL", "1"),
        ("SIGNET_UPLOADS__PROCESS_MS", "120000"),
        ("SIGNET_UPLOADS__WAIT_SECONDS", "600"),
        // Decoding is what takes turns here, and an unoptimised build packs slowly.
        ("SIGNET_UPLOADS__IMAGE__MAX_SIDE", "256"),
        ("SIGNET_LIMITS__UPLOADS__PER_MINUTE", "60000"),
        ("SIGNET_LIMITS__UPLOADS__BURST", "1000"),
        ("SIGNET_LIMITS__UPLOADS_WORK__PER_MINUTE", "6000000"),
        ("SIGNET_LIMITS__UPLOADS_WORK__BURST", "6000000"),
    ])
}

/// Files of the flood that are answered while `honest` runs.
fn overtaken(service: &Service, honest: impl FnOnce()) -> usize {
    const FLOOD: usize = 6;
    let token = service.token(ALL_SCOPES);
    let large = flat(4_000);
    let answered = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..FLOOD {
            scope.spawn(|| {
                send(service, &token, "image/png", large.clone()).ok();
                answered.lock().unwrap().push(Instant::now());
            });
        }
        // The flood is in line, and its first file is done.
        while answered.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let begun = Instant::now();
        honest();
        let ended = Instant::now();
        let between = |at: &&Instant| **at > begun && **at < ended;
        answered.lock().unwrap().iter().filter(between).count()
    })
}

#[test]
fn a_flood_of_large_files_does_not_hold_up_anothers_small_one() {
    let service = busy();
    let token = service.token(ALL_SCOPES);
    let small = picture(150, 150, ImageFormat::Png);
    assert!((40_000..70_000).contains(&small.len()), "{}", small.len());
    let overtaken = overtaken(&service, || {
        send(&service, &token, "image/png", small).ok();
    });
    assert!(overtaken <= 1, "{overtaken} files went first");
}

#[test]
fn a_flood_delays_anothers_large_file_by_the_one_under_way() {
    let service = busy();
    let token = service.token(ALL_SCOPES);
    let overtaken = overtaken(&service, || {
        send(&service, &token, "image/png", flat(4_000)).ok();
    });
    // The one under way, and one that may have begun before this one had arrived.
    assert!(overtaken <= 2, "{overtaken} files went first");
}

#[test]
fn the_work_in_uploads_is_counted_shown_and_limited() {
    let service = Service::start(&[
        ("SIGNET_UPLOADS__PROCESS_MS", "120000"),
        ("SIGNET_UPLOADS__IMAGE__MAX_SIDE", "256"),
        ("SIGNET_LIMITS__UPLOADS_WORK__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__UPLOADS_WORK__BURST", "9"),
    ]);
    let token = service.token(ALL_SCOPES);
    let used = |policy| row(&service, &token, policy)["used"].as_u64().unwrap();
    assert_eq!((used("uploads"), used("uploads-work")), (0, 0));
    send(&service, &token, "image/png", flat(8)).ok();
    assert_eq!(used("uploads-work"), 1);
    send(&service, &token, "image/png", flat(2_048)).ok();
    assert_eq!(used("uploads-work"), 5);
    let over = send(&service, &token, "image/png", flat(2_600));
    assert_eq!(over.problem(), (429, "rate_limited".into()));
    let named = over.header("ratelimit").unwrap();
    assert!(named.starts_with("\"uploads-work\";r=0;t="), "{named}");
    assert_eq!(used("uploads-work"), 5, "what is refused is not charged");
    assert_eq!(row(&service, &token, "uploads-work")["limit"], 10);
    send(&service, &token, "image/png", flat(2_048)).ok();
}

#[test]
fn scans_are_counted_before_anything_is_decoded() {
    let service = Service::start(&[
        // A decoder that does not exist: were it asked, the answer would be another.
        ("SIGNET_UPLOADS__WORKER", "/nonexistent"),
        ("SIGNET_LIMITS__UPLOADS_WORK__PER_MINUTE", "60"),
        ("SIGNET_LIMITS__UPLOADS_WORK__BURST", "499"),
    ]);
    let token = service.token(ALL_SCOPES);
    let refused = send(&service, &token, "image/jpeg", scans(100));
    assert_eq!(refused.problem(), (422, "too_many_scans".into()));
    // 64 megapixels, and an eighth of them for each of 24 passes.
    let asked = send(&service, &token, "image/jpeg", scans(24));
    assert_eq!(asked.problem(), (500, "internal_error".into()));
    let work = row(&service, &token, "uploads-work");
    assert!(
        (254..=256).contains(&work["used"].as_u64().unwrap()),
        "{work}"
    );
}
