//! Told to trust only its edge, the origin answers nobody else.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::edge_auth::{self, HEADERS, Message};
use shared::keyring::Keyring;

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Home, Service, quick};
use crate::redis::{Redis, origin};

const RING: &str = "e1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";
const FOREIGN: &str = "e1:Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M=";

/// What the edge sends for its client.
struct Forwarded<'a> {
    method: &'a str,
    target: &'a str,
    token: Option<&'a str>,
    body: &'a [u8],
    media: &'a str,
    client: &'a str,
    ring: &'a str,
    age: i64,
    decided: Option<&'a str>,
    key: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    fn new(method: &'a str, target: &'a str, token: Option<&'a str>) -> Self {
        Self {
            method,
            target,
            token,
            body: b"",
            media: "application/json",
            client: "198.51.100.7",
            ring: RING,
            age: 0,
            decided: None,
            key: None,
            host: None,
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the service under test has the machine's clock"
    )]
    fn request(&self, service: &Service) -> Request {
        let authority = self
            .host
            .map_or_else(|| service.public.to_string(), ToOwned::to_owned);
        let bearer = self.token.map(|token| format!("Bearer {token}"));
        let length = self.body.len().to_string();
        let digest = edge_auth::content_digest(self.body);
        let has_body = !self.body.is_empty();
        let value = |name: &str| match name {
            "authorization" => bearer.as_deref(),
            "content-type" => has_body.then_some(self.media),
            "content-length" => has_body.then_some(length.as_str()),
            "content-digest" => has_body.then_some(digest.as_str()),
            "signet-client-ip" => Some(self.client),
            "signet-decided" => self.decided,
            "idempotency-key" => self.key,
            _ => None,
        };
        let headers = HEADERS.map(value);
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let message = Message {
            method: self.method,
            authority: &authority,
            path,
            query,
            headers,
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let ring = Keyring::parse(self.ring).unwrap();
        let nonce = uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .simple()
            .to_string();
        let signed = edge_auth::sign(
            &ring,
            &message,
            now.saturating_add_signed(-self.age),
            &nonce,
        )
        .unwrap();
        let request = Request::new(service.public, self.method, self.target);
        let mut request = request.host(Some(&authority));
        for (name, value) in HEADERS.iter().zip(headers) {
            if let Some(value) =
                value.filter(|_| !matches!(*name, "content-type" | "content-length"))
            {
                request = request.header(name, value);
            }
        }
        request = request
            .header("signature-input", signed.signature_input)
            .header("signature", signed.signature);
        if has_body {
            request.body(self.media, self.body)
        } else {
            request
        }
    }

    fn send(&self, service: &Service) -> Answer {
        self.request(service).send()
    }
}

fn behind_an_edge() -> Service {
    Service::start(&[
        ("SIGNET_EDGE__REQUIRE", "true"),
        ("SIGNET_EDGE__KEYS", RING),
    ])
}

