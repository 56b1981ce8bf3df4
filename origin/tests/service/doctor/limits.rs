//! Rows that spend: each limit is met, and a missing one fails its row.

use serde_json::{Value, json};

use super::bends::bend;
use super::deployment::{Deployment, ON_LOOPBACK, Report};
use crate::front::Bend;
use crate::http::Answer;
use crate::program::ALL_SCOPES;

/// Limits as they come, but for an hour that can be used up in a test and a quota that can be filled.
const SMALL: [(&str, &str); 8] = [
    ("SIGNET_LIMITS__ADDRESS__PER_MINUTE", "5"),
    ("SIGNET_LIMITS__ADDRESS__BURST", "3"),
    ("SIGNET_LIMITS__TOKEN__PER_MINUTE", "20"),
    ("SIGNET_LIMITS__TOKEN__BURST", "5"),
    ("SIGNET_LIMITS__USER_HOUR", "40"),
    ("SIGNET_LIMITS__USER__BURST", "1000"),
    ("SIGNET_LIMITS__STORAGE_BYTES", "3000000"),
    ("SIGNET_LIMITS__PENALTY_ARRIVALS", "30"),
];

fn spend(deployment: &mut Deployment) -> Report {
    // A user whose limits nobody touched.
    let client = deployment.service.client(ALL_SCOPES);
    deployment.set("CLIENT_ID", &client.id);
    deployment.set("CLIENT_SECRET", &client.secret);
    deployment.client = client;
    let report = deployment.examine(&["--intrusive"]);
    assert_eq!(report.with("skipped"), ON_LOOPBACK, "{:#?}", report.rows);
    report
}

/// Tells a caller that all is well where `policy` refused.
fn swallow(policy: &'static str, instead: Value) -> Bend {
    bend(move |arrived, pass| {
        let answer = pass(arrived);
        let told = format!(
            "{:?}{}",
            answer.headers,
            String::from_utf8_lossy(&answer.body)
        );
        if arrived.method != "POST" || answer.status != 429 || !told.contains(policy) {
            return answer;
        }
        Answer {
            status: 200,
            headers: Vec::new(),
            body: instead.to_string().into_bytes(),
        }
    })
}

#[test]
fn limits_are_met_in_the_flesh_and_each_missing_one_fails_its_row() {
    let mut deployment = Deployment::start(&SMALL);
    let report = spend(&mut deployment);
    assert_eq!(
        report.with("fail"),
        Vec::<&str>::new(),
        "{:#?}",
        report.rows
    );
    assert!(
        report
            .evidence("limit-address")
            .contains(" generations from one address passed, then 429 rate_limited by address")
    );
    assert!(
        report
            .evidence("limit-token")
            .contains(" generations with one token from as many addresses passed, then 429")
    );
    assert!(
        report.evidence("penalty-box").starts_with("arrival 31 "),
        "{}",
        report.evidence("penalty-box")
    );

    for (id, bend) in [
        ("quota-user", swallow("user-hour", json!({ "images": [] }))),
        (
            "storage-full",
            swallow("storage_quota", json!({ "id": "x" })),
        ),
    ] {
        deployment.front.bend(bend);
        let report = spend(&mut deployment);
        assert_eq!(report.with("fail"), [id], "{:#?}", report.rows);
    }
    for (id, wide) in [
        ("limit-address", ("SIGNET_LIMITS__ADDRESS__BURST", "1000")),
        ("limit-token", ("SIGNET_LIMITS__TOKEN__BURST", "1000")),
        ("penalty-box", ("SIGNET_LIMITS__PENALTY_ARRIVALS", "100000")),
    ] {
        let mut deployment = Deployment::start(&[SMALL.as_slice(), &[wide]].concat());
        let report = spend(&mut deployment);
        assert_eq!(report.with("fail"), [id], "{:#?}", report.rows);
    }
}
