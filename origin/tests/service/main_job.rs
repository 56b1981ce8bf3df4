//! Token → generate → list → link → fetch → refuse → keep → delete.

use serde_json::json;

use crate::http::Request;
use crate::program::{ALL_SCOPES, Service, files, quick};

#[test]
fn a_prompt_becomes_a_picture_that_only_a_signed_link_opens() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let mut body = quick();
    body["n"] = json!(2);
    let answer = service.generate(&token, &body).ok();
    assert!(answer.header("x-request-id").is_some());
    let answer = answer.json();
    assert_eq!(answer["job"]["status"], "done");
    assert!(answer["job"]["queue_ms"].is_u64() && answer["job"]["run_ms"].is_u64());
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);

    let listed = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(listed["images"].as_array().unwrap().len(), 2);
    assert_eq!(listed["next"], json!(null));

    for image in images {
        let url = image["url"].as_str().unwrap();
        let got = service.link(url).send().ok();
        assert_eq!(got.status, 200);
        assert_eq!(got.header("content-type"), Some("image/png"));
        assert_eq!(got.body.len() as u64, image["bytes"].as_u64().unwrap());
        let picture = image::load_from_memory(&got.body).unwrap();
        assert_eq!(u64::from(picture.width()), image["width"].as_u64().unwrap());
        assert_eq!(
            u64::from(picture.height()),
            image["height"].as_u64().unwrap()
        );
        let unsigned = url.split('?').next().unwrap();
        assert_eq!(
            service.link(unsigned).send().problem(),
            (403, "bad_signature".into())
        );
        let (head, sig) = url.split_once("sig=").unwrap();
        let other = if sig.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{head}sig={other}{}", &sig[1..]);
        assert_eq!(
            service.link(&tampered).send().problem(),
            (403, "bad_signature".into())
        );
    }

    let id = images[0]["id"].as_str().unwrap();
    let gone = service
        .delete(&format!("/api/images/{id}"))
        .token(&token)
        .send();
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let again = service
        .delete(&format!("/api/images/{id}"))
        .token(&token)
        .send();
    assert_eq!(again.problem(), (404, "not_found".into()));
    assert_eq!(
        service
            .link(images[0]["url"].as_str().unwrap())
            .send()
            .problem(),
        (404, "not_found".into())
    );
    let left = files(&service.home().path("data/objects"));
    let keys: Vec<_> = left
        .iter()
        .filter(|file| file.starts_with("generated/"))
        .collect();
    assert_eq!(keys, [images[1]["key"].as_str().unwrap()]);
}

#[test]
fn the_same_seed_makes_the_same_picture_in_every_format() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let mut pictures = Vec::new();
    for (format, media, ending) in [
        ("png", "image/png", ".png"),
        ("webp", "image/webp", ".webp"),
        ("jpeg", "image/jpeg", ".jpg"),
    ] {
        let mut body = quick();
        body["format"] = json!(format);
        let image = service.generate(&token, &body).ok().json()["images"][0].clone();
        assert_eq!(image["format"], format);
        assert_eq!(image["seed"], 7);
        assert!(image["key"].as_str().unwrap().ends_with(ending));
        let got = service.link(image["url"].as_str().unwrap()).send().ok();
        assert_eq!(got.header("content-type"), Some(media));
        pictures.push(image::load_from_memory(&got.body).unwrap().to_rgb8());
    }
    assert_eq!(pictures[0], pictures[1], "webp is lossless here");
    let worst = pictures[0]
        .iter()
        .zip(pictures[2].iter())
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum::<u32>();
    assert!(
        worst / (pictures[0].len() as u32) < 32,
        "jpeg shows another picture"
    );
}

#[test]
fn keeping_moves_the_object_and_no_link_dies() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let (id, old) = (
        image["id"].as_str().unwrap(),
        image["url"].as_str().unwrap(),
    );
    let kept = service
        .post(&format!("/api/images/{id}/keep"))
        .token(&token)
        .send()
        .ok()
        .json();
    let key = kept["key"].as_str().unwrap();
    assert!(key.starts_with("kept/"), "{key}");
    for url in [old, kept["url"].as_str().unwrap()] {
        assert_eq!(service.link(url).send().status, 200);
    }
    // Twice is as good as once.
    let again = service
        .post(&format!("/api/images/{id}/keep"))
        .token(&token)
        .send()
        .ok()
        .json();
    assert_eq!(again["key"], key);
    let back = service
        .delete(&format!("/api/images/{id}/keep"))
        .token(&token)
        .send()
        .ok()
        .json();
    assert_eq!(back["key"], image["key"]);
    for url in [old, kept["url"].as_str().unwrap()] {
        assert_eq!(service.link(url).send().status, 200);
    }
    let used = |name: &str| {
        let usage = service.get("/api/usage").token(&token).send().ok().json();
        let rows = usage["limits"].as_array().unwrap().clone();
        rows.iter().find(|row| row["policy"] == name).unwrap()["used"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(
        used("storage"),
        image["bytes"].as_u64().unwrap(),
        "no byte counts twice"
    );
}

#[test]
fn a_fresh_link_carries_what_was_asked_for() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let path = format!("/api/images/{}/link", image["id"].as_str().unwrap());
    let ask = |body: serde_json::Value| service.post(&path).token(&token).json(&body).send();
    let link = ask(json!({ "ttl": 60, "ip": "127.0.0.1", "dl": "heart.png" }))
        .ok()
        .json();
    let got = service.link(link["url"].as_str().unwrap()).send().ok();
    assert_eq!(
        got.header("content-disposition"),
        Some("attachment; filename=\"heart.png\"")
    );
    let elsewhere = ask(json!({ "ip": "192.0.2.0-24" })).ok().json();
    assert_eq!(
        service
            .link(elsewhere["url"].as_str().unwrap())
            .send()
            .problem(),
        (403, "ip_mismatch".into())
    );
    assert_eq!(service.post(&path).token(&token).send().status, 200);
    for bad in [
        json!({ "ttl": 0 }),
        json!({ "ttl": 604_801 }),
        json!({ "ttl": -1 }),
        json!({ "ttl": "60" }),
        json!({ "dl": 7 }),
        json!({ "ip": "127.0.0.1-24" }),
        json!({ "ip": "127.0.0.1/24" }),
        json!({ "ip": "::1/129" }),
        json!({ "ip": "localhost" }),
        json!({ "ep": 1 }),
        json!([]),
    ] {
        assert_eq!(
            ask(bad.clone()).problem(),
            (400, "invalid_request".into()),
            "{bad}"
        );
    }
}

