//! Rows about logs: what stands in front writes no authorization down, and the origin writes prompts as keyed hashes.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::hex::hex;

use super::http::Ask;
use super::limits::PROMPT;
use super::secrets::Scanner;
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// As much of the end of a log as is read.
const MOST: u64 = 64 << 20;
/// Fields of a generation's line (the contract's).
const FIELDS: [&str; 15] = [
    "event",
    "user_id",
    "ip",
    "timestamp",
    "prompt_hash",
    "output_key",
    "output_bytes",
    "latency_ms",
    "queue_ms",
    "model",
    "seed",
    "steps",
    "cost_units",
    "rate_limit_remaining",
    "request_id",
];

/// Requests with marked paths and real secrets are made; the log has to hold the paths and none of the secrets.
pub async fn access(visit: &Visit) -> Verdict {
    if visit.inputs.access_logs.is_empty() {
        return Err(Finding::Skipped(
            "no log of the front was given (--access-log, ACCESS_LOG)".into(),
        ));
    }
    let (edge, token) = (visit.edge()?, visit.token()?);
    let mark = format!("doctor-{:016x}", rand::random::<u64>());
    let marked = format!("/api/images/{mark}");
    visit
        .http
        .send(
            Ask::get(edge, marked)
                .token(token)
                .header("cookie", "signet_session=doctor-canary-cookie"),
        )
        .await?;
    if let Ok(link) = visit.link() {
        visit.open(link).await?;
    }
    let mut saw = Vec::new();
    let mut complete = false;
    for file in &visit.inputs.access_logs {
        let name = file.display();
        let mut text = tail(file)?;
        // The front may write a moment after it answered.
        for _ in 0..10 {
            if text.contains(&mark) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            text = tail(file)?;
        }
        if let Some(what) = leaked(visit, &text) {
            return Err(Finding::Fail(format!("{name} holds {what}")));
        }
        complete |= text.contains(&mark);
        saw.push(format!("{name}: {} lines", text.lines().count()));
    }
    let saw = saw.join("; ");
    if complete {
        Ok(format!(
            "{saw}; this visit's requests are there, without a token, cookie, secret or signature"
        ))
    } else {
        Err(Finding::Skipped(format!(
            "{saw}; no secret in it, but none of this visit's requests either: is it the front's log?"
        )))
    }
}

/// What a log must not hold, by name.
fn leaked(visit: &Visit, text: &str) -> Option<String> {
    if visit
        .spoken()
        .iter()
        .any(|spoken| spoken.len() >= 16 && text.contains(spoken.as_str()))
    {
        return Some("a token or a link's signature of this visit".into());
    }
    if let Some(name) = Scanner::new(&visit.inputs.known).known_in(text) {
        return Some(name.to_owned());
    }
    if let Ok(client) = visit.client() {
        let basic = STANDARD.encode(format!("{}:{}", client.id, client.secret.expose()));
        if text.contains(basic.trim_end_matches('=')) {
            return Some("the client's Authorization header".into());
        }
    }
    if text.contains("doctor-canary-cookie") {
        return Some("a cookie".into());
    }
    let marks = [
        ("Bearer ey", "a bearer token"),
        ("authorization: ", "an Authorization header"),
    ];
    if let Some((_, what)) = marks.iter().find(|(mark, _)| holds(text, mark)) {
        return Some((*what).into());
    }
    text.match_indices("sig=").find_map(|(at, _)| {
        let rest = text.get(at + 4..)?;
        let length = rest
            .bytes()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
            .count();
        (length == 43).then(|| "a link's signature".to_owned())
    })
}

fn holds(text: &str, mark: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .windows(mark.len())
        .any(|part| part.eq_ignore_ascii_case(mark.as_bytes()))
}

