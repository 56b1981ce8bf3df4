//! Pictures from a provider: what it is told, and what happens when it misbehaves in every way we know.

mod hostile;
mod upstream;

use std::io::Cursor;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Client, Home, Service};
use upstream::{Act, Upstream, json as says, reply};

const KEY: &str = "sk-canary-5b1f0c";

/// A service whose only model is the provider's.
pub fn home(upstream: &Upstream, variables: &[(&str, &str)]) -> Home {
    let mut home = Home::new(&[
        ("SIGNET_INFER__MODELS", "[]"),
        (
            "SIGNET_PROVIDER__BASE_URL",
            &format!("{}/v1", upstream.url()),
        ),
        ("SIGNET_PROVIDER__ALLOW_LOOPBACK", "true"),
        ("SIGNET_PROVIDER__MODEL", "image-1"),
        ("SIGNET_PROVIDER__KEY", KEY),
        ("SIGNET_PROVIDER__SIZES", "[\"64x64\", \"96x64\"]"),
        ("SIGNET_TELEMETRY__LOG", "trace"),
    ]);
    for (name, value) in variables {
        home.set(name, value);
    }
    home
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x as u8 * 3, y as u8 * 3, 90])
    });
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// An answer that holds these files.
pub fn pictures(files: &[Vec<u8>]) -> Act {
    let data: Vec<_> = files
        .iter()
        .map(|file| json!({ "b64_json": STANDARD.encode(file) }))
        .collect();
    says(&json!({ "created": 1, "data": data }))
}

pub fn ask() -> Value {
    json!({ "prompt": "a canary heart", "seed": 7 })
}

struct Case {
    service: Service,
    upstream: Upstream,
    client: Client,
    token: String,
}

impl Case {
    fn new(act: Act, variables: &[(&str, &str)]) -> Self {
        let upstream = Upstream::start(vec![act]);
        let service = home(&upstream, variables).serve();
        let client = service.client(ALL_SCOPES);
        let token = service.token_of(&client);
        Self {
            service,
            upstream,
            client,
            token,
        }
    }

    fn generate(&self, body: &Value) -> Answer {
        self.service.generate(&self.token, body)
    }

    fn used(&self, policy: &str) -> u64 {
        let usage = self
            .service
            .get("/api/usage")
            .token(&self.token)
            .send()
            .ok()
            .json();
        let rows = usage["limits"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["policy"] == policy).unwrap();
        row["used"].as_u64().unwrap()
    }
}

#[test]
fn a_provider_is_told_what_to_make_and_nothing_of_who_asks() {
    let case = Case::new(
        pictures(&[png(64, 64), png(64, 64)]),
        &[("SIGNET_PROVIDER__FIELDS__QUALITY", "low")],
    );
    let mut body = ask();
    body["n"] = json!(2);
    let answer = case
        .service
        .post("/api/generate")
        .token(&case.token)
        .header("user-agent", "canary-agent")
        .header("cookie", "canary=1")
        .header("x-forwarded-for", "198.51.100.77")
        .json(&body)
        .send()
        .ok()
        .json();
    let seen = case.upstream.seen();
    assert_eq!(seen.len(), 1);
    let host = case.upstream.address.to_string();
    let expected = [
        ("accept", "application/json"),
        ("authorization", &format!("Bearer {KEY}")),
        ("content-length", &seen[0].body.len().to_string()),
        ("content-type", "application/json"),
        ("host", &host),
        ("user-agent", "signet"),
    ];
    assert_eq!(seen[0].line, "POST /v1/images/generations HTTP/1.1");
    let headers: Vec<_> = seen[0]
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(headers, expected);
    assert_eq!(
        seen[0].json(),
        json!({
            "model": "image-1", "prompt": "a canary heart", "n": 2, "size": "64x64",
            "response_format": "b64_json", "quality": "low",
        })
    );
    // Everything around it is as with a local model: rows, links, costs, the line in the log.
    let images = answer["images"].as_array().unwrap();
    assert_eq!((images.len(), &images[1]["seed"]), (2, &json!(8)));
    for image in images {
        let got = case
            .service
            .link(image["url"].as_str().unwrap())
            .send()
            .ok();
        let picture = image::load_from_memory(&got.body).unwrap().to_rgb8();
        assert_eq!(picture.get_pixel(10, 20).0, [30, 60, 90]);
    }
    // 2 pictures, 20 steps, 64 × 64 of 512 × 512: less than what two pictures cost at least.
    assert_eq!(answer["job"]["cost_units"], json!(0.744));
    assert_eq!(case.used("user-hour"), 1);
    let log = case.service.log();
    let line = log
        .lines()
        .find(|line| line.contains("\"output_key\""))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["model"], &line["user_id"]),
        (&json!("image-1"), &json!(case.client.user))
    );
    for secret in [KEY, "canary heart"] {
        assert!(!log.contains(secret), "{secret} stands in the log");
        assert!(!case.service.metrics().contains(secret));
    }
    assert!(
        case.service
            .metrics()
            .contains("signet_stage_seconds_count{stage=\"provider\"} 1")
    );
}

