//! Rows that cost nothing: all pass, and each fails when just its item breaks.

use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bends::all;
use super::deployment::{Change, Deployment, ON_LOOPBACK, SPENDING};
use crate::front::honest;
use crate::program::{Home, Service};

fn broken(id: &str, deployment: &Deployment) {
    let report = deployment.examine(&[]);
    assert_eq!(report.with("fail"), [id], "{:#?}", report.rows);
    assert_eq!(report.code, 1);
}

#[test]
fn a_hardened_deployment_passes_every_row_and_each_broken_item_fails_just_its_own() {
    let mut deployment = Deployment::start(&[]);
    let healthy = deployment.examine(&[]);
    assert_eq!(
        healthy.with("fail"),
        Vec::<&str>::new(),
        "{:#?}",
        healthy.rows
    );
    let mut skipped = [ON_LOOPBACK.as_slice(), SPENDING.as_slice()].concat();
    skipped.sort_unstable();
    assert_eq!(healthy.with("skipped"), skipped, "{:#?}", healthy.rows);
    assert_eq!(healthy.code, 0);
    let last = &healthy.order[healthy.order.len() - SPENDING.len()..];
    assert!(
        last.iter().all(|id| SPENDING.contains(&id.as_str())),
        "{:?}",
        healthy.order
    );

    // What the front does to requests and answers.
    let public = deployment.service.public;
    for (id, bend) in all(&deployment.ring) {
        deployment.front.bend(bend);
        broken(id, &deployment);
    }
    deployment.front.bend(honest());

    // What the front writes down.
    deployment.front.log_carelessly(true);
    broken("access-log", &deployment);
    deployment.front.log_carelessly(false);
    std::fs::write(&deployment.front.log, "").unwrap();

    // What stands beside it.
    let changes: [(&str, Change); 4] = [
        ("alerts", |facts| drop(facts.rules.pop())),
        ("versions", |facts| facts.vulnerable = Some("image".into())),
        ("bucket-private", |facts| facts.public = true),
        ("lifecycle", |facts| facts.lifecycle.clear()),
    ];
    for (id, change) in changes {
        let before = deployment.neighbours.change(change);
        broken(id, &deployment);
        deployment.neighbours.change(|facts| *facts = before);
    }

    // What lies on disk.
    let leak = deployment.service.home().path("tree/leak.txt");
    std::fs::write(&leak, format!("secret: {}\n", deployment.client.secret)).unwrap();
    broken("source-secrets", &deployment);
    std::fs::remove_file(leak).unwrap();
    let log = deployment.service.home().path("generations.log");
    let lines = std::fs::read_to_string(&log).unwrap();
    let keyed = "0a".repeat(32);
    let plain: String = Sha256::digest("a purple heart")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for bad in [
        lines.replace("hmac-sha256:p-1", "sha256"),
        lines.replace(&keyed, &plain),
        lines.replace("\"event\"", "\"prompt\":\"a heart\",\"event\""),
    ] {
        assert_ne!(bad, lines);
        std::fs::write(&log, bad).unwrap();
        broken("structured-logs", &deployment);
    }
    std::fs::write(&log, lines).unwrap();

    // Who knows what.
    let other = Service::start(&[("SIGNET_IMAGES__KEYS", &deployment.ring)]);
    let own = std::mem::replace(
        &mut deployment.arguments[1],
        format!("http://localhost:{}", other.images.unwrap().port()),
    );
    broken("link-keys", &deployment);
    deployment.arguments[1] = own;
    drop(other);

    // Who answers around the front: an origin that trusts everybody.
    let open = Service::start(&[("SIGNET_SERVER__URL", &deployment.variables["EDGE_URL"])]);
    let origin = deployment.set("ORIGIN_URL", &format!("http://{}", open.public));
    broken("origin-bypass", &deployment);
    deployment.set("ORIGIN_URL", &origin);
    assert_eq!(origin, format!("http://{public}"));

    assert_eq!(deployment.examine(&[]).with("fail"), Vec::<&str>::new());
}

#[test]
fn without_a_deployment_rows_are_skipped_and_the_exit_code_says_so() {
    let home = Home::new(&[]);
    let output = home.run(&["doctor", "--json", "--advisories", "off"]);
    assert_eq!(output.status.code(), Some(64));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let with = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert!(with("fail") == 0 && with("skipped") > 25, "{rows:?}");
    let table = home.run(&["doctor", "--advisories", "off"]);
    assert!(
        String::from_utf8(table.stdout)
            .unwrap()
            .contains("0 failed")
    );
    let bad = Command::new(env!("CARGO_BIN_EXE_signet"))
        .arg("doctor")
        .env_clear()
        .env("EDGE_URL", "api.example.com")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&bad.stderr).contains("EDGE_URL"));
    assert!(!bad.status.success());
}