#[test]
fn any_name_and_any_notation_of_an_address_become_those_of_a_link() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let path = format!("/api/images/{}/link", image["id"].as_str().unwrap());
    let ask = |body: serde_json::Value| {
        let answer = service.post(&path).token(&token).json(&body).send();
        answer.ok().json()["url"].as_str().unwrap().to_owned()
    };
    let saved_as = |name: &str| {
        let got = service.link(&ask(json!({ "dl": name }))).send().ok();
        got.header("content-disposition").unwrap().to_owned()
    };
    for (name, header) in [
        ("heart.jpg", "attachment; filename=\"heart.png\""),
        ("con.png", "attachment; filename=\"_con.png\""),
        (
            "größe.png",
            "attachment; filename=\"gr__e.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png",
        ),
        (
            "my picture.png",
            "attachment; filename=\"my picture.png\"; filename*=UTF-8''my%20picture.png",
        ),
        (
            "(1).png",
            "attachment; filename=\"(1).png\"; filename*=UTF-8''%281%29.png",
        ),
        (
            "a.b.png",
            "attachment; filename=\"a.b.png\"; filename*=UTF-8''a.b.png",
        ),
        ("../x\r\n\".png", "attachment; filename=\"_x___.png\""),
    ] {
        assert_eq!(saved_as(name), header, "{name}");
    }
    for (ip, written, opens) in [
        ("127.0.0.0/8", "ip=127.0.0.0-8&", true),
        ("::ffff:127.0.0.1", "ip=127.0.0.1&", true),
        ("203.0.113.0/24", "ip=203.0.113.0-24&", false),
        ("2001:db8::1", "ip=20010db8000000000000000000000001&", false),
        (
            "2001:db8::/64",
            "ip=20010db8000000000000000000000000-64&",
            false,
        ),
    ] {
        let url = ask(json!({ "ip": ip }));
        assert!(url.contains(written), "{ip}: {url}");
        let status = service.link(&url).send().status;
        assert_eq!(status, if opens { 200 } else { 403 }, "{ip}");
    }
}

#[test]
fn a_list_shows_the_same_links_within_the_grain() {
    // A grain that no run crosses.
    let service = Service::start(&[("SIGNET_IMAGES__GRAIN_SECONDS", "86400")]);
    let token = service.token(ALL_SCOPES);
    let made = service.picture(&token)["url"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let list = service.get("/api/images").token(&token).send().ok().json();
        assert_eq!(list["images"][0]["url"].as_str(), Some(made.as_str()));
        std::thread::sleep(std::time::Duration::from_millis(1_100));
    }
    assert_eq!(service.link(&made).send().status, 200);
}

#[test]
fn pages_of_a_list_hold_every_picture_once() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let made: Vec<_> = (0..5)
        .map(|_| service.picture(&token)["id"].as_str().unwrap().to_owned())
        .collect();
    let mut seen = Vec::new();
    let mut target = "/api/images?limit=2".to_owned();
    loop {
        let page = service.get(&target).token(&token).send().ok().json();
        seen.extend(
            page["images"]
                .as_array()
                .unwrap()
                .iter()
                .map(|image| image["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => target = format!("/api/images?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, made.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_service_told_to_stop_finishes_what_it_began_and_ends_with_success() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    service.picture(&token);
    let operator = service.operator;
    service.signal("TERM");
    let (status, home) = service.ended();
    assert!(
        status.success(),
        "{status}: {}",
        std::fs::read_to_string(home.path("log")).unwrap()
    );
    assert!(
        Request::new(operator, "GET", "/healthz")
            .try_send()
            .is_err()
    );
    // What it knew is there after a restart, the token included.
    let service = home.serve();
    let listed = service.get("/api/images").token(&token).send();
    // The issuer names the port, which is another one now.
    assert!([200, 401].contains(&listed.status));
}
