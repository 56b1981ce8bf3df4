//! Runs tests/vectors/links.json natively; the Worker's tests run the same file through the wasm build.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::HashMap;

use serde::Deserialize;
use shared::image_headers::content_disposition;
use shared::keyring::Keyring;
use shared::link::{LinkError, PermittedLink, UnverifiedLink, check_method};
use shared::referer::{FetchHeaders, RefererPolicy};
use shared::revocation::{self, Entry, Kind, NEVER};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    method: String,
    target: String,
    ring: String,
    policy: Policy,
    now: u64,
    client: Option<String>,
    referer: Option<String>,
    origin: Option<String>,
    site: Option<String>,
    mode: Option<String>,
    dest: Option<String>,
    revocations: Revocations,
    expect: Expect,
}

#[derive(Deserialize)]
struct Policy {
    hosts: Vec<String>,
    allow_links: bool,
    allow_empty: bool,
}

#[derive(Deserialize)]
struct Revocations {
    links: Vec<String>,
    epochs: HashMap<String, u64>,
    suspended: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Expect {
    status: u16,
    code: Option<String>,
    location: Option<String>,
    disposition: Option<String>,
}

impl Vector {
    /// The link, and where it is sent on to.
    fn open(&self) -> Result<(PermittedLink, Option<String>), LinkError> {
        check_method(&self.method)?;
        let ring = Keyring::parse(&self.ring).unwrap();
        let client = self.client.as_deref().map(|text| text.parse().unwrap());
        let mut policy = RefererPolicy::new(self.policy.hosts.iter().map(String::as_str)).unwrap();
        policy.allow_links = self.policy.allow_links;
        policy.allow_empty = self.policy.allow_empty;
        let headers = FetchHeaders {
            referer: self.referer.as_deref(),
            origin: self.origin.as_deref(),
            site: self.site.as_deref(),
            mode: self.mode.as_deref(),
            dest: self.dest.as_deref(),
        };
        let (link, clean) =
            UnverifiedLink::parse_tracked(&self.target, || headers.may_be_sent_on())?;
        let link = link
            .verify(&ring, self.now, client)?
            .permit(&policy, &headers)?;
        let names = revocation::names_of_link(&link, client);
        revocation::judge(&link, &names, &self.entries(), self.now)?;
        Ok((link, clean.map(|clean| clean.to_string())))
    }

    fn entries(&self) -> Vec<Entry> {
        let Revocations {
            links,
            epochs,
            suspended,
        } = &self.revocations;
        let links = links.iter().map(|print| (Kind::Link, print, 0));
        let epochs = epochs
            .iter()
            .map(|(owner, epoch)| (Kind::Epoch, owner, *epoch));
        let suspended = suspended.iter().map(|owner| (Kind::Suspended, owner, 0));
        let all = links.chain(epochs).chain(suspended);
        all.map(|(kind, name, value)| Entry::new(kind, name, value, NEVER).unwrap())
            .collect()
    }
}

#[test]
fn every_vector_gets_its_answer() {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/vectors/links.json"
    ))
    .unwrap();
    let vectors: Vec<Vector> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 60);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let got = match vector.open() {
            Ok((link, location)) => Expect {
                status: if location.is_some() { 302 } else { 200 },
                code: None,
                disposition: content_disposition(&link).filter(|_| location.is_none()),
                location,
            },
            Err(error) => Expect {
                status: error.problem().status,
                code: Some(error.problem().code.into()),
                location: None,
                disposition: None,
            },
        };
        if got != vector.expect {
            wrong.push(format!("{}: {got:?}, not {:?}", vector.name, vector.expect));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
