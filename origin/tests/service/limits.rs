//! The contract's limits, met through the front door.

use serde_json::json;

use crate::program::{ALL_SCOPES, Service, quick};

#[test]
fn an_address_passes_four_times_at_once_and_is_told_when_to_come_back() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__ADDRESS__PER_MINUTE", "5"),
        ("SIGNET_LIMITS__ADDRESS__BURST", "3"),
    ]);
    let token = service.token(ALL_SCOPES);
    for _ in 0..4 {
        assert_eq!(service.generate(&token, &quick()).status, 200);
    }
    let refused = service.generate(&token, &quick());
    assert_eq!(refused.problem(), (429, "rate_limited".into()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .starts_with("\"address\";r=0;t=")
    );
    assert!(
        refused
            .header("ratelimit-policy")
            .unwrap()
            .starts_with("\"address\";q=")
    );
    assert_eq!(refused.header("signet-charged"), Some("0"));
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("address")
    );
    assert!(
        service
            .metrics()
            .contains("signet_rate_limited_total{policy=\"address\"} 1")
    );
}

#[test]
fn a_request_that_is_refused_costs_nothing() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__TOKEN__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__TOKEN__BURST", "0"),
    ]);
    let token = service.token(ALL_SCOPES);
    for _ in 0..5 {
        assert_eq!(
            service.generate(&token, &json!({ "prompt": "" })).status,
            400
        );
    }
    assert_eq!(service.generate(&token, &quick()).status, 200);
    assert_eq!(service.generate(&token, &quick()).status, 429);
    let usage = service.get("/api/usage").token(&token).send().ok().json();
    let hour = usage["limits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["policy"] == "user-hour")
        .unwrap()
        .clone();
    assert_eq!(
        hour["used"], 1,
        "the refused one did not count towards the hour"
    );
}

#[test]
fn the_storage_quota_holds_and_deleting_frees_it() {
    let service = Service::start(&[("SIGNET_LIMITS__STORAGE_BYTES", "40000")]);
    let token = service.token(ALL_SCOPES);
    let mut made = Vec::new();
    let refused = loop {
        let answer = service.generate(&token, &quick());
        if answer.status != 200 {
            break answer;
        }
        made.push(answer.json()["images"][0].clone());
        assert!(made.len() < 40, "no quota in sight");
    };
    assert_eq!(refused.problem(), (429, "storage_quota".into()));
    let total: u64 = made
        .iter()
        .map(|image| image["bytes"].as_u64().unwrap())
        .sum();
    assert!(total <= 40_000);
    let id = made[0]["id"].as_str().unwrap();
    assert_eq!(
        service
            .delete(&format!("/api/images/{id}"))
            .token(&token)
            .send()
            .status,
        204
    );
    assert_eq!(service.generate(&token, &quick()).status, 200);
}

#[test]
fn over_thirty_arrivals_in_a_minute_block_the_address_signed_in_or_not() {
    let service = Service::start(&[("SIGNET_LIMITS__PENALTY_ARRIVALS", "30")]);
    let token = service.token(ALL_SCOPES);
    for _ in 0..30 {
        assert_eq!(service.post("/api/generate").send().status, 401);
    }
    let blocked = service.generate(&token, &quick());
    assert_eq!(blocked.status, 429);
    assert!(
        blocked.json()["detail"]
            .as_str()
            .unwrap()
            .contains("penalty-box")
    );
    let wait: u64 = blocked.header("retry-after").unwrap().parse().unwrap();
    assert!((590..=600).contains(&wait), "{wait}");
    assert_eq!(
        service.get("/api/images").token(&token).send().status,
        200,
        "other routes stay open"
    );
}
