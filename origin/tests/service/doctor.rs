//! `signet doctor` on a real service behind a small front: all rows pass, and each row fails when just its item breaks.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::front::{Arrived, Bend, Front, RING, honest, problem};
use crate::http::Answer;
use crate::neighbours::{Facts, Neighbours, lifecycle_xml};
use crate::program::{ALL_SCOPES, Client, Home, Service};

/// Rows that loopback has nothing for.
const ON_LOOPBACK: [&str; 2] = ["hsts", "https"];
/// Rows that spend.
const SPENDING: [&str; 5] = [
    "limit-address",
    "limit-token",
    "penalty-box",
    "quota-user",
    "storage-full",
];

/// What a test changes beside the deployment.
type Change = fn(&mut Facts);

/// A deployment with everything around it.
struct Deployment {
    front: Front,
    service: Service,
    _other: Service,
    neighbours: Neighbours,
    client: Client,
    ring: String,
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
}

/// What the doctor said, by row.
struct Report {
    rows: BTreeMap<String, (String, String)>,
    order: Vec<String>,
    code: i32,
}

impl Report {
    fn with(&self, status: &str) -> Vec<&str> {
        let rows = self.rows.iter().filter(|(_, row)| row.0 == status);
        rows.map(|(id, _)| id.as_str()).collect()
    }

    fn evidence(&self, id: &str) -> &str {
        &self.rows[id].1
    }
}

