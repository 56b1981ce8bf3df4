//! Small stand-ins for what stands beside a deployment: Prometheus, a server of advisories, an S3 bucket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the stand-ins answer with.
#[derive(Clone, Default)]
pub struct Facts {
    /// Names of the rules that Prometheus has.
    pub rules: Vec<String>,
    /// A crate that an advisory is known against.
    pub vulnerable: Option<String>,
    /// Lifecycle rules of the bucket, as XML.
    pub lifecycle: String,
    /// Whether the bucket answers strangers.
    pub public: bool,
}

/// All of them on one address.
pub struct Neighbours {
    pub address: SocketAddr,
    pub facts: Arc<Mutex<Facts>>,
}

impl Neighbours {
    pub fn start(facts: Facts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let facts = Arc::new(Mutex::new(facts));
        let shared = Arc::clone(&facts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let facts = shared.lock().unwrap().clone();
                std::thread::spawn(move || answer(stream, &facts));
            }
        });
        Self { address, facts }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what is answered; what it was before.
    pub fn change(&self, change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = self.facts.lock().unwrap();
        let before = facts.clone();
        change(&mut facts);
        before
    }
}

fn answer(mut stream: TcpStream, facts: &Facts) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
        let line = head[from..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let first = head.lines().next()?;
    let signed = head.to_ascii_lowercase().contains("\nauthorization: aws4");
    let (status, text) = if first.contains("/api/v1/rules") {
        let rules = facts
            .rules
            .iter()
            .map(|name| json!({ "name": name, "health": "ok", "state": "inactive" }));
        let rules: Vec<Value> = rules.collect();
        (
            200,
            json!({ "status": "success", "data": { "groups": [{ "rules": rules }] } }).to_string(),
        )
    } else if first.contains("/v1/querybatch") {
        let asked: Value = serde_json::from_slice(&body).ok()?;
        let result = |query: &Value| {
            let known = facts.vulnerable.as_deref() == query["package"]["name"].as_str();
            if known {
                json!({ "vulns": [{ "id": "RUSTSEC-2099-0001" }] })
            } else {
                json!({})
            }
        };
        let results: Vec<Value> = asked["queries"].as_array()?.iter().map(result).collect();
        (200, json!({ "results": results }).to_string())
    } else if !first.contains("/pictures") {
        (404, String::new())
    } else if !signed && !facts.public {
        (403, "<Error><Code>AccessDenied</Code></Error>".into())
    } else if first.contains("lifecycle") && facts.lifecycle.is_empty() {
        (
            404,
            "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>".into(),
        )
    } else if first.contains("lifecycle") {
        (
            200,
            format!(
                "<LifecycleConfiguration>{}</LifecycleConfiguration>",
                facts.lifecycle
            ),
        )
    } else if first.contains("list-type=2") {
        let object = "<Contents><Key>uploads/u/a.png</Key><Size>5</Size><ETag>\"x\"</ETag>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>";
        (
            200,
            format!(
                "<ListBucketResult><Name>pictures</Name><IsTruncated>false</IsTruncated>{object}</ListBucketResult>"
            ),
        )
    } else {
        (200, "12345".into())
    };
    let kind = if text.starts_with('{') {
        "application/json"
    } else {
        "application/xml"
    };
    let text = if first.starts_with("HEAD") {
        format!("content-length: {}\r\n\r\n", text.len())
    } else {
        format!("content-length: {}\r\n\r\n{text}", text.len())
    };
    write!(
        stream,
        "HTTP/1.1 {status} Answer\r\ncontent-type: {kind}\r\nconnection: close\r\n{text}"
    )
    .ok()
}

/// Rules as `signet lifecycle show --json` prints them, in the words of the bucket's server.
pub fn lifecycle_xml(rules: &Value) -> String {
    let rules = rules.as_array().unwrap().iter().map(|rule| {
        let mut xml = format!(
            "<Rule><ID>{}</ID><Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>",
            rule["id"].as_str().unwrap(),
            rule["prefix"].as_str().unwrap()
        );
        if let Some(days) = rule["expire_days"].as_u64() {
            xml.push_str(&format!("<Expiration><Days>{days}</Days></Expiration>"));
        }
        for moved in rule["moves"].as_array().unwrap() {
            xml.push_str(&format!(
                "<Transition><Days>{}</Days><StorageClass>{}</StorageClass></Transition>",
                moved[0],
                moved[1].as_str().unwrap()
            ));
        }
        if let Some(days) = rule["parts_days"].as_u64() {
            xml.push_str(&format!(
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            ));
        }
        xml + "</Rule>"
    });
    rules.collect()
}
