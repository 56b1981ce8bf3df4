//! A deployment with everything around it, and what the doctor says about it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::front::{Front, RING};
use crate::neighbours::{Facts, Neighbours, lifecycle_xml};
use crate::program::{ALL_SCOPES, Client, Home, Service};

/// Rows that loopback has nothing for.
pub const ON_LOOPBACK: [&str; 2] = ["hsts", "https"];
/// Rows that spend.
pub const SPENDING: [&str; 5] = [
    "limit-address",
    "limit-token",
    "penalty-box",
    "quota-user",
    "storage-full",
];

/// What a test changes beside the deployment.
pub type Change = fn(&mut Facts);

/// A deployment with everything around it.
pub struct Deployment {
    pub front: Front,
    pub service: Service,
    _other: Service,
    pub neighbours: Neighbours,
    pub client: Client,
    pub ring: String,
    pub variables: BTreeMap<String, String>,
    pub arguments: Vec<String>,
}

/// What the doctor said, by row.
pub struct Report {
    pub rows: BTreeMap<String, (String, String)>,
    pub order: Vec<String>,
    pub code: i32,
}

impl Report {
    pub fn with(&self, status: &str) -> Vec<&str> {
        let rows = self.rows.iter().filter(|(_, row)| row.0 == status);
        rows.map(|(id, _)| id.as_str()).collect()
    }

    pub fn evidence(&self, id: &str) -> &str {
        &self.rows[id].1
    }
}

pub fn random_ring() -> String {
    format!("k1:{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

impl Deployment {
    pub fn start(limits: &[(&str, &str)]) -> Self {
        let ring = random_ring();
        let mut home = Home::new(limits);
        // One examination after the other must not run into what one client may do in a minute.
        home.set("SIGNET_LIMITS__UPLOADS__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__LINKS__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__READS__PER_MINUTE", "60000");
        home.set("SIGNET_LIMITS__WRITES__PER_MINUTE", "60000");
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
        let rules = include_str!("../../../../deploy/prometheus/alerts.yml").lines();
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

    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
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

    pub fn examine(&self, more: &[&str]) -> Report {
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

    pub fn set(&mut self, name: &str, value: &str) -> String {
        self.variables
            .insert(name.into(), value.into())
            .unwrap_or_default()
    }
}