#[test]
fn the_answer_to_one_key_is_paid_once_and_the_pictures_are_marked() {
    let case = Case::new(
        pictures(&[png(64, 64)]),
        &[("SIGNET_PROVENANCE__ENABLED", "true")],
    );
    let once = || {
        let request = case
            .service
            .post("/api/generate")
            .token(&case.token)
            .json(&ask());
        request.header("idempotency-key", "one").send().ok().json()
    };
    let (first, second) = (once(), once());
    assert_eq!(first["job"]["id"], second["job"]["id"]);
    assert_eq!(case.upstream.seen().len(), 1);
    let got = case
        .service
        .link(first["images"][0]["url"].as_str().unwrap())
        .send()
        .ok();
    assert!(
        got.body.windows(4).any(|four| four == b"caBX"),
        "a C2PA chunk"
    );
}

#[test]
fn pictures_are_fetched_from_their_addresses_without_the_key() {
    let files = Upstream::start(vec![reply(
        "200 OK",
        "content-type: image/png\r\n",
        &png(64, 64),
    )]);
    let at = json!({ "data": [{ "url": format!("{}/a/b.png?sig=canary-sig", files.url()) }] });
    let case = Case::new(says(&at), &[("SIGNET_PROVIDER__RESPONSE_FORMAT", "url")]);
    case.generate(&ask()).ok();
    assert_eq!(case.upstream.seen()[0].json()["response_format"], "url");
    let seen = files.seen();
    assert_eq!(seen[0].line, "GET /a/b.png?sig=canary-sig HTTP/1.1");
    assert_eq!(seen[0].header("authorization"), None);
    assert!(!case.service.log().contains("canary-sig"));
}

#[test]
fn a_picture_of_another_size_is_brought_to_the_one_asked_for() {
    let case = Case::new(pictures(&[png(80, 80)]), &[]);
    let image = case
        .generate(&json!({ "prompt": "x", "width": 96, "height": 64 }))
        .ok()
        .json()["images"][0]
        .clone();
    assert_eq!(
        (&image["width"], &image["height"]),
        (&json!(96), &json!(64))
    );
    assert_eq!(case.upstream.seen()[0].json()["size"], "96x64");
}

