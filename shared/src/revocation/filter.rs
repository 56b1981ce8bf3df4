//! What an isolate of the edge holds: for each page a Bloom filter (B. H. Bloom, 1970) of what its entries name. A name
//! that it does not hold is not revoked; one that it may hold is asked for exactly.
//!
//! A page's filter is a byte of the kinds in it and then the bits, empty for an empty page. Its size follows the page's
//! entries up to a cap, so that all pages together never pass [`MAX_FILTER`].

use super::entry::{Entry, Name};
use super::page::PAGES;

/// All pages together are at most so many bytes, and so is an update of all of them.
pub const MAX_FILTER: usize = 2_000_000;
/// Bits for each entry, while there is room: 0.2 % of other names are then asked for in vain.
const BITS: usize = 14;
/// Bits that a name sets.
const PROBES: u64 = 6;
/// Bytes of a page's bits.
const LEAST: usize = 8;
const MOST: usize = 480;
/// Bytes before the pages of an update: time, version, lineage, whether it is whole.
const HEAD: usize = 8 + 8 + LINEAGE + 1;
/// Bytes of a lineage.
pub const LINEAGE: usize = 16;

/// The bits that a name sets among `bits`.
fn probes(mark: [u64; 2], bits: usize) -> impl Iterator<Item = usize> {
    let [first, step] = mark;
    let bits = u64::try_from(bits).unwrap_or(u64::MAX).max(1);
    (0..PROBES).map(move |n| {
        let at = first.wrapping_add(n.wrapping_mul(step | 1)) % bits;
        usize::try_from(at).unwrap_or(0)
    })
}

/// The filter of a page's entries.
pub fn of_page(entries: &[Entry]) -> Vec<u8> {
    if entries.is_empty() {
        return Vec::new();
    }
    let bytes = (entries.len() * BITS).div_ceil(8).clamp(LEAST, MOST);
    let mut kinds = 0;
    let mut bits = vec![0u8; bytes];
    for entry in entries {
        let name = entry.subject();
        kinds |= name.bit();
        for at in probes(name.place().mark, bytes * 8) {
            if let Some(byte) = bits.get_mut(at / 8) {
                *byte |= 1 << (at % 8);
            }
        }
    }
    bits.insert(0, kinds);
    bits
}

/// The filters of all pages, with the time and the version that they are of.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    /// When the origin last said that this is all, in Unix milliseconds.
    pub taken_ms: u64,
    /// What counts up with each change, in one lineage.
    pub version: u64,
    /// Which storage counts.
    pub lineage: [u8; LINEAGE],
    kinds: u8,
    pages: Vec<Box<[u8]>>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter(version {} of {})", self.version, self.taken_ms)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            taken_ms: 0,
            version: 0,
            lineage: [0; LINEAGE],
            kinds: 0,
            pages: vec![Box::default(); usize::from(PAGES)],
        }
    }
}

impl Filter {
    /// Whether nothing at all is revoked.
    pub fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// Whether something of this name may be revoked.
    pub fn may_hold(&self, name: &Name) -> bool {
        if self.kinds & name.bit() == 0 {
            return false;
        }
        let place = name.place();
        let page = self.pages.get(usize::from(place.page));
        let Some((kinds, bits)) = page.and_then(|page| page.split_first()) else {
            return false;
        };
        kinds & name.bit() != 0
            && probes(place.mark, bits.len() * 8).all(|at| {
                let byte = bits.get(at / 8).copied().unwrap_or(u8::MAX);
                byte & 1 << (at % 8) != 0
            })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|page| page.len()).sum()
    }

    /// Takes an update in, all of it or nothing; none when it is no update.
    ///
    /// Time (Unix milliseconds), version: 8 bytes each, big-endian; lineage; 1 for all pages or 0 for those that changed;
    /// then for each page its number and the length of its filter, 2 bytes each, and the filter.
    pub fn update(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.len() > MAX_FILTER {
            return None;
        }
        let mut rest = bytes;
        let head = rest.split_off(..HEAD)?;
        let number = |at: usize| -> u64 {
            let bytes = head.iter().skip(at).take(8);
            bytes.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let lineage: [u8; LINEAGE] = head.get(16..16 + LINEAGE)?.try_into().ok()?;
        let mut pages = Vec::new();
        while !rest.is_empty() {
            let [a, b, c, d] = *rest.split_off(..4)?.first_chunk::<4>()?;
            let page = u16::from_be_bytes([a, b]);
            let length = usize::from(u16::from_be_bytes([c, d]));
            let filter = rest.split_off(..length)?;
            if page >= PAGES || length > MOST + 1 {
                return None;
            }
            pages.push((page, filter));
        }
        match head.last()? {
            0 if lineage == self.lineage => {}
            1 => *self = Self::default(),
            _ => return None,
        }
        for (page, filter) in pages {
            if let Some(place) = self.pages.get_mut(usize::from(page)) {
                *place = filter.into();
            }
        }
        let kinds = self.pages.iter().filter_map(|page| page.first());
        self.kinds = kinds.fold(0, |all, kinds| all | kinds);
        (self.taken_ms, self.version, self.lineage) = (number(0), number(8), lineage);
        Some(())
    }
}

