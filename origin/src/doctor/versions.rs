//! The row about software: which versions are compiled in, and whether any of them is known to be vulnerable.

use serde_json::{Value, json};

use super::http::Ask;
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// What was resolved when this program was built.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// Named in the evidence: what outside bytes meet first.
const NAMED: [&str; 7] = [
    "actix-web",
    "hyper",
    "rustls",
    "ring",
    "image",
    "aws-sdk-s3",
    "ort",
];

/// Name and version of every crate from a registry.
fn crates() -> Vec<(String, String)> {
    let lock: toml::Table = LOCK.parse().unwrap_or_default();
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let text = |package: &toml::Value, name: &str| {
        package
            .get(name)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
    };
    packages
        .into_iter()
        .flatten()
        .filter(|package| package.get("source").is_some())
        .filter_map(|package| Some((text(package, "name")?, text(package, "version")?)))
        .collect()
}

/// Asks a server that speaks OSV's API about all crates at once.
pub async fn advisories(visit: &Visit) -> Verdict {
    let crates = crates();
    let named: Vec<String> = crates
        .iter()
        .filter(|(name, _)| NAMED.contains(&name.as_str()))
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let saw = format!(
        "signet {} with {} crates ({})",
        env!("CARGO_PKG_VERSION"),
        crates.len(),
        named.join(", ")
    );
    let skipped =
        |why: String| Finding::Skipped(format!("{saw}; advisories were not looked at: {why}"));
    let server = visit
        .inputs
        .advisories
        .as_ref()
        .ok_or_else(|| skipped("switched off".into()))?;
    let queries: Vec<Value> = crates
        .iter()
        .map(|(name, version)| json!({ "package": { "ecosystem": "crates.io", "name": name }, "version": version }))
        .collect();
    let ask = Ask::post(server, "/v1/querybatch").body(
        "application/json",
        json!({ "queries": queries }).to_string(),
    );
    let answer = visit
        .plain
        .send(ask)
        .await
        .map_err(|error| skipped(error.to_string()))?;
    let json = answer.json();
    let results = json.get("results").and_then(Value::as_array);
    let results = results.filter(|results| answer.status == 200 && results.len() == crates.len());
    let results =
        results.ok_or_else(|| skipped(format!("{} answered {}", server.url(), answer.told())))?;
    let mut known = Vec::new();
    for ((name, version), result) in crates.iter().zip(results) {
        for advisory in result
            .get("vulns")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = advisory
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or("one without an id");
            known.push(format!("{name} {version}: {id}"));
        }
    }
    ensure(known.is_empty(), || {
        format!("{saw}; {} knows of {}", server.url(), known.join("; "))
    })?;
    Ok(format!(
        "{saw}; {} knows of no advisory against any",
        server.url()
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_file_is_read() {
        let crates = super::crates();
        assert!(crates.len() > 300);
        assert!(
            super::NAMED
                .iter()
                .all(|name| crates.iter().any(|(known, _)| known == name))
        );
    }
}
