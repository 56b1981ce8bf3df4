//! `POST /api/upload` through the front door.

use std::io::{Cursor, Read};

use image::{ImageFormat, RgbImage};
use serde_json::Value;

use crate::http::Answer;
use crate::program::{ALL_SCOPES, Service, files};

pub fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([
            (x * 7 % 256) as u8,
            (y * 5 % 256) as u8,
            (x * y % 256) as u8,
        ])
    });
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub fn send(service: &Service, token: &str, media: &str, body: Vec<u8>) -> Answer {
    service
        .post("/api/upload")
        .token(token)
        .body(media, body)
        .send()
}

fn stored(service: &Service) -> Vec<String> {
    files(&service.home().path("data/objects"))
}

#[test]
fn an_upload_becomes_a_picture_of_our_own_making() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let mut sent = picture(80, 60, ImageFormat::Jpeg);
    sent.extend(b"<script>alert(1)</script>");
    // Neither the name nor the declared type counts.
    let form = [
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../x.svg\"\r\nContent-Type: image/svg+xml\r\n\r\n"
            .as_slice(),
        &sent,
        b"\r\n--b--\r\n",
    ]
    .concat();
    for (media, body) in [
        ("text/html", sent),
        ("multipart/form-data; boundary=b", form),
    ] {
        let answer = send(&service, &token, media, body).ok().json();
        let mut names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(
            names,
            ["bytes", "expires_at", "height", "id", "key", "url", "width"]
        );
        assert_eq!(
            (answer["width"].as_u64(), answer["height"].as_u64()),
            (Some(80), Some(60))
        );
        let key = answer["key"].as_str().unwrap();
        assert!(
            key.starts_with("uploads/") && key.ends_with(".png"),
            "{key}"
        );
        let opened = service.link(answer["url"].as_str().unwrap()).send().ok();
        assert_eq!(opened.header("content-type"), Some("image/png"));
        assert_eq!(opened.body.len() as u64, answer["bytes"].as_u64().unwrap());
        assert!(!opened.body.windows(7).any(|part| part == b"<script"));
    }
    assert!(
        service
            .metrics()
            .contains("signet_uploads_total{verdict=\"accepted\"} 2")
    );
}

#[test]
fn an_upload_is_its_owners_alone_and_no_result() {
    let service = Service::start(&[]);
    let (owner, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let sent = picture(20, 20, ImageFormat::Png);
    let upload = send(&service, &owner, "image/png", sent).ok().json();
    let id = upload["id"].as_str().unwrap();
    let list = service.get("/api/images").token(&owner).send().ok().json();
    assert_eq!(
        list["images"],
        serde_json::json!([]),
        "a list shows results, not uploads"
    );
    for request in [
        service.post(&format!("/api/images/{id}/link")),
        service.post(&format!("/api/images/{id}/keep")),
        service.delete(&format!("/api/images/{id}")),
    ] {
        assert_eq!(
            request.token(&other).send().problem(),
            (404, "not_found".into())
        );
    }
    let used = |token: &str| {
        let usage = service.get("/api/usage").token(token).send().ok().json();
        let rows = usage["limits"].as_array().unwrap().clone();
        let storage = rows.iter().find(|row| row["policy"] == "storage").unwrap();
        storage["used"].as_u64().unwrap()
    };
    assert_eq!(used(&owner), upload["bytes"].as_u64().unwrap());
    let link = service
        .post(&format!("/api/images/{id}/link"))
        .token(&owner)
        .send();
    assert_eq!(link.status, 200);
    let gone = service.delete(&format!("/api/images/{id}")).token(&owner);
    assert_eq!(gone.send().status, 204);
    assert_eq!(
        service.link(upload["url"].as_str().unwrap()).send().status,
        404
    );
    assert_eq!((used(&owner), stored(&service).len()), (0, 0));
}

#[test]
fn every_rule_has_its_code_and_is_counted() {
    let service = Service::start(&[
        ("SIGNET_UPLOADS__IMAGE__MAX_BYTES", "5000"),
        ("SIGNET_LIMITS__UPLOADS__PER_MINUTE", "6000"),
    ]);
    let token = service.token(ALL_SCOPES);
    let mut cut = picture(20, 20, ImageFormat::Png);
    cut.truncate(60);
    for (body, wanted) in [
        (b"<svg/>".to_vec(), (415, "svg_refused")),
        (b"%PDF-1.7".to_vec(), (415, "unsupported_image_type")),
        (
            b"\x89PNG\r\n\x1a\n".to_vec(),
            (422, "malformed_image_header"),
        ),
        (cut, (422, "damaged_image")),
        (vec![7; 5001], (413, "body_too_large")),
        (Vec::new(), (400, "empty_upload")),
    ] {
        let answer = send(&service, &token, "image/png", body);
        assert_eq!(answer.problem(), (wanted.0, wanted.1.to_owned()));
        let line = format!("signet_uploads_total{{verdict=\"{}\"}} 1", wanted.1);
        assert!(service.metrics().contains(&line), "{line}");
    }
    assert_eq!(stored(&service), Vec::<String>::new());
}

#[test]
fn uploads_have_a_scope_a_rate_and_a_quota() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__UPLOADS__BURST", "2"),
        ("SIGNET_LIMITS__STORAGE_BYTES", "1000"),
    ]);
    let png = |side| picture(side, side, ImageFormat::Png);
    let narrow = service.token("images:generate images:read images:write billing:read");
    assert_eq!(send(&service, &narrow, "image/png", png(8)).status, 403);
    assert_eq!(
        service
            .post("/api/upload")
            .body("image/png", png(8))
            .send()
            .status,
        401
    );
    let token = service.token(ALL_SCOPES);
    assert_eq!(send(&service, &token, "image/png", png(8)).status, 200);
    let before = stored(&service);
    assert_eq!(before.len(), 1);
    let over = send(&service, &token, "image/png", png(200));
    assert_eq!(over.problem(), (429, "storage_quota".into()));
    assert_eq!(
        stored(&service),
        before,
        "what was refused left nothing behind"
    );
    assert_eq!(send(&service, &token, "image/png", png(8)).status, 200);
    let limited = send(&service, &token, "image/png", png(8));
    assert_eq!(limited.problem(), (429, "rate_limited".into()));
    assert!(
        limited
            .header("ratelimit")
            .unwrap()
            .starts_with("\"uploads\"")
    );
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
}

