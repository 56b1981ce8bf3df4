//! Pages of entries, and what the origin says of them:
//!
//! ```text
//! signet-revoked-v2 {unix-milliseconds} {root|more}
//! page {number}
//! {entry}
//! …
//! ```
//!
//! Pages replace those at the edge. With a root it says: what you hold now is all that was revoked at this time, if its
//! root is this one; `more` says that more is to come.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::entry::Entry;
use super::{MAX_TEXT, number};
use crate::hex::hex;

/// Pages that entries are spread over.
pub const PAGES: u16 = 4096;
/// What a message begins with.
pub const HEAD: &str = "signet-revoked-v2";

/// The entries of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Below [`PAGES`].
    pub number: u16,
    /// All that lies there.
    pub entries: Vec<Entry>,
}

impl Page {
    /// The digest of its entries, whatever their order; 0 for none.
    pub fn digest(&self) -> u64 {
        let digests = self.entries.iter().map(Entry::digest);
        digests.fold(0, |all, one| all ^ one)
    }

    /// Its entries, a line each.
    pub fn lines(&self) -> String {
        self.entries.iter().fold(String::new(), |mut out, entry| {
            let _ = writeln!(out, "{entry}");
            out
        })
    }

    /// Its part of a message.
    pub fn to_text(&self) -> String {
        format!("page {}\n{}", self.number, self.lines())
    }
}

/// Entries by the pages that they lie on.
pub fn paged(entries: Vec<Entry>) -> Vec<Page> {
    let mut pages: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        let page = entry.subject().place().page;
        pages.entry(page).or_default().push(entry);
    }
    let pages = pages.into_iter();
    pages
        .map(|(number, entries)| Page { number, entries })
        .collect()
}

/// The digest of all pages by their digests, in order of their numbers; empty ones are not among them.
pub fn root(digests: impl IntoIterator<Item = (u16, u64)>) -> String {
    let mut hash = Sha256::new();
    for (page, digest) in digests {
        hash.update(format!("{page} {digest:016x}\n"));
    }
    let digest: [u8; 32] = hash.finalize().into();
    hex(digest.split_at(16).0)
}

/// Digests of pages as text.
pub fn digests_to_text(digests: impl IntoIterator<Item = (u16, u64)>) -> String {
    digests
        .into_iter()
        .fold(String::new(), |mut out, (page, digest)| {
            let _ = writeln!(out, "{page} {digest:016x}");
            out
        })
}

/// Reads them.
pub fn parse_digests(text: &str) -> Option<BTreeMap<u16, u64>> {
    let mut digests = BTreeMap::new();
    for line in text.lines() {
        let (page, digest) = line.split_once(' ')?;
        let digest = u64::from_str_radix(digest, 16).ok()?;
        digests.insert(page_number(page)?, digest);
    }
    Some(digests)
}

fn page_number(text: &str) -> Option<u16> {
    let page = u16::try_from(number(text)?).ok()?;
    (page < PAGES).then_some(page)
}

/// A message of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// When it read its state, in Unix milliseconds.
    pub taken_ms: u64,
    /// The root of all pages; none while more is to come.
    pub root: Option<String>,
    /// Pages that changed.
    pub pages: Vec<Page>,
}

impl Beat {
    /// The first line.
    pub fn head(taken_ms: u64, root: Option<&str>) -> String {
        format!("{HEAD} {taken_ms} {}\n", root.unwrap_or("more"))
    }

    /// Its text.
    pub fn to_text(&self) -> String {
        let pages: String = self.pages.iter().map(Page::to_text).collect();
        Self::head(self.taken_ms, self.root.as_deref()) + &pages
    }

    /// Reads it; anything unknown in it makes it none, since what is not understood may revoke.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').filter(|_| text.len() <= MAX_TEXT)?;
        let mut lines = text.split('\n');
        let mut words = lines.next()?.split(' ');
        if words.next()? != HEAD {
            return None;
        }
        let (taken_ms, root) = (number(words.next()?)?, words.next()?);
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_root = root.len() == 32 && root.bytes().all(is_hex);
        if words.next().is_some() || !(is_root || root == "more") {
            return None;
        }
        let mut pages: Vec<Page> = Vec::new();
        for line in lines {
            if let Some(page) = line.strip_prefix("page ") {
                let number = page_number(page)?;
                // In ascending order, each once.
                if pages.last().is_some_and(|last| last.number >= number) {
                    return None;
                }
                pages.push(Page {
                    number,
                    entries: Vec::new(),
                });
                continue;
            }
            let entry = Entry::parse(line)?;
            let page = pages.last_mut()?;
            if entry.subject().place().page != page.number {
                return None;
            }
            page.entries.push(entry);
        }
        Some(Self {
            taken_ms,
            root: is_root.then(|| root.to_owned()),
            pages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::entry::{Kind, NEVER};
    use proptest::prelude::*;

    fn entry(name: &str) -> Entry {
        Entry::new(Kind::Suspended, name, 0, NEVER).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(names in prop::collection::hash_set("[a-z]{1,9}", 0..30), taken_ms: u64, ends: bool) {
            let pages = paged(names.iter().map(|name| entry(name)).collect());
            let digests: Vec<_> = pages.iter().map(|page| (page.number, page.digest())).collect();
            let root = ends.then(|| root(digests.clone()));
            let beat = Beat { taken_ms, root, pages };
            prop_assert_eq!(Beat::parse(&beat.to_text()), Some(beat));
            let read = parse_digests(&digests_to_text(digests.clone())).unwrap();
            prop_assert_eq!(read.into_iter().collect::<Vec<_>>(), digests);
        }

        #[test]
        fn arbitrary_text_never_panics_and_has_one_spelling(text in "signet-revoked-v2 [0-9]{0,21} (more|[0-9a-f]{31,33})\n(page [0-9]{1,5}\n|suspended [a-z]{1,3} 0 9\n){0,4}|.{0,60}") {
            if let Some(beat) = Beat::parse(&text) {
                prop_assert_eq!(beat.to_text(), text.clone());
            }
            let _ = parse_digests(&text);
        }
    }

    #[test]
    fn what_is_not_understood_makes_no_message() {
        let (bob, page) = (entry("bob"), entry("bob").subject().place().page);
        let good = format!("{HEAD} 5 more\npage {page}\n{bob}\n");
        assert_eq!(Beat::parse(&good).unwrap().to_text(), good);
        let elsewhere = (page + 1) % PAGES;
        for bad in [
            String::new(),
            good.trim().to_owned(),
            good.replace("v2", "v3"),
            good.replace(" 5 ", " 05 "),
            good.replace("more", "less"),
            good.replace(&format!("page {page}"), &format!("page {elsewhere}")),
            good.replace(&format!("page {page}"), "page 4096"),
            good.replace(&format!("page {page}\n"), ""),
            good.replace("suspended", "allowed"),
            format!("{good}page {page}\n"),
        ] {
            assert_eq!(Beat::parse(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_pages_digest_tells_any_two_sets_apart_and_not_their_order() {
        let page = |names: &[&str]| Page {
            number: 0,
            entries: names.iter().map(|name| entry(name)).collect(),
        };
        assert_eq!(page(&["a", "b"]).digest(), page(&["b", "a"]).digest());
        assert_ne!(page(&["a", "b"]).digest(), page(&["a"]).digest());
        let later = Entry {
            ends: 9,
            ..entry("a")
        };
        assert_ne!(later.digest(), entry("a").digest());
        assert_eq!(page(&[]).digest(), 0);
    }
}
