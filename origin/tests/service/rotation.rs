//! A new link key comes and an old one goes while links are signed and opened.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::program::{ALL_SCOPES, Service};

fn kid(url: &str) -> &str {
    url.split("kid=").nth(1).unwrap().split('&').next().unwrap()
}

fn fails(service: &Service, arguments: &[&str]) -> String {
    let output = service.home().run(arguments);
    assert!(!output.status.success(), "{arguments:?} went well");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_rotation_under_traffic_refuses_no_good_link() {
    let service = Service::start(&[("SIGNET_LIMITS__LINKS__PER_MINUTE", "600000")]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let target = format!("/api/images/{}/link", image["id"].as_str().unwrap());
    let fresh = || {
        let answer = service.post(&target).token(&token).json(&json!({})).send();
        answer.ok().json()["url"].as_str().unwrap().to_owned()
    };
    let old = fresh();
    let (stop, opened) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for url in [&fresh(), &old] {
                    assert_eq!(service.link(url).send().status, 200, "{}", kid(url));
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let told = service.home().succeed(&["keys", "rotate", "--kid", "k2"]);
        assert!(told.contains("k2 signs"), "{told}");
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
    });
    assert!(opened.into_inner() > 50);
    let new = fresh();
    assert_eq!(kid(&new), "k2");
    assert_eq!(service.link(&old).send().status, 200);
    let metrics = service.metrics();
    assert!(metrics.contains("signet_links_total{kid=\"k2\",verdict=\"ok\"}"));

    let told = fails(&service, &["keys", "rotate", "--retire", "local"]);
    assert!(told.contains("may live until"), "{told}");
    fails(&service, &["keys", "rotate", "--retire", "k2", "--now"]);
    fails(&service, &["keys", "rotate", "--kid", "local"]);
    assert_eq!(service.link(&old).send().status, 200);
    let retire = ["keys", "rotate", "--retire", "local", "--now"];
    service.home().succeed(&retire);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(
        service.link(&old).send().problem(),
        (403, "bad_signature".into())
    );
    assert_eq!(service.link(&new).send().status, 200);
}

#[test]
fn a_rotation_whose_edge_fails_signs_nothing_new_and_goes_on_when_run_again() {
    let service = Service::start(&[]);
    let list = || service.home().succeed(&["keys", "list"]);
    let rotate = ["keys", "rotate", "--kid", "k2", "--wait", "0", "--edge"];
    let with = |edge: &'static str| [&rotate[..], &[edge]].concat();
    fails(&service, &with("cat >given; exit 1"));
    assert_eq!(list(), "local  signs\nk2  verifies\n");
    let told = fails(&service, &["keys", "rotate", "--kid", "k3"]);
    assert!(told.contains("under way"), "{told}");
    service.home().succeed(&with("cat >given"));
    assert_eq!(list(), "k2  signs\nlocal  verifies\n");
    let given = std::fs::read_to_string(service.home().path("given")).unwrap();
    let kids: Vec<_> = given
        .split(',')
        .map(|pair| pair.split(':').next().unwrap())
        .collect();
    assert_eq!(kids, ["local", "k2"], "the edge was told before k2 signed");
    let told = service.log();
    let key = given.split([':', ',']).nth(1).unwrap();
    assert!(!told.contains(key), "a key is in the log");
}

#[test]
fn a_keyring_from_the_environment_is_not_rotated() {
    let ring = "k1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";
    let service = Service::start(&[("SIGNET_IMAGES__KEYS", ring)]);
    let told = fails(&service, &["keys", "rotate"]);
    assert!(told.contains("images.keys_file"), "{told}");
}

#[test]
fn prompt_hash_keys_outlive_a_restart_and_are_changed_early_only_when_one_leaked() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let hashes = |log: &str| -> Vec<String> {
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        let made = lines.filter(|line: &serde_json::Value| line["event"] == "image_generated");
        made.map(|line| line["prompt_hash"].as_str().unwrap().to_owned())
            .collect()
    };
    service.picture(&token);
    let service = service.kill().serve();
    let token = service.token(ALL_SCOPES);
    service.picture(&token);
    let told = fails(&service, &["keys", "rotate", "--prompts"]);
    assert!(told.contains("is 0 days old"), "{told}");
    let rotate = ["keys", "rotate", "--prompts", "--at-once"];
    let kid = service.home().succeed(&rotate).trim().to_owned();
    std::thread::sleep(Duration::from_millis(3500));
    service.picture(&token);
    let [first, second, third] = &hashes(&service.log())[..] else {
        panic!("not three pictures");
    };
    assert_eq!(first, second, "a restart keeps the key");
    assert!(
        third.starts_with(&format!("hmac-sha256:{kid}:")),
        "{third} under {kid}"
    );
    let metrics = service.metrics();
    let age = |kind: &str| {
        let series = format!("signet_key_age_seconds{{kind=\"{kind}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().parse::<f64>().unwrap()
    };
    assert!(age("prompt") < 60.0 && age("link") < 600.0 && age("token") < 600.0);
    assert_eq!(age("edge"), 0.0, "there is no edge");
}
