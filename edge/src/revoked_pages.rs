//! The Durable Object's part of revocations: pages of entries with their digests and filters, one row each, so that a
//! change writes one row and a question reads one.

use std::collections::BTreeMap;

use shared::hex::hex;
use shared::revocation::filter::{self, LINEAGE};
use shared::revocation::page::{self, Page};
use shared::revocation::snapshot::{self, Snapshot};
use shared::revocation::{Beat, Entry, Name};
use wasm_bindgen::prelude::*;

use crate::clock;

#[wasm_bindgen]
extern "C" {
    /// The object's storage.
    pub type Pages;
    /// Lineage in hex, version, and when the origin last said that this is all, in Unix milliseconds, 0 for never.
    #[wasm_bindgen(method, catch)]
    fn about(this: &Pages) -> Result<String, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn set_version(this: &Pages, version: f64) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn set_taken(this: &Pages, taken_ms: f64) -> Result<(), JsValue>;
    /// Digests of the pages with entries, as `page::digests_to_text` has them.
    #[wasm_bindgen(method, catch)]
    fn digests(this: &Pages) -> Result<String, JsValue>;
    /// When the origin read this page, in Unix milliseconds; 0 for never.
    #[wasm_bindgen(method, catch)]
    fn read_at(this: &Pages, page: u16) -> Result<f64, JsValue>;
    /// A page's entries, a line each.
    #[wasm_bindgen(method, catch)]
    fn entries(this: &Pages, page: u16) -> Result<String, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn put(
        this: &Pages,
        page: u16,
        digest: &str,
        version: f64,
        read_at: f64,
        entries: &str,
        filter: &[u8],
    ) -> Result<(), JsValue>;
    /// The filters of pages that changed after a version: for each its number and length, 2 bytes each, big-endian,
    /// and the filter.
    #[wasm_bindgen(method, catch)]
    fn changed(this: &Pages, version: f64) -> Result<Vec<u8>, JsValue>;
}

struct About {
    lineage: [u8; LINEAGE],
    version: u64,
    taken_ms: u64,
}

impl About {
    fn read(pages: &Pages) -> Result<Self, JsValue> {
        Self::parse(&pages.about()?).ok_or_else(|| JsValue::from_str("no lineage"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let lineage = u128::from_str_radix(words.next()?, 16).ok()?;
        Some(Self {
            lineage: lineage.to_be_bytes(),
            version: words.next()?.parse().ok()?,
            taken_ms: words.next()?.parse().ok()?,
        })
    }
}

/// Takes in what the origin says. Answers 204, or 409 and the digests of what is kept where that is not all. What is
/// older than what is known changes nothing, whoever sends it again.
///
/// # Errors
/// What the storage throws; text that says nothing.
#[wasm_bindgen]
pub fn revoked_put(pages: &Pages, text: &str) -> Result<String, JsValue> {
    let about = About::read(pages)?;
    let malformed = || JsValue::from_str("malformed");
    let (taken_ms, root, news) = if text.starts_with(snapshot::HEAD) {
        let snapshot = Snapshot::parse(text).ok_or_else(malformed)?;
        let mut all = page::paged(snapshot.entries);
        // All other pages are empty.
        let kept = page::parse_digests(&pages.digests()?).ok_or_else(malformed)?;
        let named: Vec<u16> = all.iter().map(|page| page.number).collect();
        let gone = kept.into_keys().filter(|page| !named.contains(page));
        all.extend(gone.map(|number| Page {
            number,
            entries: Vec::new(),
        }));
        (snapshot.taken_ms, None, all)
    } else {
        let beat = Beat::parse(text).ok_or_else(malformed)?;
        (beat.taken_ms, Some(beat.root), beat.pages)
    };
    if taken_ms <= about.taken_ms {
        return Ok("204".into());
    }
    let mut kept = page::parse_digests(&pages.digests()?).ok_or_else(malformed)?;
    put_all(pages, &about, taken_ms, &news, &mut kept)?;
    let is_all = match root {
        None => true,
        Some(None) => return Ok("204".into()),
        Some(Some(root)) => page::root(kept.clone()) == root,
    };
    if is_all {
        pages.set_taken(taken_ms as f64)?;
        return Ok("204".into());
    }
    Ok(format!("409\n{}", page::digests_to_text(kept)))
}

/// Writes the pages that differ from those kept.
fn put_all(
    pages: &Pages,
    about: &About,
    taken_ms: u64,
    news: &[Page],
    kept: &mut BTreeMap<u16, u64>,
) -> Result<(), JsValue> {
    let version = about.version + 1;
    let mut is_changed = false;
    for page in news {
        let digest = page.digest();
        let is_same = kept.get(&page.number).copied().unwrap_or(0) == digest;
        if is_same || clock::milliseconds(pages.read_at(page.number)?) > taken_ms {
            continue;
        }
        let text = if digest == 0 {
            kept.remove(&page.number);
            String::new()
        } else {
            kept.insert(page.number, digest);
            format!("{digest:016x}")
        };
        pages.put(
            page.number,
            &text,
            version as f64,
            taken_ms as f64,
            &page.lines(),
            &filter::of_page(&page.entries),
        )?;
        is_changed = true;
    }
    if is_changed {
        pages.set_version(version as f64)?;
    }
    Ok(())
}

/// Answers an isolate that knows `changes LINEAGE VERSION`: an update of its filter, empty where nobody has said yet what
/// is revoked.
///
/// # Errors
/// What the storage throws; a question that is none.
#[wasm_bindgen]
pub fn revoked_changes(pages: &Pages, ask: &str) -> Result<Vec<u8>, JsValue> {
    let about = About::read(pages)?;
    if about.taken_ms == 0 {
        return Ok(Vec::new());
    }
    let mut words = ask.split(' ').skip(1);
    let is_ours = words.next() == Some(hex(&about.lineage).as_str());
    let version = words.next().and_then(|word| word.parse().ok());
    let version: u64 = version.ok_or_else(|| JsValue::from_str("no question"))?;
    // One that knows more than there is has it from elsewhere.
    let is_whole = !is_ours || version > about.version;
    let since = if is_whole { 0 } else { version };
    let mut update = filter::update_head(about.taken_ms, about.version, about.lineage, is_whole);
    update.extend(pages.changed(since as f64)?);
    Ok(update)
}

/// Answers `look` and a name a line: all entries of them, a line each.
///
/// # Errors
/// What the storage throws; a question that is none.
#[wasm_bindgen]
pub fn revoked_look(pages: &Pages, ask: &str) -> Result<String, JsValue> {
    let mut found = String::new();
    for line in ask.lines().skip(1) {
        let name = Name::parse(line).ok_or_else(|| JsValue::from_str("no name"))?;
        for line in pages.entries(name.place().page)?.lines() {
            let is_it = Entry::parse(line).is_some_and(|entry| name.is_of(&entry));
            if is_it {
                found.push_str(line);
                found.push('\n');
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_storage_says_of_itself_is_read_in_its_one_form() {
        let about = About::parse("000102030405060708090a0b0c0d0e0f 7 1700000000000").unwrap();
        assert_eq!((about.version, about.taken_ms), (7, 1_700_000_000_000));
        assert_eq!(about.lineage[15], 15);
        for bad in ["", "x 1 2", "00 1", "00 -1 2"] {
            assert!(About::parse(bad).is_none(), "{bad}");
        }
    }
}
