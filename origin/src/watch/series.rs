//! Counts over time: a ring of slots of equal width. What is older than the ring is forgotten by being written over.

/// The last slots. Time is passed in; it may stand still, and a step back counts in the newest slot.
#[derive(Clone, Debug)]
pub struct Series<T> {
    width: u64,
    slots: Vec<T>,
    newest: u64,
}

impl<T: Copy + Default> Series<T> {
    /// So many slots of `width` seconds each.
    pub fn new(slots: usize, width: u64) -> Self {
        Self {
            width: width.max(1),
            slots: vec![T::default(); slots.max(1)],
            newest: 0,
        }
    }

    /// Brings the ring to `now` (Unix seconds), emptying the slots that begin.
    fn advance(&mut self, now: u64) {
        let index = now / self.width;
        let length = self.slots.len() as u64;
        let stale = index.saturating_sub(self.newest).min(length);
        for ago in 0..stale {
            if let Some(slot) = self.slots.get_mut(((index - ago) % length) as usize) {
                *slot = T::default();
            }
        }
        self.newest = self.newest.max(index);
    }

    /// The slot of `now`.
    pub fn at(&mut self, now: u64) -> Option<&mut T> {
        self.advance(now);
        let at = self.newest % self.slots.len() as u64;
        self.slots.get_mut(at as usize)
    }

    /// All slots, the oldest first; the last one is still being filled.
    pub fn read(&mut self, now: u64) -> Vec<T> {
        self.advance(now);
        let begin = (self.newest % self.slots.len() as u64) as usize + 1;
        let (front, back) = self.slots.split_at(begin.min(self.slots.len()));
        back.iter().chain(front).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_stand_in_their_slot_until_they_are_too_old() {
        let mut series = Series::<u32>::new(3, 5);
        *series.at(100).unwrap() += 1;
        *series.at(104).unwrap() += 1;
        *series.at(105).unwrap() += 5;
        assert_eq!(series.read(109), [0, 2, 5]);
        assert_eq!(series.read(110), [2, 5, 0]);
        assert_eq!(series.read(119), [5, 0, 0]);
        assert_eq!(series.read(1_000), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_was_counted_within_the_span_is_there_exactly(steps in proptest::collection::vec(0u64..20, 1..60)) {
            let mut series = Series::<u32>::new(7, 5);
            let mut now = 1_000;
            let mut times = Vec::new();
            for step in steps {
                now += step;
                *series.at(now).unwrap() += 1;
                times.push(now / 5);
            }
            let kept = times.iter().filter(|slot| now / 5 - **slot < 7).count();
            prop_assert_eq!(series.read(now).iter().sum::<u32>() as usize, kept);
        }
    }
}
