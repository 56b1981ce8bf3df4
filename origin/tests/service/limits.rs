//! The contract's limits, met through the front door.

use serde_json::json;

use crate::http::Request;
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
    assert!(refused.header("retry-after").is_some());
    let told = refused.header("ratelimit").unwrap();
    assert!(told.starts_with("\"storage\";r="), "{told}");
    let policy = "\"storage\";q=40000;qu=\"content-bytes\"";
    assert_eq!(refused.header("ratelimit-policy"), Some(policy));
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

fn usage_of(service: &Service, token: &str, policy: &str) -> serde_json::Value {
    let usage = service.get("/api/usage").token(token).send().ok().json();
    let rows = usage["limits"].as_array().unwrap().clone();
    rows.into_iter()
        .find(|row| row["policy"] == policy)
        .unwrap_or_else(|| panic!("no row {policy} in {usage}"))
}

#[test]
fn plans_and_limits_of_one_user_hold_from_the_next_request_on_and_are_told() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__USER_HOUR", "2"),
        ("SIGNET_PLANS__PAID__USER_HOUR", "4"),
    ]);
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let until_refused = || {
        let mut made = 0;
        loop {
            let answer = service.generate(&token, &quick());
            if answer.status != 200 {
                assert!(
                    answer
                        .header("ratelimit-policy")
                        .unwrap()
                        .starts_with("\"user-hour\";")
                );
                return made;
            }
            made += 1;
            assert!(made < 9);
        }
    };
    assert_eq!(until_refused(), 2);
    service
        .home()
        .succeed(&["user", "plan", &client.user, "paid"]);
    assert_eq!(usage_of(&service, &token, "user-hour")["remaining"], 2);
    assert_eq!(until_refused(), 2);
    service
        .home()
        .succeed(&["user", "limit", &client.user, "user-hour=5", "storage=123"]);
    let refused = service.generate(&token, &quick());
    assert_eq!(refused.problem(), (429, "storage_quota".into()));
    service
        .home()
        .succeed(&["user", "limit", &client.user, "storage=plan"]);
    assert_eq!(until_refused(), 1);
    assert_eq!(usage_of(&service, &token, "user-hour")["limit"], 5);
    let unknown = service
        .home()
        .run(&["user", "plan", &client.user, "platinum"]);
    assert!(!unknown.status.success());
    assert!(
        !service
            .home()
            .run(&["user", "limit", &client.user, "jobs=0"])
            .status
            .success()
    );
}

#[test]
fn cost_units_of_a_day_are_counted_and_outlive_a_kill() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__UNITS_DAY", "1"),
        ("SIGNET_AUTH__ISSUER", "https://issuer.example"),
    ]);
    let token = service.token(ALL_SCOPES);
    let mut answer = service.generate(&token, &quick()).ok();
    let cost = answer.json()["job"]["cost_units"].as_f64().unwrap();
    let fit = (1.0 / cost) as usize;
    assert!((2..200).contains(&fit), "{cost}");
    // A picture has its floor; one of many steps costs its steps, 64² / 512² each.
    let steps = ((1.0 - cost) * 64.0) as usize;
    let steps = json!({ "prompt": "a heart", "steps": steps, "guidance_scale": 1 });
    answer = service.generate(&token, &steps).ok();
    assert_eq!(answer.status, 200);
    assert_eq!(usage_of(&service, &token, "units-day")["used"], 1);
    let refused = |service: &Service| {
        let refused = service.generate(
            &token,
            &json!({ "prompt": "a heart", "steps": 2, "guidance_scale": 1 }),
        );
        assert_eq!(refused.problem(), (429, "rate_limited".into()));
        assert!(
            refused
                .header("ratelimit-policy")
                .unwrap()
                .starts_with("\"units-day\";q=1;w=86400")
        );
    };
    refused(&service);
    let service = service.kill().serve();
    refused(&service);
    assert_eq!(usage_of(&service, &token, "user-hour")["used"], 2);
}

