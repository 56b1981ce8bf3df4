//! What operators see: metrics from the start, one line a picture, and nothing secret in either.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::Request;
use crate::program::{ALL_SCOPES, Service};

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.unwrap_or_else(|| panic!("{series} is not there"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn metrics_are_there_from_the_start_and_count_what_happens() {
    let service = Service::start(&[]);
    let before = service.metrics();
    for name in [
        "signet_http_requests_total",
        "signet_generations_total",
        "signet_generation_seconds",
        "signet_stage_seconds",
        "signet_queue_depth",
        "signet_queue_wait_seconds",
        "signet_batch_size",
        "signet_rate_limited_total",
        "signet_storage_bytes",
        "signet_session_ips",
        "signet_user_generations",
        "signet_links_total",
        "signet_uploads_total",
        "signet_key_age_seconds",
        "signet_trace_spans_dropped_total",
    ] {
        assert!(before.contains(&format!("# TYPE {name} ")), "{name}");
    }
    for series in [
        "signet_uploads_total{verdict=\"accepted\"}",
        "signet_uploads_total{verdict=\"damaged_image\"}",
        "signet_rate_limited_total{policy=\"penalty-box\"}",
        "signet_links_total{kid=\"unknown\",verdict=\"bad_signature\"}",
        "signet_session_ips_count",
        "signet_user_generations_count",
    ] {
        assert_eq!(value(&before, series), 0.0, "{series}");
    }
    assert_eq!(
        value(&before, "signet_generations_total{outcome=\"done\"}"),
        0.0
    );
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let url = image["url"].as_str().unwrap();
    service.link(url).send().ok();
    service.link(url.split('?').next().unwrap()).send();
    service.get("/api/nothing").send();
    let after = service.metrics();
    assert_eq!(
        value(&after, "signet_generations_total{outcome=\"done\"}"),
        1.0
    );
    assert_eq!(value(&after, "signet_generation_seconds_count"), 1.0);
    assert_eq!(value(&after, "signet_queue_wait_seconds_count"), 1.0);
    assert_eq!(
        value(&after, "signet_storage_bytes"),
        image["bytes"].as_f64().unwrap()
    );
    assert_eq!(
        value(&after, "signet_links_total{kid=\"local\",verdict=\"ok\"}"),
        1.0
    );
    assert_eq!(
        value(
            &after,
            "signet_links_total{kid=\"unknown\",verdict=\"bad_signature\"}"
        ),
        1.0
    );
    assert_eq!(
        value(
            &after,
            "signet_http_requests_total{route=\"/api/generate\",status=\"200\"}"
        ),
        1.0
    );
    let user = image["key"].as_str().unwrap().split('/').nth(1).unwrap();
    for private in [
        user,
        "127.0.0.1",
        "purple",
        image["id"].as_str().unwrap(),
        "/api/nothing",
    ] {
        assert!(!after.contains(private), "{private} is in a label");
    }
}

#[test]
fn each_picture_leaves_one_line_without_its_prompt() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let wish = json!({ "prompt": "A Zebra in pyjamas", "negative_prompt": "stripes of gold", "steps": 2, "guidance_scale": 1, "seed": 11, "n": 2 });
    let answer = service
        .post("/api/generate")
        .token(&token)
        .json(&wish)
        .send()
        .ok();
    let id = answer.header("x-request-id").unwrap().to_owned();
    let answer = answer.json();
    service
        .link(answer["images"][0]["url"].as_str().unwrap())
        .send()
        .ok();
    let log = service.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .filter(|line: &Value| line["event"] == "image_generated")
        .collect();
    assert_eq!(lines.len(), 2);
    // Of a name that stands twice readers take one or the other.
    for line in log.lines() {
        assert_eq!(line.matches("\"timestamp\":").count(), 1, "{line}");
    }
    for (line, image) in lines.iter().zip(answer["images"].as_array().unwrap()) {
        assert_eq!(line["output_key"], image["key"]);
        assert_eq!(line["output_bytes"], image["bytes"]);
        assert_eq!(line["seed"], image["seed"]);
        assert_eq!(line["steps"], 2);
        assert_eq!(line["request_id"], id);
        assert_eq!(line["ip"], "127.0.0.1");
        assert!(
            line["prompt_hash"]
                .as_str()
                .unwrap()
                .starts_with("hmac-sha256:")
        );
        for name in [
            "user_id",
            "timestamp",
            "latency_ms",
            "queue_ms",
            "model",
            "cost_units",
            "rate_limit_remaining",
        ] {
            assert!(!line[name].is_null(), "{name}");
        }
    }
    let sig = answer["images"][0]["url"]
        .as_str()
        .unwrap()
        .split("sig=")
        .nth(1)
        .unwrap()
        .to_owned();
    for secret in [
        "zebra",
        "Zebra",
        "pyjamas",
        "stripes",
        sig.as_str(),
        token.as_str(),
    ] {
        assert!(!log.contains(secret), "{secret:.10} is in the log");
    }
}

#[test]
fn operators_routes_answer_on_their_own_listener_only() {
    let service = Service::start(&[]);
    for target in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(
            Request::new(service.operator, "GET", target).send().status,
            200,
            "{target}"
        );
        assert_eq!(service.get(target).send().status, 404, "{target}");
        assert_ne!(
            Request::new(service.images.unwrap(), "GET", target)
                .host(Some(&format!(
                    "localhost:{}",
                    service.images.unwrap().port()
                )))
                .send()
                .status,
            200
        );
    }
    assert_eq!(
        Request::new(service.operator, "GET", "/api/images")
            .send()
            .problem(),
        (404, "not_found".into())
    );
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    for metrics in [service.metrics(), {
        service.picture(&token);
        service.get("/api/images").send();
        service.metrics()
    }] {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool comes with the Debian package prometheus");
        let mut input = promtool.stdin.take().unwrap();
        input.write_all(metrics.as_bytes()).unwrap();
        drop(input);
        let said = promtool.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&said.stderr) + String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success() && told.trim().is_empty(), "{told}");
    }
}

#[test]
fn no_client_makes_a_new_series() {
    let service = Service::start(&[]);
    let series = || {
        let metrics = service.metrics();
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let strange = |round: u32| {
        for n in 0..20u32 {
            let name = format!("r{round}n{n}");
            for request in [
                service.get(&format!("/{name}")),
                service.get(&format!("/api/images/{name}")),
                service.get(&format!("/studio/{name}/{name}")),
                Request::new(service.public, &name.to_uppercase(), "/api/generate"),
                service.get("/").host(Some(&format!("{name}.example"))),
                service.get("/api/images").token(&name),
                Request::new(service.operator, "GET", &format!("/{name}")),
                Request::new(
                    service.operator,
                    "POST",
                    &format!("/admin/users/{name}/{name}"),
                ),
                service.link(&format!(
                    "http://localhost:{}/generated/u/{name}.png?exp=1&kid={name}&sig={name}",
                    service.images.unwrap().port()
                )),
            ] {
                let _ = request.try_send();
            }
        }
    };
    // The scrape is an answer itself.
    service.metrics();
    strange(0);
    let before = series();
    strange(1);
    assert_eq!(series(), before);
    for series in before {
        assert!(!series.contains("r0n"), "{series}");
    }
}
