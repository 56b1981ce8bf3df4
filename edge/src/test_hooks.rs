//! For the test build only (feature `test-hooks`): headers that replace clock, keys, policy, target and revocations,
//! so that the vectors run through the same wasm code and the same path as real links.

use std::rc::Rc;

use shared::keyring::Keyring;
use shared::referer::RefererPolicy;
use shared::revocation::{Entry, Kind, NEVER};
use web_sys::Request;

use crate::config::Config;
use crate::revocation::Known;

/// What a test says instead of the request.
pub struct Hooked {
    /// The raw target.
    pub target: String,
}

fn hook(request: &Request, name: &str) -> Option<String> {
    request
        .headers()
        .get(&format!("test-{name}"))
        .ok()
        .flatten()
}

/// The configuration with a test's keyring and referer policy (`hosts|allow_links|allow_empty`).
pub fn overridden(config: Rc<Config>, request: &Request) -> Rc<Config> {
    let ring = hook(request, "ring").and_then(|ring| Keyring::parse(&ring).ok());
    let policy = hook(request, "policy").and_then(|text| {
        let mut parts = text.split('|');
        let hosts = parts.next()?.split(',').filter(|host| !host.is_empty());
        let mut policy = RefererPolicy::new(hosts).ok()?;
        policy.allow_links = parts.next()? == "true";
        policy.allow_empty = parts.next()? == "true";
        Some(policy)
    });
    let (Some(link_keys), Some(referer)) = (ring, policy) else {
        return config;
    };
    Rc::new(Config {
        link_keys,
        referer,
        ..(*config).clone()
    })
}

/// Time, revocations and target of the test.
pub fn facts(request: &Request, now: u64, target: &str) -> (u64, Option<Known>, Hooked) {
    let now = hook(request, "now")
        .and_then(|text| text.parse().ok())
        .unwrap_or(now);
    let hooked = Hooked {
        target: hook(request, "target")
            .and_then(|hex| unhex(&hex))
            .unwrap_or_else(|| target.to_owned()),
    };
    (
        now,
        hook(request, "revoked").map(|text| Known::of(entries(&text))),
        hooked,
    )
}

/// `link HEX`, `epoch OWNER N`, `suspended OWNER`, joined by commas.
fn entries(text: &str) -> Vec<Entry> {
    let entry = |entry: &str| match entry.split(' ').collect::<Vec<_>>().as_slice() {
        ["link", hex] => Entry::new(Kind::Link, hex, 0, NEVER),
        ["epoch", owner, epoch] => Entry::new(Kind::Epoch, owner, epoch.parse().ok()?, NEVER),
        ["suspended", owner] => Entry::new(Kind::Suspended, owner, 0, NEVER),
        _ => None,
    };
    text.split(',').filter_map(entry).collect()
}

fn unhex(hex: &str) -> Option<String> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let bytes = digits?
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    String::from_utf8(bytes).ok()
}
