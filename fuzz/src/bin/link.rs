//! Links: no mutation of a good link opens, nothing panics, and a link has one spelling.

use std::collections::HashSet;

use shared::keyring::Keyring;
use shared::link::UnverifiedLink;

fn main() -> Result<(), String> {
    let vectors = fuzz::vectors()?;
    let text = |value: &serde_json::Value, name: &str| -> String {
        value
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .into()
    };
    let first = vectors.first().ok_or("no vectors")?;
    let ring = Keyring::parse(&text(first, "ring")).map_err(|error| error.to_string())?;
    let now = first
        .get("now")
        .and_then(serde_json::Value::as_u64)
        .ok_or("no time")?;
    let targets: Vec<String> = vectors
        .iter()
        .map(|vector| text(vector, "target"))
        .collect();
    // A mutation can turn one vector into another: those that carry a valid MAC may open.
    let signed: HashSet<String> = targets.iter().cloned().collect();
    let opens = |target: &str| {
        UnverifiedLink::parse(target)
            .is_ok_and(|link| link.verify(&ring, now, "198.51.100.7".parse().ok()).is_ok())
    };
    if !targets.iter().any(|target| opens(target)) {
        return Err("no seed opens: the run would prove nothing".into());
    }
    fuzz::run("link", &targets, |input| {
        if opens(input) && !signed.contains(input) {
            return Err("a link that nobody signed opens".into());
        }
        Ok(())
    })
}