#[test]
fn what_the_provider_would_not_be_told_is_refused_by_name() {
    let case = Case::new(
        pictures(&[png(64, 64)]),
        &[("SIGNET_PROVIDER__MAX_IMAGES", "2")],
    );
    for (field, value) in [
        ("width", json!(65)),
        ("height", json!(96)),
        ("steps", json!(19)),
        ("guidance_scale", json!(7.5)),
        ("negative_prompt", json!("x")),
        ("n", json!(3)),
        ("init_image", json!("01900000-0000-7000-8000-000000000000")),
    ] {
        let mut body = ask();
        body[field] = value;
        let answer = case.generate(&body);
        assert_eq!(answer.problem(), (400, "invalid_request".into()), "{field}");
        let named = if field == "height" { "width" } else { field };
        assert!(
            answer.json()["detail"].as_str().unwrap().contains(named),
            "{field}"
        );
    }
    assert_eq!(case.upstream.seen().len(), 0);
}

#[test]
fn a_cancelled_job_hangs_up_and_a_late_one_fails() {
    let case = Case::new(Act::Hang, &[("SIGNET_QUEUE__DEADLINE_SECONDS", "2")]);
    let request = case
        .service
        .post("/api/generate")
        .token(&case.token)
        .json(&ask());
    let job = request.header("prefer", "respond-async").send().ok().json()["job"].clone();
    case.upstream.wait_for(1);
    let path = format!("/api/jobs/{}", job["id"].as_str().unwrap());
    let ended = case
        .service
        .delete(&path)
        .token(&case.token)
        .send()
        .ok()
        .json();
    assert_eq!(ended["job"]["status"], "cancelled");
    case.upstream.wait_until_left();
    assert_eq!(case.generate(&ask()).problem(), (504, "deadline".into()));
    case.upstream.wait_until_left();
    assert_eq!(case.used("jobs"), 0);
}

#[test]
fn one_call_at_a_time_and_the_next_user_before_the_flood() {
    let case = Case::new(
        Act::Hang,
        &[
            ("SIGNET_PROVIDER__PARALLEL", "1"),
            ("SIGNET_LIMITS__JOBS", "20"),
        ],
    );
    let submit = |token: &str, prompt: &str| {
        let request = case.service.post("/api/generate").token(token);
        let request = request
            .json(&json!({ "prompt": prompt }))
            .header("prefer", "respond-async");
        request.send().ok().json()["job"]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = submit(&case.token, "flood");
    case.upstream.wait_for(1);
    for _ in 0..5 {
        submit(&case.token, "flood");
    }
    let other = case.service.token(ALL_SCOPES);
    submit(&other, "single");
    assert_eq!(case.upstream.seen().len(), 1, "one call at a time");
    let cancel = case
        .service
        .delete(&format!("/api/jobs/{first}"))
        .token(&case.token);
    cancel.send().ok();
    case.upstream.wait_for(2);
    assert_eq!(case.upstream.seen()[1].json()["prompt"], "single");
}

#[test]
fn a_budget_is_spent_once_and_given_back_when_the_provider_fails() {
    let case = Case::new(
        pictures(&[png(64, 64)]),
        &[
            ("SIGNET_PROVIDER__PRICE", "0.04"),
            ("SIGNET_PROVIDER__BUDGET_DAY", "0.10"),
        ],
    );
    case.generate(&ask()).ok();
    case.upstream
        .act(vec![reply("500 Oops", "", b"canary words of the provider")]);
    for _ in 0..3 {
        assert_eq!(
            case.generate(&ask()).problem(),
            (502, "provider_failed".into())
        );
    }
    case.upstream.act(vec![pictures(&[png(64, 64)])]);
    case.generate(&ask()).ok();
    let asked = case.upstream.seen().len();
    let refused = case.generate(&ask());
    assert_eq!(refused.problem(), (503, "provider_budget".into()));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&seconds));
    assert_eq!(case.upstream.seen().len(), asked, "nothing was asked for");
    assert_eq!(
        case.used("user-hour"),
        2,
        "the caller paid for two pictures"
    );
    // A kill -9 and a restart do not fill it again.
    let Case {
        service, client, ..
    } = case;
    let service = service.kill().serve();
    let token = service.token_of(&client);
    assert_eq!(
        service.generate(&token, &ask()).problem(),
        (503, "provider_budget".into())
    );
}

