//! Content Credentials of generated pictures, as an independent reader sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{ALL_SCOPES, Home, Service, quick};

/// What PyPI's c2pa-python says of the files, with the chain's authority trusted.
fn read(chain: &Path, files: &[PathBuf]) -> Vec<Value> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let script = format!(
        "cd {root}; . scripts/lib/common.sh; . scripts/lib/provenance.sh; fetch_c2pa; \
         exec \"$C2PA_PYTHON\" tests/provenance/read.py \"$@\""
    );
    let output = Command::new("bash")
        .args(["-c", &script, "read"])
        .arg(chain)
        .args(files)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn marked() -> Service {
    Service::start(&[("SIGNET_PROVENANCE__ENABLED", "true")])
}

/// Generates in a format; the file, written down.
fn file(service: &Service, token: &str, format: &str, prompt: &str) -> (PathBuf, Vec<u8>) {
    let mut job = quick();
    job["format"] = json!(format);
    job["prompt"] = json!(prompt);
    let image = service.generate(token, &job).ok().json()["images"][0].clone();
    let bytes = service
        .link(image["url"].as_str().unwrap())
        .send()
        .ok()
        .body;
    let ending = if format == "jpeg" { "jpg" } else { format };
    let path = service.home().path(&format!("picture.{ending}"));
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn every_format_says_that_a_model_made_it_and_neither_prompt_nor_user() {
    let service = marked();
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let prompt = "a very secret wish";
    let mut files = Vec::new();
    for format in ["png", "jpeg", "webp"] {
        let (path, bytes) = file(&service, &token, format, prompt);
        for secret in ["secret", client.user.as_str(), client.id.as_str()] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{format} tells {secret}");
        }
        image::load_from_memory(&bytes).unwrap();
        files.push(path);
    }
    let chain = service.home().path("data/provenance.pem");
    for told in read(&chain, &files) {
        assert_eq!(told["state"], "Trusted", "{told}");
        let assertions = told["manifest"]["assertions"].as_array().unwrap().clone();
        let actions = assertions
            .iter()
            .find(|one| one["label"].as_str().unwrap().starts_with("c2pa.actions"))
            .unwrap();
        let action = &actions["data"]["actions"][0];
        assert_eq!(action["action"], "c2pa.created");
        assert_eq!(
            action["digitalSourceType"],
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        );
        assert_eq!(action["softwareAgent"]["name"], "model");
        assert!(action["when"].as_str().unwrap().ends_with('Z'), "{action}");
        let signer = &told["manifest"]["signature_info"];
        assert_eq!(signer["alg"], "Es256");
    }
}

#[test]
fn a_picture_that_was_changed_is_not_valid_any_more() {
    let service = marked();
    let token = service.token(ALL_SCOPES);
    let (path, mut bytes) = file(&service, &token, "png", "a heart");
    let at = bytes.windows(4).rposition(|part| part == b"IDAT").unwrap() + 12;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let chain = service.home().path("data/provenance.pem");
    assert_eq!(read(&chain, &[path])[0]["state"], "Invalid");
}

#[test]
fn the_self_made_chain_is_private_kept_and_replaced_when_damaged() {
    use std::os::unix::fs::PermissionsExt;
    let service = marked();
    let path = service.home().path("data/provenance.pem");
    let first = std::fs::read(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!service.log().contains("PRIVATE KEY"));
    let service = service.kill().serve();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    let home = service.kill();
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    let service = home.serve();
    assert_ne!(std::fs::read(&path).unwrap(), b"");
    let token = service.token(ALL_SCOPES);
    let (file, _) = file(&service, &token, "png", "a heart");
    assert_eq!(read(&path, &[file])[0]["state"], "Trusted");
}

#[test]
fn an_operators_chain_is_used_and_a_wrong_one_stops_the_start() {
    let service = marked();
    let text = std::fs::read_to_string(service.home().path("data/provenance.pem")).unwrap();
    let (key, chain) = text.split_at(text.find("-----BEGIN CERTIFICATE").unwrap());
    let other = marked();
    let foreign = std::fs::read_to_string(other.home().path("data/provenance.pem")).unwrap();
    let (foreign_key, _) = foreign.split_at(foreign.find("-----BEGIN CERTIFICATE").unwrap());
    let variables = [
        ("SIGNET_PROVENANCE__ENABLED", "true"),
        ("SIGNET_PROVENANCE__CHAIN_FILE", "chain.pem"),
        ("SIGNET_PROVENANCE__KEY_FILE", "key.pem"),
    ];
    let home = Home::new(&variables);
    std::fs::write(home.path("chain.pem"), chain).unwrap();
    std::fs::write(home.path("key.pem"), key).unwrap();
    let operators = home.serve();
    assert!(!operators.home().path("data/provenance.pem").exists());
    let token = operators.token(ALL_SCOPES);
    let (file, _) = file(&operators, &token, "png", "a heart");
    let told = read(&operators.home().path("chain.pem"), &[file]);
    assert_eq!(told[0]["state"], "Trusted", "{told:?}");

    for (chain, key) in [(chain, foreign_key), ("nonsense", key), (chain, "nonsense")] {
        let home = Home::new(&variables);
        std::fs::write(home.path("chain.pem"), chain).unwrap();
        std::fs::write(home.path("key.pem"), key).unwrap();
        let refused = home.run(&["serve"]);
        assert!(!refused.status.success());
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("provenance"), "{told}");
    }
    let half = Home::new(&[("SIGNET_PROVENANCE__KEY_FILE", "key.pem")]);
    assert_eq!(half.run(&["config", "check"]).status.code(), Some(64));
}

#[test]
fn switched_off_a_picture_carries_nothing() {
    let service = Service::start(&[("SIGNET_PROVENANCE__ENABLED", "false")]);
    let token = service.token(ALL_SCOPES);
    let (_, bytes) = file(&service, &token, "png", "a heart");
    assert!(!bytes.windows(4).any(|part| part == b"caBX"));
    assert!(!service.home().path("data/provenance.pem").exists());
}
