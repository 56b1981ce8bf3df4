//! `init_image` and `mask` of `POST /api/generate`: the caller's own uploads.

use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};

use crate::program::{ALL_SCOPES, Service, quick};
use crate::uploads::{picture, send};

fn upload(service: &Service, token: &str, file: Vec<u8>) -> String {
    let answer = send(service, token, "image/png", file).ok().json();
    answer["id"].as_str().unwrap().to_owned()
}

fn flat(colour: [u8; 3]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(60, 60, image::Rgb(colour));
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// The smallest job, with these fields too.
fn with(fields: &Value) -> Value {
    let mut job = quick();
    job["steps"] = json!(4);
    let known = job.as_object_mut().unwrap();
    known.extend(fields.as_object().unwrap().clone());
    job
}

/// The file that this job makes.
fn made(service: &Service, token: &str, fields: &Value) -> Vec<u8> {
    let answer = service.generate(token, &with(fields)).ok().json();
    let url = answer["images"][0]["url"].as_str().unwrap().to_owned();
    service.link(&url).send().ok().body
}

#[test]
fn a_picture_to_start_from_changes_the_result_and_saves_steps() {
    let service = Service::start(&[("SIGNET_LIMITS__UPLOADS__BURST", "9")]);
    let token = service.token(ALL_SCOPES);
    let first = upload(&service, &token, picture(90, 60, ImageFormat::Png));
    let second = upload(&service, &token, flat([250, 20, 20]));
    let plain = made(&service, &token, &json!({}));
    let one = json!({ "init_image": first, "strength": 0.5 });
    let from_one = made(&service, &token, &one);
    assert_ne!(plain, from_one);
    assert_eq!(from_one, made(&service, &token, &one), "the same again");
    let two = json!({ "init_image": second, "strength": 0.5 });
    assert_ne!(from_one, made(&service, &token, &two));
    let cost = |fields: &Value| {
        let mut job = with(fields);
        job["steps"] = json!(80);
        let answer = service.generate(&token, &job).ok().json();
        answer["job"]["cost_units"].as_f64().unwrap()
    };
    // Half the steps; costs are rounded up to thousandths.
    assert_eq!((cost(&json!({})), cost(&one)), (1.25, 0.625));
}

#[test]
fn a_mask_says_what_is_painted_anew() {
    let service = Service::start(&[("SIGNET_LIMITS__UPLOADS__BURST", "9")]);
    let token = service.token(ALL_SCOPES);
    let init = upload(&service, &token, picture(60, 60, ImageFormat::Png));
    let white = upload(&service, &token, flat([255; 3]));
    let black = upload(&service, &token, flat([0; 3]));
    let masked = |mask: &str, prompt: &str| {
        made(
            &service,
            &token,
            &json!({ "init_image": init, "mask": mask, "prompt": prompt }),
        )
    };
    let free = made(&service, &token, &json!({ "prompt": "a pizza" }));
    assert_eq!(
        masked(&white, "a pizza"),
        free,
        "all of it is painted anew, so nothing of the picture counts"
    );
    let kept = masked(&black, "a pizza");
    assert_ne!(kept, free);
    assert_eq!(
        kept,
        masked(&black, "an owl"),
        "all of it is kept, so the prompt does not count"
    );
}

/// The pixels of a link's picture.
fn pixels(service: &Service, image: &Value) -> RgbImage {
    let url = image["url"].as_str().unwrap();
    let file = service.link(url).send().ok().body;
    image::load_from_memory(&file).unwrap().to_rgb8()
}

#[test]
fn what_a_mask_keeps_of_an_upload_is_in_the_picture_pixel_by_pixel() {
    let service = Service::start(&[("SIGNET_LIMITS__UPLOADS__BURST", "9")]);
    let token = service.token(ALL_SCOPES);
    let start = picture(64, 64, ImageFormat::Png);
    let right = RgbImage::from_fn(64, 64, |x, _| {
        image::Rgb(if x < 27 { [0; 3] } else { [255; 3] })
    });
    let mut mask = std::io::Cursor::new(Vec::new());
    right.write_to(&mut mask, ImageFormat::Png).unwrap();
    let job = with(&json!({
        "init_image": upload(&service, &token, start.clone()),
        "mask": upload(&service, &token, mask.into_inner()), "prompt": "a pizza",
    }));
    let answer = service.generate(&token, &job).ok().json();
    let made = pixels(&service, &answer["images"][0]);
    let start = image::load_from_memory(&start).unwrap().to_rgb8();
    assert_eq!(made.dimensions(), start.dimensions());
    let differs = |side: &dyn Fn(u32) -> bool| {
        let both = made.enumerate_pixels().zip(start.pixels());
        let here = both.filter(|((x, ..), _)| side(*x));
        here.filter(|((.., one), other)| one != other).count()
    };
    assert_eq!(differs(&|x| x < 27), 0);
    assert!(differs(&|x| x >= 27) > 37 * 64 / 2);
}

#[test]
fn every_seed_that_is_reported_gives_its_picture_when_it_is_sent() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let largest = (1u64 << 53) - 1;
    let ask = |seed: u64, n: u64| {
        let job = with(&json!({ "seed": seed, "n": n, "steps": 1 }));
        let answer = service.generate(&token, &job).ok().json();
        answer["images"].as_array().unwrap().clone()
    };
    let four = ask(largest, 4);
    let seeds: Vec<u64> = four
        .iter()
        .map(|image| image["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [largest, 0, 1, 2]);
    for (image, seed) in four.iter().zip(seeds) {
        let again = ask(seed, 1);
        assert_eq!(again[0]["seed"], seed);
        assert_eq!(pixels(&service, &again[0]), pixels(&service, image));
    }
}

#[test]
fn only_the_callers_own_uploads_are_there() {
    let service = Service::start(&[]);
    let (owner, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let own = upload(&service, &other, flat([1, 2, 3]));
    let foreign = upload(&service, &owner, flat([1, 2, 3]));
    let result = service.picture(&other)["id"].as_str().unwrap().to_owned();
    for fields in [
        json!({ "init_image": foreign }),
        json!({ "init_image": own, "mask": foreign }),
        json!({ "init_image": result }),
        json!({ "init_image": "../../etc/passwd" }),
        json!({ "init_image": "" }),
        json!({ "init_image": "018f0000-0000-7000-8000-000000000000" }),
    ] {
        let answer = service.generate(&other, &with(&fields));
        assert_eq!(answer.problem(), (404, "not_found".into()), "{fields}");
    }
    let deleted = service.delete(&format!("/api/images/{own}")).token(&other);
    assert_eq!(deleted.send().status, 204);
    let answer = service.generate(&other, &with(&json!({ "init_image": own })));
    assert_eq!(answer.problem(), (404, "not_found".into()));
}

#[test]
fn fields_that_do_not_fit_together_are_named() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let init = upload(&service, &token, flat([1, 2, 3]));
    let larger = upload(&service, &token, picture(70, 60, ImageFormat::Png));
    for (fields, word) in [
        (json!({ "mask": init }), "mask"),
        (json!({ "strength": 0.5 }), "strength"),
        (json!({ "init_image": init, "strength": 0 }), "strength"),
        (json!({ "init_image": init, "strength": 1.01 }), "strength"),
        (json!({ "init_image": init, "strength": 0.1 }), "no step"),
        (json!({ "init_image": init, "mask": larger }), "size"),
    ] {
        let answer = service.generate(&token, &with(&fields));
        assert_eq!(answer.status, 400, "{fields}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(word), "{fields}: {detail}");
    }
}

/// Seven requests of one user that read two large pictures each, one after the other; another user's request does not
/// wait for any of them.
#[test]
fn keyed_requests_that_wait_for_their_pictures_delay_no_other_user() {
    let service = Service::start(&[
        ("SIGNET_UPLOADS__PARALLEL", "1"),
        ("SIGNET_UPLOADS__PROCESS_MS", "60000"),
        ("SIGNET_UPLOADS__WAIT_SECONDS", "600"),
        // Seven at once of one address and one token.
        ("SIGNET_LIMITS__ADDRESS__BURST", "100"),
        ("SIGNET_LIMITS__TOKEN__BURST", "100"),
    ]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let mut file = std::io::Cursor::new(Vec::new());
    let large = image::GrayImage::from_pixel(4096, 4096, image::Luma([255]));
    large.write_to(&mut file, ImageFormat::Png).unwrap();
    let id = upload(&service, &token, file.into_inner());
    let keyed = |token: &str, key: &str, body: &Value| {
        let request = service.post("/api/generate").token(token).json(body);
        request.header("idempotency-key", key)
    };
    let body = with(&json!({ "init_image": id, "mask": id }));
    let (ended, ends) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..7)
        .map(|n| {
            let request = keyed(&token, &n.to_string(), &body);
            let ended = ended.clone();
            std::thread::spawn(move || {
                request.send().ok();
                ended.send(()).unwrap();
            })
        })
        .collect();
    // They are all charged, and the first of them is at its picture.
    let all = (0..2_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        crate::jobs::used(&service, &token, "jobs") == 7
    });
    assert!(all, "they wait for each other");
    let begun = std::time::Instant::now();
    keyed(&other, "0", &quick()).send().ok();
    let waited = begun.elapsed();
    let done = ends.try_iter().count();
    assert!(done < 4, "{done} of 7 were done before, in {waited:?}");
    // Who sends one of them again is told where its job is, while it waits for its picture.
    let again = keyed(&token, "6", &body).header("prefer", "respond-async");
    let again = again.send();
    assert!([200, 202].contains(&again.status), "{}", again.status);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    for thread in threads {
        thread.join().unwrap();
    }
    println!("another user's request took {waited:?}");
}