#[test]
fn many_at_once_never_pass_the_budget() {
    let case = Case::new(
        pictures(&[png(64, 64)]),
        &[
            ("SIGNET_PROVIDER__PRICE", "1"),
            ("SIGNET_PROVIDER__BUDGET_DAY", "3"),
            ("SIGNET_LIMITS__JOBS", "20"),
            ("SIGNET_LIMITS__ADDRESS__BURST", "100"),
            ("SIGNET_LIMITS__TOKEN__BURST", "100"),
        ],
    );
    let answers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| case.generate(&ask()).status))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        3,
        "{answers:?}"
    );
    assert_eq!(
        answers.iter().filter(|status| **status == 503).count(),
        9,
        "{answers:?}"
    );
    assert_eq!(case.upstream.seen().len(), 3);
}

#[test]
fn another_key_in_the_file_is_sent_without_a_restart() {
    let upstream = Upstream::start(vec![pictures(&[png(64, 64)])]);
    let mut home = home(&upstream, &[("SIGNET_PROVIDER__KEY_FILE", "key")]);
    home.unset("SIGNET_PROVIDER__KEY");
    std::fs::write(home.path("key"), "sk-one\n").unwrap();
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    service.generate(&token, &ask()).ok();
    std::fs::write(service.home().path("key"), "sk-two\n").unwrap();
    service.signal("HUP");
    loop {
        service.generate(&token, &ask()).ok();
        let seen = upstream.seen();
        let last = seen
            .last()
            .unwrap()
            .header("authorization")
            .unwrap()
            .to_owned();
        if last == "Bearer sk-two" {
            break;
        }
        assert_eq!(last, "Bearer sk-one");
    }
    assert!(!service.log().contains("sk-"));
}

#[test]
fn a_provider_beside_local_models_is_one_more_name() {
    let upstream = Upstream::start(vec![pictures(&[png(64, 64)])]);
    let mut home = home(&upstream, &[("SIGNET_PROVIDER__NAME", "elsewhere")]);
    home.unset("SIGNET_INFER__MODELS");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/engine/model");
    home.set("SIGNET_INFER__MODELS", &json!([model]).to_string());
    let service = home.serve();
    let token = service.token(ALL_SCOPES);
    service.picture(&token);
    assert_eq!(
        upstream.seen().len(),
        0,
        "the local model is the default one"
    );
    let mut body = ask();
    body["model"] = json!("elsewhere");
    service.generate(&token, &body).ok();
    assert_eq!(upstream.seen().len(), 1);
    body["model"] = json!("nowhere");
    assert_eq!(
        service.generate(&token, &body).problem(),
        (404, "unknown_model".into())
    );
    let about = Request::new(service.operator, "GET", "/readyz").send();
    assert_eq!(about.status, 200);
}

#[test]
fn a_provider_that_cannot_work_is_told_before_anything_is_bound() {
    let upstream = Upstream::start(vec![pictures(&[png(64, 64)])]);
    for (name, value, word) in [
        (
            "SIGNET_PROVIDER__ALLOW_LOOPBACK",
            "false",
            "provider.base_url",
        ),
        (
            "SIGNET_PROVIDER__BASE_URL",
            "http://example.org/v1",
            "provider.base_url",
        ),
        ("SIGNET_PROVIDER__MODEL", "", "provider.model"),
        ("SIGNET_PROVIDER__SIZES", "[]", "provider.sizes"),
        ("SIGNET_PROVIDER__KEY", "sk two", "provider.key"),
        ("SIGNET_PROVIDER__BUDGET_DAY", "10", "provider.price"),
    ] {
        let output = home(&upstream, &[(name, value)]).run(&["config", "check"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{name}: {told}");
        assert!(told.contains(word), "{name}: {told}");
        assert!(!told.contains("sk two") && !told.contains(KEY), "{told}");
    }
}