#[test]
fn what_one_origin_took_from_the_edge_no_other_takes_again() {
    let (mut redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = [(); 2].map(|()| {
        let mut home = origin(&redis, store.path());
        home.set("SIGNET_SERVER__URL", "http://127.0.0.1:4711");
        home.set("SIGNET_EDGE__REQUIRE", "true");
        home.set("SIGNET_EDGE__KEYS", RING);
        home.serve()
    });
    let signed = || {
        let forwarded = Forwarded {
            host: Some("127.0.0.1:4711"),
            ..Forwarded::new("GET", "/.well-known/jwks.json", None)
        };
        forwarded.request(&one)
    };
    let request = signed();
    assert_eq!(request.send().status, 200);
    let replayed = request.replayed(other.public);
    assert_eq!(replayed.send().problem(), (403, "edge_only".into()));
    assert_eq!(signed().replayed(other.public).send().status, 200);
    // Away, it is each origin's own memory.
    redis.kill();
    let request = signed();
    assert_eq!(request.send().status, 200);
    assert_eq!(request.send().problem(), (403, "edge_only".into()));
}

fn token(service: &Service, client: &str) -> String {
    let form = service.client(ALL_SCOPES).form();
    let answer = Forwarded {
        body: form.as_bytes(),
        media: "application/x-www-form-urlencoded",
        client,
        ..Forwarded::new("POST", "/oauth/token", None)
    };
    answer.send(service).ok().json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn only_what_the_edge_signed_is_answered() {
    let service = behind_an_edge();
    let token = token(&service, "198.51.100.7");
    assert_eq!(
        Forwarded::new("GET", "/api/images?limit=3", Some(&token))
            .send(&service)
            .status,
        200
    );
    let body = quick().to_string();
    let generate = Forwarded {
        body: body.as_bytes(),
        ..Forwarded::new("POST", "/api/generate", Some(&token))
    };
    assert_eq!(generate.send(&service).status, 200);

    let refused = |answer: Answer, why: &str| {
        assert_eq!(answer.problem(), (403, "edge_only".into()), "{why}")
    };
    refused(
        service.get("/api/images").token(&token).send(),
        "no signature",
    );
    refused(
        service.get("/.well-known/jwks.json").send(),
        "public documents too",
    );
    refused(service.get("/").send(), "the studio too");
    refused(
        Forwarded {
            ring: FOREIGN,
            ..Forwarded::new("GET", "/api/images", Some(&token))
        }
        .send(&service),
        "another key",
    );
    refused(
        Forwarded {
            age: 40,
            ..Forwarded::new("GET", "/api/images", Some(&token))
        }
        .send(&service),
        "too old",
    );
    refused(
        Forwarded {
            age: -40,
            ..Forwarded::new("GET", "/api/images", Some(&token))
        }
        .send(&service),
        "from the future",
    );
    let good = Forwarded::new("GET", "/api/images", Some(&token)).request(&service);
    assert_eq!(good.send().status, 200);
    refused(good.send(), "the same nonce again");
    for (name, value) in [
        ("cookie", "signet=x"),
        ("idempotency-key", "k"),
        ("x-request-id", "12345678"),
        ("content-digest", "sha-256=:x:"),
    ] {
        let more = Forwarded::new("GET", "/api/images", Some(&token))
            .request(&service)
            .header(name, value);
        refused(more.send(), name);
    }
    let doubled = Forwarded::new("GET", "/api/images", Some(&token))
        .request(&service)
        .header("signet-client-ip", "192.0.2.1");
    refused(doubled.send(), "two client addresses");
}

#[test]
fn a_body_that_was_changed_on_the_way_is_refused() {
    let service = behind_an_edge();
    let token = token(&service, "198.51.100.7");
    let body = quick().to_string();
    let signed = Forwarded {
        body: body.as_bytes(),
        ..Forwarded::new("POST", "/api/generate", Some(&token))
    };
    let changed = signed
        .request(&service)
        .replace_body(body.replace("purple", "orange"));
    assert_eq!(changed.send().problem(), (403, "edge_only".into()));
    let image = signed.send(&service).ok().json()["images"][0].clone();
    let target = format!("/api/images/{}/link", image["id"].as_str().unwrap());
    let wish = json!({ "ttl": 60 }).to_string();
    let link = Forwarded {
        body: wish.as_bytes(),
        ..Forwarded::new("POST", &target, Some(&token))
    };
    let changed = link
        .request(&service)
        .replace_body(wish.replace("60", "61"));
    assert_eq!(changed.send().problem(), (403, "edge_only".into()));
    assert_eq!(link.send(&service).status, 200);
    let file = crate::uploads::picture(8, 8, image::ImageFormat::Png);
    let upload = Forwarded {
        body: &file,
        media: "image/png",
        ..Forwarded::new("POST", "/api/upload", Some(&token))
    };
    let other = crate::uploads::picture(8, 9, image::ImageFormat::Png);
    let changed = upload.request(&service).replace_body(other);
    assert_eq!(changed.send().problem(), (403, "edge_only".into()));
    assert_eq!(upload.send(&service).status, 200);
}

#[test]
fn the_clients_address_comes_from_the_edges_header_only() {
    let service = behind_an_edge();
    let token = token(&service, "198.51.100.9");
    let body = quick().to_string();
    let mut signed = Forwarded {
        body: body.as_bytes(),
        ..Forwarded::new("POST", "/api/generate", Some(&token))
    };
    signed.client = "2001:db8::7";
    let request = signed.request(&service);
    let request = request
        .header("x-forwarded-for", "192.0.2.66")
        .header("cf-connecting-ip", "192.0.2.66")
        .header("forwarded", "for=192.0.2.66");
    assert_eq!(request.send().status, 200);
    let log = service.log();
    let line = log
        .lines()
        .find(|line| line.contains("image_generated"))
        .unwrap();
    assert!(
        line.contains("\"ip\":\"2001:db8::7\"") && !line.contains("192.0.2.66"),
        "{line}"
    );
}

#[test]
fn standing_alone_no_forwarding_header_is_believed() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let request = service.post("/api/generate").token(&token).json(&quick());
    let request = request
        .header("x-forwarded-for", "192.0.2.66")
        .header("cf-connecting-ip", "192.0.2.66")
        .header("signet-client-ip", "192.0.2.66");
    assert_eq!(request.send().status, 200);
    let log = service.log();
    let line = log
        .lines()
        .find(|line| line.contains("image_generated"))
        .unwrap();
    assert!(line.contains("\"ip\":\"127.0.0.1\""), "{line}");
}

#[test]
fn what_the_edge_counted_is_seen_in_the_metrics_once() {
    let service = behind_an_edge();
    let report = "link ok k1 5\nlink ok nobody 2\nlink made-up k1 9\nlimited edge-flood 4\n";
    let signed = Forwarded {
        body: report.as_bytes(),
        media: "text/plain",
        client: "0.0.0.0",
        ..Forwarded::new("POST", shared::report::PATH, None)
    };
    let request = signed.request(&service);
    assert_eq!(request.send().status, 204);
    assert_eq!(request.send().problem(), (403, "edge_only".into()));
    let changed = signed
        .request(&service)
        .replace_body(report.replace('5', "6"));
    assert_eq!(changed.send().problem(), (403, "edge_only".into()));
    let bad = Forwarded {
        body: b"link ok\n",
        ..signed
    };
    assert_eq!(bad.send(&service).status, 400);
    let text = service.metrics();
    for line in [
        "signet_links_total{kid=\"unknown\",verdict=\"ok\"} 7",
        "signet_rate_limited_total{policy=\"edge-flood\"} 4",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("made-up") && !text.contains("nobody"));
}

#[test]
fn without_an_edge_nobody_reports_counts() {
    let service = Service::start(&[]);
    let request = service
        .post(shared::report::PATH)
        .body("text/plain", b"link ok k1 5\n");
    assert_eq!(request.send().status, 404);
}

#[test]
fn an_edge_key_is_rotated_under_traffic_and_no_request_is_refused() {
    let mut home = Home::new(&[("SIGNET_EDGE__REQUIRE", "true")]);
    let file = home.path("edge-keys");
    std::fs::write(&file, RING).unwrap();
    home.set("SIGNET_EDGE__KEYS_FILE", file.to_str().unwrap());
    let service = home.serve();
    // What the edge was given last, as its command leaves it.
    let given = service.home().path("given");
    let edge = || std::fs::read_to_string(&given).unwrap_or_else(|_| RING.into());
    let status = |ring: &str| {
        let request = Forwarded {
            ring,
            ..Forwarded::new("GET", "/.well-known/jwks.json", None)
        };
        request.send(&service).status
    };
    let rotate = ["keys", "rotate", "--edge-keys", "--wait", "0"];
    let run = |more: &[&str]| service.home().run(&[&rotate[..], more].concat());
    let (stop, passed) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The file is replaced by the shell as it stands, not by rename: skip the instant it is empty.
                let ring = edge();
                if !ring.is_empty() {
                    assert_eq!(status(&ring), 200);
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let command = "cat >given.new && mv given.new given";
        let told = run(&["--kid", "e2", "--edge", command]);
        stop.store(true, Ordering::Relaxed);
        assert!(
            told.status.success(),
            "{}",
            String::from_utf8_lossy(&told.stderr)
        );
        traffic.join().unwrap();
    });
    assert!(passed.into_inner() > 50);
    let kids = |text: &str| -> Vec<String> {
        let pairs = text.trim().split(',');
        pairs
            .map(|pair| pair.split(':').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        kids(&edge()),
        ["e2", "e1"],
        "the edge signs with the new key"
    );
    assert_eq!(kids(&std::fs::read_to_string(&file).unwrap()), ["e2", "e1"]);
    assert_eq!(status(RING), 200, "an old request is still under way");
    let early = run(&["--retire", "e1"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("may live until"));
    assert!(
        !run(&[
            "--retire",
            "e1",
            "--now",
            "--edge",
            "cat >/dev/null; exit 1"
        ])
        .status
        .success()
    );
    assert_eq!(
        kids(&std::fs::read_to_string(&file).unwrap()),
        ["e2", "e1"],
        "the edge still has it"
    );
    let retired = run(&[
        "--retire",
        "e1",
        "--now",
        "--edge",
        "cat >given.new && mv given.new given",
    ]);
    assert!(retired.status.success());
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(status(RING), 403);
    assert_eq!(status(&edge()), 200);
    let log = service.log();
    for pair in edge().split(',') {
        assert!(
            !log.contains(pair.split(':').nth(1).unwrap()),
            "a key is in the log"
        );
    }
}

#[test]
fn a_policy_is_decided_by_the_edge_or_here_and_never_twice() {
    let service = Service::start(&[
        ("SIGNET_EDGE__REQUIRE", "true"),
        ("SIGNET_EDGE__KEYS", RING),
        ("SIGNET_LIMITS__TOKEN__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__TOKEN__BURST", "0"),
        ("SIGNET_LIMITS__PENALTY_ARRIVALS", "6"),
    ]);
    let token = token(&service, "198.51.100.7");
    let body = quick().to_string();
    let with = |decided| {
        let signed = Forwarded {
            body: body.as_bytes(),
            decided,
            ..Forwarded::new("POST", "/api/generate", Some(&token))
        };
        signed.send(&service)
    };
    let ours = "penalty-box=6/600 token=1/0";
    for _ in 0..3 {
        assert_eq!(
            with(Some(ours)).status,
            200,
            "the edge let it pass by our numbers"
        );
    }
    let usage = Forwarded::new("GET", "/api/usage", Some(&token)).send(&service);
    let row = |policy: &str| {
        let rows = usage.json()["limits"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["policy"] == policy);
        row.unwrap()["used"].as_u64().unwrap()
    };
    assert_eq!(
        (row("token"), row("penalty-box")),
        (1, 3),
        "it is counted all the same"
    );
    for other in [
        None,
        Some("penalty-box=6/600 token=20/5"),
        Some("penalty-box=6/600"),
    ] {
        let refused = with(other);
        assert_eq!(refused.problem(), (429, "rate_limited".into()), "{other:?}");
        assert!(
            refused
                .header("ratelimit")
                .unwrap()
                .starts_with("\"token\"")
        );
        assert_eq!(refused.header("signet-charged"), Some("0"));
    }
    // Six arrivals so far; by other numbers than ours, or none, the next is one too many.
    assert_eq!(with(Some(ours)).status, 200);
    for other in [
        None,
        Some("penalty-box=30/600 token=1/0"),
        Some("token=1/0"),
    ] {
        let refused = with(other);
        assert!(
            refused
                .header("ratelimit")
                .unwrap()
                .starts_with("\"penalty-box\""),
            "{other:?}"
        );
    }
    // What nobody signed decides nothing.
    let forged = Forwarded {
        body: body.as_bytes(),
        ..Forwarded::new("POST", "/api/generate", Some(&token))
    };
    let forged = forged.request(&service).header("signet-decided", ours);
    assert_eq!(forged.send().problem(), (403, "edge_only".into()));
}

#[test]
fn a_replay_says_that_it_was_not_charged() {
    let service = behind_an_edge();
    let token = token(&service, "198.51.100.7");
    let body = quick().to_string();
    let signed = Forwarded {
        body: body.as_bytes(),
        key: Some("once"),
        ..Forwarded::new("POST", "/api/generate", Some(&token))
    };
    assert_eq!(signed.send(&service).ok().header("signet-charged"), None);
    let again = signed.send(&service).ok();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("signet-charged"), Some("0"));
}

#[test]
fn the_edge_learns_from_the_keys_document_what_it_needs_to_judge_tokens() {
    let service = behind_an_edge();
    let token = token(&service, "198.51.100.7");
    let set = Forwarded::new("GET", "/.well-known/jwks.json", None)
        .send(&service)
        .ok()
        .json();
    let read = shared::access_token::Unverified::parse(&token).unwrap();
    let text = |name: &str| set[name].as_str().unwrap().to_owned();
    let kids: Vec<_> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].clone())
        .collect();
    assert!(kids.contains(&read.kid.clone().into()));
    #[allow(
        clippy::disallowed_methods,
        reason = "the service under test has the machine's clock"
    )]
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(read.check(&text("issuer"), &text("audience"), now), Ok(()));
}