/// The head of an update, as [`Filter::update`] reads it.
pub fn update_head(taken_ms: u64, version: u64, lineage: [u8; LINEAGE], whole: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD);
    head.extend(taken_ms.to_be_bytes());
    head.extend(version.to_be_bytes());
    head.extend(lineage);
    head.push(u8::from(whole));
    head
}

/// A page in an update.
pub fn update_page(out: &mut Vec<u8>, page: u16, filter: &[u8]) {
    out.extend(page.to_be_bytes());
    out.extend(
        u16::try_from(filter.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    out.extend(filter);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::entry::{Kind, NEVER};
    use crate::revocation::{MANY, page};
    use proptest::prelude::*;

    fn suspended(count: u64) -> Vec<Entry> {
        (0..count)
            .map(|n| Entry::new(Kind::Suspended, &format!("usr_{n:x}"), 0, NEVER).unwrap())
            .collect()
    }

    fn whole(entries: Vec<Entry>) -> Vec<u8> {
        let mut out = update_head(5, 7, [1; LINEAGE], true);
        for page in page::paged(entries) {
            update_page(&mut out, page.number, &of_page(&page.entries));
        }
        out
    }

    #[test]
    fn a_million_suspended_owners_fit_and_of_the_others_one_in_a_hundred_is_asked_for() {
        let update = whole(suspended(MANY));
        assert!(update.len() <= MAX_FILTER, "{} bytes", update.len());
        let mut filter = Filter::default();
        let begun = std::time::Instant::now();
        filter.update(&update).unwrap();
        let took = begun.elapsed();
        for n in (0..MANY).step_by(101) {
            assert!(filter.may_hold(&Name::owner(&format!("usr_{n:x}"))), "{n}");
        }
        let asked = (0..100_000)
            .filter(|n| filter.may_hold(&Name::owner(&format!("good_{n}"))))
            .count();
        assert!(asked < 1_000, "{asked} of 100,000 innocents are asked for");
        // A kind that nothing was revoked of costs nothing.
        assert!(!filter.may_hold(&Name::client("usr_1")));
        println!(
            "{} bytes, read in {took:?}, {asked} of 100,000 asked for",
            update.len()
        );
    }

    #[test]
    fn a_page_never_outgrows_its_bound_and_misses_none() {
        let entries = suspended(20_000);
        let bits = of_page(&entries);
        assert_eq!(bits.len(), MOST + 1);
        assert!(usize::from(PAGES) * (bits.len() + 4) + HEAD <= MAX_FILTER);
        let mut filter = Filter {
            kinds: bits[0],
            ..Filter::default()
        };
        filter.pages.fill(bits.into());
        for entry in &entries {
            assert!(filter.may_hold(&entry.subject()));
        }
    }

    #[test]
    fn a_page_that_changed_replaces_itself_alone() {
        let mut filter = Filter::default();
        filter.update(&whole(suspended(1_000))).unwrap();
        let name = Name::owner("usr_5");
        assert!(filter.may_hold(&name));
        let mut freed = update_head(6, 8, [1; LINEAGE], false);
        update_page(&mut freed, name.place().page, &[]);
        filter.update(&freed).unwrap();
        assert!(!filter.may_hold(&name) && (filter.taken_ms, filter.version) == (6, 8));
        let still = (0..1_000).filter(|n| filter.may_hold(&Name::owner(&format!("usr_{n:x}"))));
        assert!(still.count() > 990);
        // Another storage's changes say nothing about these pages.
        assert_eq!(filter.update(&update_head(9, 9, [2; LINEAGE], false)), None);
        filter
            .update(&update_head(9, 9, [2; LINEAGE], true))
            .unwrap();
        assert!(filter.is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_updates_never_panic_and_change_all_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut filter = Filter::default();
            if filter.update(&bytes).is_none() {
                prop_assert_eq!(filter, Filter::default());
            }
        }
    }
}
