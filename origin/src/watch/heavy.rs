//! Who does something most, in bounded memory (after Metwally's "space saving"): a newcomer takes the place of whoever
//! did least, and inherits that count as doubt. Whoever really did much is never lost.

use std::collections::HashMap;
use std::hash::Hash;

/// Whoever was quiet for so many seconds gives its place up first.
const QUIET: u64 = 3600;

/// What is known of one.
#[derive(Clone, Debug, Default)]
pub struct Entry<V> {
    /// How often, at most.
    pub count: u64,
    /// How much of it may have been somebody else.
    pub doubt: u64,
    /// Seen first and last, Unix seconds.
    pub first: u64,
    /// Seen last.
    pub last: u64,
    /// What else is to be known.
    pub value: V,
}

/// The heaviest of a stream.
#[derive(Clone, Debug)]
pub struct Heavy<K, V> {
    most: usize,
    known: HashMap<K, Entry<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone + Default> Heavy<K, V> {
    /// Knows at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            known: HashMap::new(),
        }
    }

    /// Counts one at `now`.
    pub fn note(&mut self, key: K, now: u64) -> &mut Entry<V> {
        let mut doubt = 0;
        if self.known.len() >= self.most && !self.known.contains_key(&key) {
            let weight = |entry: &Entry<V>| (now.saturating_sub(entry.last) < QUIET, entry.count);
            let least = self.known.iter().min_by_key(|(_, entry)| weight(entry));
            if let Some((least, entry)) = least.map(|(key, entry)| (key.clone(), entry.clone())) {
                self.known.remove(&least);
                if weight(&entry).0 {
                    doubt = entry.count;
                }
            }
        }
        let entry = self.known.entry(key).or_insert_with(|| Entry {
            count: doubt,
            doubt,
            first: now,
            ..Entry::default()
        });
        entry.count += 1;
        entry.last = now;
        entry
    }

    /// Gives what is known of one to another name, if that one is not known yet.
    pub fn rename(&mut self, from: &K, to: K) {
        if !self.known.contains_key(&to)
            && let Some(entry) = self.known.remove(from)
        {
            self.known.insert(to, entry);
        }
    }

    /// Those seen since `since`, the heaviest first, at most so many.
    pub fn top(&self, since: u64, most: usize) -> Vec<(K, Entry<V>)> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .filter(|(_, entry)| entry.last >= since)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        all.sort_by_key(|(_, entry)| std::cmp::Reverse((entry.count - entry.doubt, entry.last)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flood_of_strangers_hides_nobody_who_comes_often() {
        let mut heavy = Heavy::<u64, ()>::new(16);
        for n in 0..2_000u64 {
            heavy.note(n % 3 * 1_000_000, 10);
            heavy.note(1_000 + n, 10);
        }
        let mut top: Vec<_> = heavy.top(0, 3).into_iter().map(|(key, _)| key).collect();
        top.sort_unstable();
        assert_eq!(top, [0, 1_000_000, 2_000_000]);
        assert!(heavy.known.len() <= 16);
    }

    #[test]
    fn whoever_is_quiet_goes_first_and_leaves_no_doubt() {
        let mut heavy = Heavy::<&str, ()>::new(2);
        for _ in 0..50 {
            heavy.note("old", 0);
        }
        heavy.note("new", QUIET + 1);
        heavy.note("newer", QUIET + 2);
        let top = heavy.top(0, 9);
        assert_eq!(top.len(), 2);
        assert!(
            top.iter()
                .all(|(key, entry)| *key != "old" && entry.doubt == 0)
        );
    }

    #[test]
    fn a_new_name_keeps_the_count() {
        let mut heavy = Heavy::<&str, u8>::new(4);
        heavy.note("a", 1);
        heavy.rename(&"a", "b");
        assert_eq!(heavy.note("b", 2).count, 2);
        assert_eq!(heavy.top(0, 9).len(), 1);
    }

    proptest! {
        #[test]
        fn the_true_count_lies_between_count_less_doubt_and_count(keys in proptest::collection::vec(0u8..40, 1..400)) {
            let mut heavy = Heavy::<u8, ()>::new(8);
            for key in &keys {
                heavy.note(*key, 5);
            }
            for (key, entry) in heavy.top(0, 8) {
                let truth = keys.iter().filter(|other| **other == key).count() as u64;
                prop_assert!(entry.count - entry.doubt <= truth && truth <= entry.count);
            }
        }
    }
}