fn random_ring() -> String {
    format!("k1:{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

impl Deployment {
    fn start(limits: &[(&str, &str)]) -> Self {
        let ring = random_ring();
        let mut home = Home::new(limits);
        // One examination after the other must not wait for the next upload.
        home.set("SIGNET_LIMITS__UPLOADS__PER_MINUTE", "60000");
        let front = Front::bind(home.path("access.log"));
        let api = format!("http://{}", front.api);
        let images = format!("http://localhost:{}", front.images.port());
        home.set("SIGNET_SERVER__URL", &api);
        home.set("SIGNET_IMAGES__URL", &images);
        home.set("SIGNET_IMAGES__KEYS", &ring);
        home.set("SIGNET_EDGE__REQUIRE", "true");
        home.set("SIGNET_EDGE__KEYS", RING);
        let service = home.serve();
        front.serve(&service);
        let other = Service::start(&[("SIGNET_IMAGES__KEYS", &random_ring())]);
        let client = service.client(ALL_SCOPES);
        let neighbours = Neighbours::start(Facts::default());
        let tree = service.home().path("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("main.rs"), "fn main() {}\n").unwrap();
        let path = |name: &str| service.home().path(name).display().to_string();
        let variables = [
            ("EDGE_URL", api),
            ("IMAGES_URL", images),
            ("ORIGIN_URL", format!("http://{}", service.public)),
            ("OPERATOR_URL", format!("http://{}", service.operator)),
            ("CLIENT_ID", client.id.clone()),
            ("CLIENT_SECRET", client.secret.clone()),
            ("LINK_KEYS", ring.clone()),
            ("ACCESS_LOG", path("access.log")),
            ("SERVICE_LOG", path("log")),
            ("SOURCE_TREE", tree.display().to_string()),
            ("PROMETHEUS_URL", neighbours.url()),
            ("ADVISORIES_URL", neighbours.url()),
            ("SIGNET_STORAGE__KIND", "s3".into()),
            ("SIGNET_STORAGE__S3__ENDPOINT", neighbours.url()),
            ("SIGNET_STORAGE__S3__BUCKET", "pictures".into()),
            ("SIGNET_STORAGE__S3__ACCESS_KEY_ID", "id".into()),
            (
                "SIGNET_STORAGE__S3__SECRET_ACCESS_KEY",
                "0123456789abcdef0123".into(),
            ),
        ];
        let mut deployment = Self {
            arguments: vec![
                "--other-images".into(),
                format!("http://localhost:{}", other.images.unwrap().port()),
            ],
            variables: variables
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            front,
            service,
            _other: other,
            neighbours,
            client,
            ring,
        };
        deployment.settle();
        deployment
    }

    /// What a deployment has after its first day: rules of the bucket and of Prometheus, a generation in the log.
    fn settle(&mut self) {
        let shown = self.run(&["lifecycle", "show", "--json"]).1;
        let wanted: Value = serde_json::from_str(&shown).unwrap();
        let rules = include_str!("../../../deploy/prometheus/alerts.yml").lines();
        let rules =
            rules.filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned));
        self.neighbours.change(|facts| {
            facts.lifecycle = lifecycle_xml(&wanted["added"]);
            facts.rules = rules.collect();
        });
        let home = self.service.home();
        // In process, without the limits of the service: only its log matters here.
        let line = json!({
            "event": "image_generated", "user_id": "u", "ip": "192.0.2.1", "timestamp": "2026-01-01T00:00:00Z",
            "prompt_hash": format!("hmac-sha256:p-1:{}", "0a".repeat(32)), "output_key": "generated/u/a.png",
            "output_bytes": 1, "latency_ms": 1, "queue_ms": 1, "model": "m", "seed": 1, "steps": 1, "cost_units": 1.0,
            "rate_limit_remaining": 1, "request_id": "r",
        });
        std::fs::write(home.path("generations.log"), format!("{line}\n")).unwrap();
        self.arguments.extend([
            "--service-log".into(),
            home.path("generations.log").display().to_string(),
        ]);
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_signet"))
            .args(arguments)
            .current_dir(self.service.home().path("tree"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.variables)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().unwrap();
        assert!(
            !text.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (code, text)
    }

    fn examine(&self, more: &[&str]) -> Report {
        let mut arguments = vec!["doctor", "--json"];
        arguments.extend(self.arguments.iter().map(String::as_str));
        arguments.extend(more);
        let (code, text) = self.run(&arguments);
        for secret in [&self.client.secret, self.ring.split_once(':').unwrap().1] {
            assert!(!text.contains(secret), "a secret was printed");
        }
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        for row in &rows {
            assert_eq!(row.as_object().unwrap().len(), 4, "{row}");
            assert!(
                !text(row, "title").is_empty() && !text(row, "evidence").is_empty(),
                "{row}"
            );
        }
        Report {
            order: rows.iter().map(|row| text(row, "id")).collect(),
            rows: rows
                .iter()
                .map(|row| {
                    (
                        text(row, "id"),
                        (text(row, "status"), text(row, "evidence")),
                    )
                })
                .collect(),
            code,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> String {
        self.variables
            .insert(name.into(), value.into())
            .unwrap_or_default()
    }
}

fn bend(
    change: impl Fn(&Arrived, &dyn Fn(&Arrived) -> Answer) -> Answer + Send + Sync + 'static,
) -> Bend {
    Arc::new(change)
}

/// Answers pass but for one header.
fn without_header(name: &'static str) -> Bend {
    bend(move |arrived, pass| {
        let mut answer = pass(arrived);
        answer.headers.retain(|(known, _)| known != name);
        answer
    })
}

/// Pictures whose request is bad are asked for again as a good one.
fn forgiving(
    is_forgiven: impl Fn(&str) -> bool + Send + Sync + 'static,
    good: Arc<std::sync::Mutex<String>>,
) -> Bend {
    bend(move |arrived, pass| {
        let answer = pass(arrived);
        if !arrived.images || arrived.method != "GET" {
            return answer;
        }
        if answer.status == 200 {
            *good.lock().unwrap() = arrived.target.clone();
            return answer;
        }
        if !is_forgiven(&arrived.target) {
            return answer;
        }
        let target = good.lock().unwrap().clone();
        pass(&Arrived {
            target,
            headers: Vec::new(),
            ..arrived.clone()
        })
    })
}

fn rewritten(answer: Answer, change: impl FnOnce(&mut Value)) -> Answer {
    let mut json = answer.json();
    change(&mut json);
    Answer {
        body: json.to_string().into_bytes(),
        ..answer
    }
}

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
    let good = Arc::new(std::sync::Mutex::new(String::new()));
    let public = deployment.service.public;
    let bends: Vec<(&str, Bend)> = vec![
        (
            "limits-declared",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("GET", "/api/usage") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| {
                    json["limits"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|row| row["policy"] != "user-hour")
                })
            }),
        ),
        (
            "token-life",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("POST", "/oauth/token") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| json["expires_in"] = json!(86_400))
            }),
        ),
        (
            "token-scopes",
            bend(|arrived, pass| {
                // A front that forgets which scopes were asked for.
                let mut other = arrived.clone();
                if arrived.is("POST", "/oauth/token")
                    && String::from_utf8_lossy(&arrived.body).contains("scope=images")
                {
                    other.body = b"grant_type=client_credentials".to_vec();
                }
                pass(&other)
            }),
        ),
        (
            "token-bearer",
            bend(|arrived, pass| {
                let mut other = arrived.clone();
                if let Some((path, query)) = arrived.target.split_once("?access_token=") {
                    other
                        .headers
                        .push(("authorization".into(), format!("Bearer {query}")));
                    other.target = path.to_owned();
                }
                pass(&other)
            }),
        ),
        (
            "upload-type",
            bend(|arrived, pass| {
                // A service that believes the declared type.
                if arrived.is("POST", "/api/upload")
                    && arrived.header("content-type") == Some("text/html")
                {
                    return problem(415, "unsupported_image_type");
                }
                pass(arrived)
            }),
        ),
        (
            "body-limit",
            bend(|arrived, pass| {
                if arrived.is("POST", "/api/generate") && arrived.body.len() > 300 << 10 {
                    return problem(400, "malformed_request");
                }
                pass(arrived)
            }),
        ),
        ("link-opens", without_header("content-security-policy")),
        (
            "link-unsigned",
            forgiving(
                |target| target.starts_with("/uploads/") && !target.contains('?'),
                Arc::clone(&good),
            ),
        ),
        (
            "link-expired",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if answer.status == 410 {
                    Answer {
                        status: 200,
                        ..answer
                    }
                } else {
                    answer
                }
            }),
        ),
        (
            "link-tampered",
            forgiving(|target| target.contains("kid=xk1"), Arc::clone(&good)),
        ),
        (
            "link-spelling",
            forgiving(|target| target.contains("%75"), Arc::clone(&good)),
        ),
        (
            "link-spelling",
            forgiving(|target| target.starts_with("//"), Arc::clone(&good)),
        ),
        (
            "link-referer",
            bend(|arrived, pass| {
                let mut other = arrived.clone();
                other.headers.retain(|(name, _)| name != "referer");
                pass(&other)
            }),
        ),
        (
            "upload-reencoded",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.images && answer.status == 200 {
                    answer.body.extend(b"tEXt");
                }
                answer
            }),
        ),
        (
            "images-host",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.images {
                    answer.headers.push(("set-cookie".into(), "seen=1".into()));
                }
                answer
            }),
        ),
        (
            "operator-private",
            bend(|arrived, pass| {
                if !arrived.images && arrived.target == "/healthz" {
                    return Answer {
                        status: 200,
                        headers: Vec::new(),
                        body: b"ok".to_vec(),
                    };
                }
                pass(arrived)
            }),
        ),
        (
            "client-secrets",
            bend({
                let key = deployment
                    .ring
                    .split_once(':')
                    .unwrap()
                    .1
                    .trim_end_matches('=')
                    .to_owned();
                move |arrived, pass| {
                    let mut answer = pass(arrived);
                    if arrived.target == "/" && !arrived.images {
                        answer.body.extend(format!("<!-- {key} -->").bytes());
                    }
                    answer
                }
            }),
        ),
        (
            "client-secrets",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.target.ends_with("/api.js") {
                    let key = format!("const key = 'sk-{}';", "a1B2c3D4e5F6g7H8".repeat(3));
                    answer.body.extend(key.bytes());
                }
                answer
            }),
        ),
        (
            "storage-quota",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("GET", "/api/usage") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| {
                    for row in json["limits"].as_array_mut().unwrap() {
                        if row["policy"] == "storage" {
                            row["used"] = json!(0);
                        }
                    }
                })
            }),
        ),
    ];
    for (id, bend) in bends {
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