#[test]
fn guesses_at_one_clients_secret_are_stopped_and_its_owner_is_not() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__TOKEN_ENDPOINT_CLIENT__BURST", "2"),
    ]);
    let client = service.client(ALL_SCOPES);
    let guess = format!(
        "grant_type=client_credentials&client_id={}&client_secret=guess",
        client.id
    );
    for _ in 0..3 {
        assert_eq!(service.ask_token(&guess).status, 401);
    }
    let refused = service.ask_token(&guess);
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .starts_with("\"token-endpoint-client\"")
    );
    let told = refused.json();
    assert_eq!(
        (&told["error"], &told["code"]),
        (&"temporarily_unavailable".into(), &"rate_limited".into())
    );
    let other = service.client(ALL_SCOPES);
    service.token_of(&other);
    for _ in 0..6 {
        // A good secret does not count, and opens the place.
        service.token_of(&other);
    }
}

#[test]
fn keep_unkeep_delete_and_link_count_under_writes_and_the_refused_one_changes_nothing() {
    let service = Service::start(&[
        ("SIGNET_LIMITS__WRITES__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__WRITES__BURST", "3"),
    ]);
    let (token, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let image = service.picture(&token);
    let path = format!("/api/images/{}", image["id"].as_str().unwrap());
    let (keep, link) = (format!("{path}/keep"), format!("{path}/link"));
    // What is not there counts too: looking for it is work.
    let absent = "/api/images/00000000-0000-7000-8000-000000000000";
    assert_eq!(service.delete(absent).token(&token).send().status, 404);
    service.post(&keep).token(&token).send().ok();
    service.delete(&keep).token(&token).send().ok();
    service.post(&link).token(&token).send().ok();
    assert_eq!(usage_of(&service, &token, "writes")["used"], 4);
    for request in [
        service.post(&keep),
        service.delete(&keep),
        service.post(&link),
        service.delete(&path),
    ] {
        let refused = request.token(&token).send();
        assert_eq!(refused.problem(), (429, "rate_limited".into()));
        let told = refused.header("ratelimit-policy").unwrap();
        assert!(told.starts_with("\"writes\";q=4;"), "{told}");
        assert!(refused.header("retry-after").is_some());
    }
    let url = image["url"].as_str().unwrap();
    assert_eq!(service.link(url).send().status, 200);
    let list = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(list["images"][0]["key"], image["key"]);
    // Another user's writes are another count.
    assert_eq!(service.delete(absent).token(&other).send().status, 404);
}

#[test]
fn only_what_could_generate_counts_and_a_foreign_page_locks_nobody_out() {
    let service = Service::start(&[("SIGNET_LIMITS__PENALTY_ARRIVALS", "3")]);
    let ask = |method: &str, target: &str| Request::new(service.public, method, target);
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        for n in 0..31 {
            let answer = ask(method, &format!("/api/generate?{n}")).send();
            assert_ne!(answer.status, 429, "{method}");
        }
    }
    for _ in 0..31 {
        let foreign = ask("POST", "/api/generate").header("sec-fetch-site", "cross-site");
        assert_eq!(foreign.send().problem(), (403, "cross_site".into()));
    }
    // The router would decode these; a rule that compares would not see them.
    for target in [
        "/api/%67enerate",
        "/%61pi/generate",
        "/api//generate",
        "/api/./generate",
    ] {
        for _ in 0..31 {
            assert_eq!(ask("POST", target).send().status, 404, "{target}");
        }
    }
    let operator = Request::new(service.operator, "GET", "/%6detrics").send();
    assert_eq!(operator.status, 404);
    for _ in 0..3 {
        assert_eq!(ask("POST", "/api/generate").send().status, 401);
    }
    let blocked = ask("POST", "/api/generate").send();
    assert_eq!(blocked.status, 429, "what could generate still counts");
}
