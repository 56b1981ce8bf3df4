//! What a sweep found.

use serde::Serialize;

use crate::state::sweeping::Corrected;
use crate::storage::Listing;

/// Names told for each kind of finding; the rest is only counted.
const NAMED: usize = 20;

/// The counts of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where an interrupted sweep was taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<String>,
    /// Rows of the ledger at the beginning.
    pub rows: u64,
    /// Objects seen.
    pub objects: u64,
    /// Bytes of the objects seen.
    pub bytes: u64,
    /// Objects past their time: removed.
    pub expired: u64,
    /// Leftovers of a move or a deletion that a crash cut short: settled.
    pub settled: u64,
    /// Writes that nobody finished: dropped.
    pub half_written: u64,
    /// Rows without an object: removed, their bytes given back.
    pub missing: u64,
    /// Rows whose object has another size: corrected.
    pub resized: u64,
    /// Objects that no row names: told, and removed only where the settings say so.
    pub orphans: u64,
    /// Of these, removed.
    pub orphans_removed: u64,
    /// Names that this program does not write: left alone.
    pub foreign: u64,
    /// What is too young to decide about.
    pub in_flight: u64,
    /// Users whose usage was counted anew.
    pub usage_corrected: u64,
    /// Bytes of the objects that were removed.
    pub freed: u64,
    /// Some of the names, for each finding.
    pub named: Vec<String>,
}

impl Report {
    pub(super) fn seen(&mut self, page: &Listing) {
        self.objects += page.objects.len() as u64;
        self.bytes += page.objects.iter().map(|object| object.size).sum::<u64>();
        self.foreign += page.foreign.len() as u64;
        for name in &page.foreign {
            self.note("foreign", name);
        }
    }

    pub(super) fn note(&mut self, finding: &str, name: &str) {
        let told = |line: &&String| line.split(' ').next() == Some(finding);
        if self.named.len() < NAMED * 8 && self.named.iter().filter(told).count() < NAMED {
            // A foreign name may hold anything, and goes to a terminal.
            self.named
                .push(format!("{finding} {}", name.escape_debug()));
        }
    }

    pub(super) fn usage(&mut self, wrong: &Corrected) {
        self.usage_corrected += 1;
        let Corrected { user_id, was, is } = wrong;
        self.note("usage", &format!("{user_id} {was} -> {is}"));
    }

    /// The counts as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let rows = [
            ("objects", self.objects, "seen"),
            ("expired", self.expired, "removed"),
            ("settled", self.settled, "left by a crash"),
            ("half-written", self.half_written, "dropped"),
            ("missing", self.missing, "rows without an object, removed"),
            ("resized", self.resized, "rows corrected"),
            ("orphans", self.orphans, "objects without a row"),
            ("  of these", self.orphans_removed, "removed"),
            ("foreign", self.foreign, "left alone"),
            ("in flight", self.in_flight, "left alone"),
            ("usage", self.usage_corrected, "users counted anew"),
            ("freed", self.freed, "bytes"),
        ];
        rows.iter()
            .map(|(name, count, what)| format!("{name:<13}{count:>14}  {what}"))
            .collect()
    }
}