#[test]
fn a_sender_that_stops_is_cut_off_and_blocks_nobody() {
    let service = Service::start(&[("SIGNET_UPLOADS__RECEIVE_SECONDS", "1")]);
    let token = service.token(ALL_SCOPES);
    let slow = service
        .post("/api/upload")
        .token(&token)
        .header("content-length", "100000")
        .body("image/png", b"\x89PNG".to_vec());
    let mut lines: Vec<_> = (0..3).map(|_| slow.start().unwrap()).collect();
    let fast = send(
        &service,
        &token,
        "image/png",
        picture(8, 8, ImageFormat::Png),
    );
    assert_eq!(fast.status, 200);
    for line in &mut lines {
        let mut answer = String::new();
        let _ = line.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["code"], "body_too_slow");
    }
}

#[test]
fn five_hundred_uploads_at_once_stay_within_the_quota_to_the_byte() {
    let alone = Service::start(&[]);
    let png = picture(8, 8, ImageFormat::Png);
    let token = alone.token(ALL_SCOPES);
    let size = send(&alone, &token, "image/png", png.clone()).ok().json()["bytes"]
        .as_u64()
        .unwrap();
    drop(alone);
    let limit = 100 * size + size - 1;
    let service = Service::start(&[
        ("SIGNET_LIMITS__UPLOADS__PER_MINUTE", "60000"),
        ("SIGNET_LIMITS__UPLOADS__BURST", "1000"),
        ("SIGNET_LIMITS__UPLOADS_WORK__PER_MINUTE", "60000"),
        ("SIGNET_LIMITS__UPLOADS_WORK__BURST", "1000000"),
        ("SIGNET_LIMITS__STORAGE_BYTES", &limit.to_string()),
    ]);
    let token = service.token(ALL_SCOPES);
    let start = std::sync::Barrier::new(500);
    let accepted = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..500)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let answer = send(&service, &token, "image/png", png.clone());
                    if answer.status != 200 {
                        // Who waits too long for a decoder on a busy machine is sent away, and charged nothing.
                        let refusals =
                            [(429, "storage_quota".into()), (503, "uploads_busy".into())];
                        assert!(
                            refusals.contains(&answer.problem()),
                            "{:?}",
                            answer.problem()
                        );
                    }
                    answer.status == 200
                })
            })
            .collect();
        let answers = senders.into_iter().map(|sender| sender.join().unwrap());
        answers.filter(|accepted| *accepted).count() as u64
    });
    let on_disk: u64 = stored(&service)
        .iter()
        .map(|file| std::fs::metadata(service.home().path("data/objects").join(file)))
        .map(|file| file.unwrap().len())
        .sum();
    let used = || {
        let usage = service.get("/api/usage").token(&token).send().ok().json();
        let rows = usage["limits"].as_array().unwrap().clone();
        let storage = rows.iter().find(|row| row["policy"] == "storage").unwrap();
        storage["used"].as_u64().unwrap()
    };
    assert_eq!((on_disk, used()), (accepted * size, accepted * size));
    // What was refused while others held room is free again: one after the other, it fills to the last picture.
    for _ in accepted..100 {
        send(&service, &token, "image/png", png.clone()).ok();
    }
    assert_eq!(used(), 100 * size);
    let over = send(&service, &token, "image/png", png);
    assert_eq!(over.problem(), (429, "storage_quota".into()));
}