/// One JSON line a generation with every field, the prompt as a keyed hash, and no prompt anywhere.
pub async fn structured(visit: &Visit) -> Verdict {
    if visit.inputs.service_logs.is_empty() {
        return Err(Finding::Skipped(
            "no log of the origin was given (--service-log, SERVICE_LOG)".into(),
        ));
    }
    // A refused generation costs nothing, and refusals are where prompts slip into logs.
    if let (Ok(edge), Ok(token)) = (visit.edge(), visit.token()) {
        let body = serde_json::json!({ "prompt": PROMPT, "steps": 0 }).to_string();
        let ask = Ask::post(edge, "/api/generate").token(token);
        visit.http.send(ask.body("application/json", body)).await?;
    }
    let (mut lines, mut generations) = (0usize, 0usize);
    for file in &visit.inputs.service_logs {
        let name = file.display();
        let text = tail(file)?;
        if let Some(what) = leaked(visit, &text) {
            return Err(Finding::Fail(format!("{name} holds {what}")));
        }
        for line in text.lines() {
            lines += 1;
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if line.get("event").and_then(Value::as_str) == Some("image_generated") {
                generations += 1;
                judge(&line)
                    .map_err(|why| Finding::Fail(format!("{name}: a generation's line {why}")))?;
            }
            ensure(line.get("prompt").is_none(), || {
                format!("{name}: a line has a field prompt")
            })?;
        }
        ensure(!text.contains(PROMPT), || {
            format!("{name} holds the prompt of a request of this visit")
        })?;
    }
    if generations == 0 {
        return Err(Finding::Skipped(format!(
            "{lines} lines, and no generation among them yet"
        )));
    }
    Ok(format!(
        "{generations} generations in {lines} lines, each as JSON with every field and the prompt as a keyed hash; no \
         prompt, token, signature or secret"
    ))
}

/// What is wrong with a generation's line.
fn judge(line: &Value) -> Result<(), String> {
    for field in FIELDS {
        if line.get(field).is_none_or(Value::is_null) {
            return Err(format!("has no {field}"));
        }
    }
    let hash = line
        .get("prompt_hash")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let parts: Vec<&str> = hash.split(':').collect();
    let [scheme, kid, mac] = parts.as_slice() else {
        return Err("has a prompt_hash that is not hmac-sha256:kid:mac".into());
    };
    let is_mac = mac.len() == 64 && mac.bytes().all(|c| c.is_ascii_hexdigit());
    if *scheme != "hmac-sha256" || kid.is_empty() || !is_mac {
        return Err("has a prompt_hash that is not hmac-sha256:kid:mac".into());
    }
    // Prompts that every visit and every demo makes: a hash without a key is read back with a dictionary.
    let plain = |prompt: &str| hex(&Sha256::digest(prompt));
    if [PROMPT, "a purple heart"]
        .iter()
        .any(|prompt| plain(prompt) == *mac)
    {
        return Err("has a prompt_hash without a key: a plain SHA-256".into());
    }
    Ok(())
}

/// The end of a file.
fn tail(file: &Path) -> Result<String, Finding> {
    let read = || {
        let mut open = std::fs::File::open(file)?;
        let length = open.metadata()?.len();
        open.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        open.take(MOST).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|error| Finding::Fail(format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(hash: &str) -> Value {
        let mut line = json!({});
        for field in FIELDS {
            line[field] = json!("x");
        }
        line["prompt_hash"] = json!(hash);
        line
    }

    #[test]
    fn a_generations_line_is_judged_by_fields_and_hash() {
        let mac = "0123456789abcdef".repeat(4);
        assert_eq!(judge(&line(&format!("hmac-sha256:p-1:{mac}"))), Ok(()));
        for bad in [
            mac.clone(),
            format!("sha256:{mac}"),
            format!("hmac-sha256::{mac}"),
            "hmac-sha256:p:zz".into(),
        ] {
            assert!(judge(&line(&bad)).is_err(), "{bad}");
        }
        let plain = hex(&Sha256::digest("a purple heart"));
        assert!(
            judge(&line(&format!("hmac-sha256:p-1:{plain}")))
                .unwrap_err()
                .contains("SHA-256")
        );
        let mut missing = line(&format!("hmac-sha256:p-1:{mac}"));
        missing["output_key"] = Value::Null;
        assert!(judge(&missing).unwrap_err().contains("output_key"));
    }
}
