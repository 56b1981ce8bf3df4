//! What an origin tells of revocations: nothing panics, what is read has one spelling, and what is no entry revokes
//! nothing and frees nobody.

use shared::revocation::page::{self, Beat, Page};
use shared::revocation::snapshot::Snapshot;
use shared::revocation::{Entry, Filter, Kind, NEVER, Name};

fn main() -> Result<(), String> {
    let entries: Vec<Entry> = [
        (Kind::Suspended, "usr_1", 0),
        (Kind::Epoch, "usr_2", 3),
        (Kind::Client, "cl_1", 0),
        (Kind::Token, "jti-1", 0),
        (Kind::Address, "203.0.113.7", 0),
        (Kind::Address, "2001:db8:5::/48", 0),
        (Kind::Link, "000102030405060708090a0b0c0d0e0f", 0),
    ]
    .into_iter()
    .filter_map(|(kind, name, value)| Entry::new(kind, name, value, NEVER))
    .collect();
    let pages: Vec<Page> = page::paged(entries.clone());
    let digests: Vec<_> = pages
        .iter()
        .map(|page| (page.number, page.digest()))
        .collect();
    let root = page::root(digests.clone());
    let beat = |root| Beat {
        taken_ms: 1_700_000_000_000,
        root,
        pages: pages.clone(),
    };
    let mut seeds = vec![
        beat(None).to_text(),
        beat(Some(root)).to_text(),
        page::digests_to_text(digests),
        "signet-revoked-v1 5\nepoch a 1\nsuspended b\n".to_owned(),
    ];
    seeds.extend(entries.iter().map(|entry| entry.subject().to_string()));
    fuzz::run("revocation", &seeds, |input| {
        if Beat::parse(input).is_some_and(|beat| beat.to_text() != *input) {
            return Err("a message has two spellings".into());
        }
        if Name::parse(input).is_some_and(|name| name.to_string() != *input) {
            return Err("a name has two spellings".into());
        }
        let _ = (Snapshot::parse(input), page::parse_digests(input));
        let mut filter = Filter::default();
        if filter.update(input.as_bytes()).is_none() && filter != Filter::default() {
            return Err("half an update was taken".into());
        }
        Ok(())
    })
}
