//! `kill -9` at the worst moments: after a restart no listed picture lacks its object, and no object is unlisted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::program::{ALL_SCOPES, Home, Service, files, quick};

fn objects(home: &Home) -> BTreeSet<String> {
    files(&home.path("data/objects"))
        .into_iter()
        .filter(|file| file.starts_with("generated/") || file.starts_with("kept/"))
        .collect()
}

/// Kills a service that stands still at `point` of a generation, and starts it again.
fn killed_at(point: &str) -> (Service, String) {
    let mut home = Home::new(&[("SIGNET_AUTH__ISSUER", "https://issuer.example")]);
    home.set("SIGNET_TEST_PAUSE_AT", point);
    let service = home.serve();
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let request = service.post("/api/generate").token(&token).json(&quick());
    let open = request.start().unwrap();
    while !service.log().contains("paused for a test") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut home = service.kill();
    drop(open);
    home.set("SIGNET_TEST_PAUSE_AT", "nowhere");
    (home.serve(), token)
}

fn listed(service: &Service, token: &str) -> BTreeSet<String> {
    let page = service.get("/api/images").token(token).send().ok().json();
    let images = page["images"].as_array().unwrap();
    for image in images {
        assert_eq!(
            service.link(image["url"].as_str().unwrap()).send().status,
            200,
            "a listed picture opens"
        );
    }
    images
        .iter()
        .map(|image| image["key"].as_str().unwrap().to_owned())
        .collect()
}

fn stored_bytes(service: &Service, token: &str) -> u64 {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    rows.iter().find(|row| row["policy"] == "storage").unwrap()["used"]
        .as_u64()
        .unwrap()
}

#[test]
fn killed_between_storing_and_answering_the_picture_is_listed_with_its_object() {
    let (service, token) = killed_at("stored");
    let found = objects(service.home());
    assert_eq!(found.len(), 1);
    assert_eq!(listed(&service, &token), found);
    assert!(stored_bytes(&service, &token) > 0);
}

#[test]
fn killed_between_charging_and_storing_nothing_is_listed_or_charged() {
    let (service, token) = killed_at("reserved");
    assert_eq!(objects(service.home()), BTreeSet::new());
    assert_eq!(listed(&service, &token), BTreeSet::new());
    assert_eq!(stored_bytes(&service, &token), 0);
}

#[test]
fn what_was_answered_survives_a_kill() {
    let service = Service::start(&[("SIGNET_AUTH__ISSUER", "https://issuer.example")]);
    let token = service.token(ALL_SCOPES);
    let key = service.picture(&token)["key"].as_str().unwrap().to_owned();
    let service = service.kill().serve();
    assert_eq!(listed(&service, &token), BTreeSet::from([key]));
}
