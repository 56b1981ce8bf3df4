//! Referer: only a URL whose host is example.com or ends in .example.com passes, read here by another rule.

use shared::referer::{FetchHeaders, RefererPolicy};

fn main() -> Result<(), String> {
    let mut seeds: Vec<String> = fuzz::vectors()?
        .iter()
        .filter_map(|vector| {
            vector
                .get("referer")
                .and_then(|v| v.as_str())
                .map(Into::into)
        })
        .collect();
    seeds.extend(["https://example.com", "http://a.b.example.com:8080/x?y#z"].map(String::from));
    let policy =
        RefererPolicy::new(["example.com", "*.example.com"]).map_err(|error| error.to_string())?;
    let is_ours = |host: &str| host == "example.com" || host.ends_with(".example.com");
    fuzz::run("referer", &seeds, |input| {
        let allowed = policy.allows(&FetchHeaders {
            referer: Some(input),
            ..FetchHeaders::default()
        });
        if let Some(origin) = policy.readable_by(Some(input)) {
            let host = origin.strip_prefix("https://").unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            if !is_ours(&host.to_ascii_lowercase()) {
                return Err(format!("scripts of {origin:?} may read"));
            }
        }
        let _ = shared::refusal_page::is_preferred(input);
        if !allowed || input.is_empty() {
            return Ok(());
        }
        // What WHATWG's parser calls the host: after the last @ of what stands before the first / \ ? or #.
        let lower = input.to_ascii_lowercase();
        let rest = lower
            .split_once("://")
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
        let host = authority
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        if is_ours(host) {
            Ok(())
        } else {
            Err(format!("the foreign host {host:?} passes"))
        }
    })?;
    let patterns = [
        "example.com",
        "*.example.com",
        "[::1]:80",
        "a_b.c:443",
        "*.*",
    ]
    .map(String::from);
    fuzz::run("host pattern", &patterns, |input| {
        // Whatever is taken as a pattern must have a plain name in it and be its own host's match.
        if RefererPolicy::new([input]).is_ok()
            && input.contains(['/', '@', '\\', '?', '#', ' ', '%'])
        {
            return Err("an odd host pattern is accepted".into());
        }
        Ok(())
    })
}
