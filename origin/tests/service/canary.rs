//! Marks are planted wherever a client can put them, every route is driven through its answers, errors and panics, and
//! none of it is found in what the service tells: log, metrics, traces, error bodies, pages.

use serde_json::json;

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Home};
use crate::traces::Collector;

/// In everything that is planted. Kept plain so that no encoding hides it.
const MARK: &str = "canary7f3a91";
/// What each level could tell is told at the level below it too, but each is tried by itself.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const LINK_RING: &str = "k1:Y2FuYXJ5N2YzYTkxLWxpbmsta2V5LTAwMDAwMDAwMDA=";

fn mark(place: &str) -> String {
    format!("{MARK}-{place}")
}

/// What is to be found nowhere, and why.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn check(&self, place: &str, text: &str) {
        let lower = text.to_lowercase();
        for (what, secret) in &self.0 {
            if let Some(at) = lower.find(&secret.to_lowercase()) {
                let begin = at.saturating_sub(200);
                let around = lower.get(begin..(at + 100).min(lower.len())).unwrap_or("");
                panic!("{what} is in {place}: …{around}…");
            }
        }
    }
}

/// Method and path of every route, as they stand in the source.
fn routes() -> Vec<(String, String)> {
    let mut routes = Vec::new();
    let source = include_str!("../../src/routes.rs");
    for call in source.split("at(\"").skip(1) {
        let mut texts = call.split('"');
        let (path, methods) = (texts.next().unwrap(), texts.nth(1).unwrap());
        routes.extend(
            methods
                .split(", ")
                .map(|method| (method.to_owned(), path.to_owned())),
        );
    }
    routes.extend([
        ("GET".into(), "/".into()),
        ("GET".into(), "/nowhere".into()),
        ("BREW".into(), "/api/generate".into()),
    ]);
    routes
}

/// The same request with marks wherever one fits.
fn planted(to: std::net::SocketAddr, method: &str, path: &str, host: Option<&str>) -> Vec<Request> {
    let path = path.replace("{id}", "01900000-0000-7000-8000-000000000000");
    let base = || {
        Request::new(
            to,
            method,
            &format!("{path}?q={}&{}=1", mark("query"), mark("name")),
        )
        .host(host.or(Some(&to.to_string())))
        .header(
            "cookie",
            format!(
                "signet={}; other={}; signet-operator={}",
                mark("cookie"),
                mark("other"),
                mark("op")
            ),
        )
        .header("user-agent", mark("agent"))
        .header(
            "referer",
            format!("http://{}.example/{}", mark("referer"), mark("path")),
        )
        .header("x-request-id", format!("{}/id", mark("request")))
        .header("traceparent", mark("trace"))
        .header("idempotency-key", mark("idempotency"))
        .header("prefer", format!("wait=1, {}", mark("prefer")))
        .header("x-forwarded-for", mark("forwarded"))
        .header("signature", format!("sig=:{}:", mark("signature")))
        .header("signature-input", mark("input"))
        .header(&format!("x-{MARK}"), mark("header"))
        .header("if-none-match", format!("\"{}\"", mark("etag")))
        .header("range", format!("bytes={}", mark("range")))
    };
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
        mark("client"),
        mark("secret"),
        mark("scope")
    );
    let parts = format!(
        "--b\r\ncontent-disposition: form-data; name=\"{}\"; filename=\"{}.png\"\r\ncontent-type: image/{}\r\n\r\n{}\r\n--b--\r\n",
        mark("part"),
        mark("file"),
        mark("type"),
        mark("content")
    );
    vec![
        base(),
        base().token(&mark("bearer")),
        base().header("authorization", format!("Basic {}", mark("basic"))),
        base().header("authorization", format!("{} x", mark("scheme"))),
        base().body(
            "application/json",
            format!("{{\"prompt\": \"{}\"", mark("broken")),
        ),
        base().body(
            "application/json",
            json!({ "prompt": mark("prompt"), "model": mark("model") }).to_string(),
        ),
        base().body("application/x-www-form-urlencoded", form),
        base().body("multipart/form-data; boundary=b", parts),
        base().body(&format!("text/{}", mark("media")), mark("raw")),
        Request::new(to, method, &format!("{path}/{}", mark("segment")))
            .host(host.or(Some(&to.to_string()))),
        Request::new(to, method, &path).host(Some(&format!("{}.example", mark("host")))),
        Request::new(
            to,
            method,
            &format!("{path}?access_token={}", mark("query-token")),
        )
        .host(host.or(Some(&to.to_string()))),
    ]
}

