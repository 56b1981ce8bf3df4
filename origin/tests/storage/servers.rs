//! Real S3 servers for the tests, started once each by `scripts/lib/s3.sh`.
//!
//! A server ends when the pipe to its standard input closes, that is when this process ends in
//! whatever way, so none is left behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use origin::storage::{S3Settings, StorageSettings, Store, StoreKind};

pub const BUCKET: &str = "signet-test";
pub const KEY_ID: &str = "test-key-id";
pub const SECRET: &str = "test-secret-key-of-some-length";

pub struct Server {
    pub endpoint: String,
    _process: Child,
}

/// PyPI's moto. It asks for a bucket to be made, and believes every signature.
pub fn moto() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = start("moto");
        make_bucket(&server.endpoint);
        server
    })
}

/// Cloudflare's R2 as wrangler simulates it. It checks signatures.
pub fn r2() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| start("r2"))
}

fn start(name: &str) -> Server {
    let script = format!(
        "cd {root}; . scripts/lib/common.sh; . scripts/lib/s3.sh; fetch_{name}; serve_s3 {name}",
        root = concat!(env!("CARGO_MANIFEST_DIR"), "/..")
    );
    let mut process = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let endpoint = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ENDPOINT ").map(str::to_owned));
    match endpoint {
        Some(endpoint) => Server {
            endpoint,
            _process: process,
        },
        None => panic!("the S3 server {name} ended: {:?}", process.wait()),
    }
}

/// A PUT of the bucket by hand: the store itself can make none.
fn make_bucket(endpoint: &str) {
    by_hand(endpoint, "PUT", &format!("/{BUCKET}"), "");
}

/// Begins an upload in parts that nobody will finish.
pub fn begin_parts(endpoint: &str, key: &str) {
    by_hand(endpoint, "POST", &format!("/{BUCKET}/{key}?uploads"), "");
}

/// A call that moto believes without a true signature.
pub fn by_hand(endpoint: &str, method: &str, target: &str, body: &str) {
    use std::io::Write;
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=0"
    );
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    assert!(status.contains(" 200 "), "{status}");
}

pub fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        endpoint: endpoint.to_owned(),
        bucket: BUCKET.into(),
        access_key_id: KEY_ID.into(),
        secret_access_key: Some(origin::secret::Secret::new(SECRET)),
        part_bytes: 5 << 20,
        ..S3Settings::default()
    }
}

pub async fn open(s3: S3Settings) -> Store {
    let settings = StorageSettings {
        kind: StoreKind::S3,
        s3,
        ..StorageSettings::default()
    };
    Store::open(&settings).await.unwrap()
}