fn check_answer(secrets: &Secrets, request: &str, answer: &Answer) {
    secrets.check(
        &format!("the answer to {request}"),
        &String::from_utf8_lossy(&answer.body),
    );
    for (name, value) in &answer.headers {
        secrets.check(&format!("{name} of the answer to {request}"), value);
    }
}

fn drive(level: &str) {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let mut home = Home::new(&[
        ("SIGNET_TELEMETRY__LOG", level),
        ("SIGNET_TELEMETRY__OTLP_ENDPOINT", &endpoint),
        ("SIGNET_IMAGES__KEYS", LINK_RING),
        ("SIGNET_TEST_PANIC_AT", "generate"),
    ]);
    home.set("SIGNET_LIMITS__LINKS__PER_MINUTE", "600000");
    let service = home.serve();
    let client = service.client(ALL_SCOPES);
    let admin = service.client("admin");
    let token = service.token_of(&client);
    let key = LINK_RING.split(':').nth(1).unwrap().to_owned();
    let mut secrets = Secrets(vec![
        ("a mark", MARK.into()),
        ("the link key", key),
        ("a client's secret", client.secret.clone()),
        ("the operator's secret", admin.secret.clone()),
    ]);

    // Every route, planted in every way.
    let images = service.images.unwrap();
    let images_host = format!("localhost:{}", images.port());
    for (method, path) in routes() {
        for (n, request) in planted(service.public, &method, &path, None)
            .iter()
            .enumerate()
        {
            if let Ok(answer) = request.try_send() {
                check_answer(&secrets, &format!("{method} {path} ({n})"), &answer);
            }
        }
    }
    for path in [
        "/",
        "/admin",
        "/admin/overview",
        "/admin/users/{id}/suspend",
        "/admin/session",
        "/metrics",
        "/readyz",
        "/healthz",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            for request in planted(service.operator, method, path, None) {
                if let Ok(answer) = request.try_send() {
                    check_answer(&secrets, &format!("operator {method} {path}"), &answer);
                }
            }
        }
    }
    for request in planted(images, "GET", "/generated/u/x.png", Some(&images_host)) {
        if let Ok(answer) = request.try_send() {
            check_answer(&secrets, "a link", &answer);
        }
    }

    // What is only reached with a good token: answers and errors, and a handler that panics with the prompt in its
    // message.
    let prompt = json!({ "prompt": mark("prompt"), "negative_prompt": mark("negative"), "steps": 1, "guidance_scale": 1 });
    let panicked = service
        .post("/api/generate")
        .token(&token)
        .json(&prompt)
        .send();
    assert_eq!(panicked.problem(), (500, "internal".into()));
    assert!(panicked.header("x-request-id").is_some());
    check_answer(&secrets, "a panic", &panicked);
    for body in [
        json!({ "prompt": mark("prompt"), "model": mark("model") }),
        json!({ "prompt": mark("prompt"), "init_image": mark("init") }),
        json!({ "prompt": mark("prompt"), "steps": mark("steps") }),
        json!({ "prompt": mark("prompt").repeat(300) }),
    ] {
        let answer = service
            .post("/api/generate")
            .token(&token)
            .json(&body)
            .send();
        check_answer(&secrets, &format!("{body:.60}"), &answer);
    }
    // An unknown field is refused with its name, which is for its sender alone.
    let mut unknown = prompt.clone();
    unknown[mark("field")] = 1.into();
    service
        .post("/api/generate")
        .token(&token)
        .json(&unknown)
        .send();
    for target in ["/api/images?cursor=", "/api/jobs/", "/api/images/"] {
        let answer = service
            .get(&format!("{target}{}", mark("own")))
            .token(&token)
            .send();
        check_answer(&secrets, target, &answer);
    }
    service
        .post("/api/upload")
        .token(&token)
        .body("image/png", mark("upload"))
        .send();
    let mut home = service.kill();
    home.set("SIGNET_TEST_PANIC_AT", "make");
    let service = home.serve();
    // The issuer is the bound address, so a restart ends the tokens.
    secrets.0.push(("a token", token));
    let token = service.token_of(&client);
    let lost = service
        .post("/api/generate")
        .token(&token)
        .json(&prompt)
        .send();
    assert!(lost.status >= 500, "{lost:?}");
    check_answer(&secrets, "a job that panics", &lost);
    let mut home = service.kill();
    home.set("SIGNET_TEST_PANIC_AT", "");
    let service = home.serve();
    secrets.0.push(("a token", token));
    let (token, root) = (service.token_of(&client), service.token_of(&admin));
    let images = service.images.unwrap();
    let made = service
        .post("/api/generate")
        .token(&token)
        .json(&prompt)
        .send()
        .ok();
    let url = made.json()["images"][0]["url"].as_str().unwrap().to_owned();
    service.link(&url).send().ok();
    service.link(&format!("{url}x")).send();
    let sig = url.split("sig=").nth(1).unwrap().to_owned();
    secrets.0.push(("a link's signature", sig));
    let cookie = service
        .get("/auth/login")
        .send()
        .header("set-cookie")
        .unwrap()
        .to_owned();
    let session = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    service
        .get("/api/images")
        .header("cookie", format!("signet={session}"))
        .send()
        .ok();
    secrets.0.push(("a session", session));
    secrets.0.push(("a token", token));
    secrets.0.push(("the operator's token", root.clone()));
    secrets.check(
        "a link's refusal",
        &String::from_utf8_lossy(&Request::new(images, "GET", "/x").send().body),
    );

    // And what the service tells of it all.
    for (page, bearer) in [
        ("/", None),
        ("/", Some(&root)),
        ("/admin/overview", Some(&root)),
        ("/metrics", None),
    ] {
        let mut request = Request::new(service.operator, "GET", page);
        if let Some(bearer) = bearer {
            request = request.token(bearer);
        }
        secrets.check(page, &String::from_utf8_lossy(&request.send().body));
    }
    secrets.check(
        "the studio",
        &String::from_utf8_lossy(&service.get("/").send().body),
    );
    collector.wait("POST /api/generate");
    secrets.check("the traces", &collector.text());
    secrets.check(&format!("the log at {level}"), &service.log());
    let log = service.log();
    assert!(
        log.contains("\"event\":\"panic\"") && log.contains("src/startup/test_points.rs"),
        "the panic itself is told"
    );
    if level == "trace" {
        assert!(
            log.contains("signet::request"),
            "requests are told at this level"
        );
    }
}

#[test]
fn no_mark_a_client_plants_is_told_at_any_level() {
    std::thread::scope(|scope| {
        let runs: Vec<_> = LEVELS
            .iter()
            .map(|level| scope.spawn(move || drive(level)))
            .collect();
        for (run, level) in runs.into_iter().zip(LEVELS) {
            assert!(run.join().is_ok(), "{level}");
        }
    });
}

#[test]
fn the_marks_would_be_found() {
    let secrets = Secrets(vec![("a mark", MARK.into())]);
    for told in [format!("x {}", mark("y")), MARK.to_uppercase()] {
        assert!(std::panic::catch_unwind(|| secrets.check("here", &told)).is_err());
    }
}
