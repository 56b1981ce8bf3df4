//! The penalty box: more than so many arrivals within a window block for a time. Arrivals while blocked neither count
//! nor make the block longer. Exact: the arrivals of the window are kept, for a bucket would let a second burst pass.
//!
//! An IPv6 /48 is never blocked: it may hold many households. While its window is full, further arrivals from it wait
//! until the oldest is over, a window at most.
//!
//! Times are in whatever unit the caller counts in; [`stored`] is in milliseconds.

pub mod stored;

use std::collections::VecDeque;

use crate::client_ip::WIDE_FACTOR;

/// What blocks, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// So many pass within a window; one more blocks.
    pub arrivals: u32,
    /// The window.
    pub window: u64,
    /// How long a block lasts.
    pub block: u64,
    /// A time further ahead of the clock than this means that the clock was set back.
    pub step: u64,
}

impl Rule {
    /// The same for an IPv6 /48, which has ten times the room.
    pub fn wide(self) -> Self {
        Self {
            arrivals: self.arrivals.saturating_mul(WIDE_FACTOR),
            ..self
        }
    }
}

/// The answer to an arrival at a time for which an address is blocked, or its network full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// When the block ends, or the network has room again.
    pub until: u64,
}

/// What is known of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Never falling.
    arrivals: VecDeque<u64>,
    blocked_until: u64,
}

impl Record {
    /// Counts an arrival.
    ///
    /// # Errors
    /// [`Blocked`], also for the one arrival too many.
    pub fn arrive(&mut self, rule: Rule, now: u64) -> Result<(), Blocked> {
        self.check(rule, now)?;
        self.count(rule, now)
    }

    /// Whether it is blocked. A clock that was set back does not make a block longer than it was meant.
    fn check(&mut self, rule: Rule, now: u64) -> Result<(), Blocked> {
        self.blocked_until = self.blocked_until.min(now.saturating_add(rule.block));
        if now < self.blocked_until {
            return Err(Blocked {
                until: self.blocked_until,
            });
        }
        Ok(())
    }

    fn count(&mut self, rule: Rule, now: u64) -> Result<(), Blocked> {
        self.forget(rule, now);
        self.push(now);
        if self.arrivals.len() > usize::try_from(rule.arrivals).unwrap_or(usize::MAX) {
            self.arrivals = VecDeque::new();
            self.blocked_until = now.saturating_add(rule.block);
            return Err(Blocked {
                until: self.blocked_until,
            });
        }
        Ok(())
    }

    /// Whether one more arrival is within the window's number; else when it will be.
    fn has_room(&mut self, rule: Rule, now: u64) -> Result<(), Blocked> {
        self.forget(rule, now);
        if self.arrivals.len() < usize::try_from(rule.arrivals).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let oldest = self.arrivals.front().map_or(now, |&first| first.min(now));
        Err(Blocked {
            until: oldest.saturating_add(rule.window),
        })
    }

    /// Lets go of arrivals that do not count any more, and of a block, which was seen to be over and stays so, should
    /// the clock be set back.
    fn forget(&mut self, rule: Rule, now: u64) {
        self.blocked_until = 0;
        let is_live =
            |at: u64| at.saturating_add(rule.window) > now && at <= now.saturating_add(rule.step);
        while self.arrivals.front().is_some_and(|&at| !is_live(at)) {
            self.arrivals.pop_front();
        }
        while self.arrivals.back().is_some_and(|&at| !is_live(at)) {
            self.arrivals.pop_back();
        }
    }

    fn push(&mut self, now: u64) {
        let at = self.arrivals.back().map_or(now, |&last| last.max(now));
        self.arrivals.push_back(at);
    }

    /// Arrivals that count now (all that pass when blocked), and how long until all is forgotten.
    pub fn peek(&self, rule: Rule, now: u64) -> (u64, u64) {
        let most = u64::from(rule.arrivals);
        if now < self.blocked_until {
            return (most, self.blocked_until - now);
        }
        let live = |at: &&u64| at.saturating_add(rule.window) > now;
        let used = self.arrivals.iter().filter(live).count() as u64;
        (used.min(most), self.forgotten_at(rule).saturating_sub(now))
    }

    /// From then on it says nothing any more.
    pub fn forgotten_at(&self, rule: Rule) -> u64 {
        let last = self.arrivals.back();
        last.map_or(0, |&last| last.saturating_add(rule.window))
            .max(self.blocked_until)
    }
}

/// Which part of an IPv6 address refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The IPv4 address, or the /64, is blocked.
    Narrow,
    /// The /48 is full.
    Wide,
}

/// Counts an arrival for an address and for the /48 around it, where there is one. While the one is blocked or the other
/// full, it counts for neither.
///
/// # Errors
/// [`Blocked`], and which of them is.
pub fn arrive(
    narrow: &mut Record,
    wide: Option<&mut Record>,
    rule: Rule,
    now: u64,
) -> Result<(), (Part, Blocked)> {
    narrow.check(rule, now).map_err(|it| (Part::Narrow, it))?;
    let Some(wide) = wide else {
        return narrow.count(rule, now).map_err(|it| (Part::Narrow, it));
    };
    wide.has_room(rule.wide(), now)
        .map_err(|it| (Part::Wide, it))?;
    wide.push(now);
    narrow.count(rule, now).map_err(|it| (Part::Narrow, it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule {
        arrivals: 3,
        window: 60,
        block: 600,
        step: 5,
    };

    /// The sentence of the contract, told with a list of everything that ever happened.
    fn model(rule: Rule, times: &[u64]) -> Vec<bool> {
        let mut counted: Vec<u64> = Vec::new();
        let mut block: Option<u64> = None;
        times
            .iter()
            .map(|&now| {
                if block.is_some_and(|from| now < from + rule.block) {
                    return false;
                }
                if let Some(from) = block.take() {
                    counted.retain(|&at| at > from);
                }
                counted.push(now);
                let recent = counted.iter().filter(|&&at| at + rule.window > now).count();
                if recent > rule.arrivals as usize {
                    block = Some(now);
                }
                block.is_none()
            })
            .collect()
    }

    #[test]
    fn one_too_many_blocks_for_its_time_and_what_comes_meanwhile_changes_nothing() {
        let mut record = Record::default();
        let passed: Vec<bool> = [0, 0, 30, 59, 300, 658, 659, 659, 659, 659]
            .into_iter()
            .map(|now| record.arrive(RULE, now).is_ok())
            .collect();
        assert_eq!(
            passed,
            [
                true, true, true, false, false, false, true, true, true, false
            ]
        );
        assert_eq!(record.forgotten_at(RULE), 659 + 600);
    }

    #[test]
    fn a_network_has_ten_times_the_room_of_its_parts() {
        let mut wide = Record::default();
        let mut parts: Vec<Record> = vec![Record::default(); 11];
        let mut refused = None;
        for round in 0..33 {
            let narrow = parts.get_mut(round % 11).unwrap();
            if let Err(it) = arrive(narrow, Some(&mut wide), RULE, 7) {
                refused = refused.or(Some((round, it)));
            }
        }
        // Full, not blocked: at the end of the window there is room again, for all of it.
        assert_eq!(refused, Some((30, (Part::Wide, Blocked { until: 67 }))));
        let mut at = |now| arrive(&mut Record::default(), Some(&mut wide), RULE, now);
        assert_eq!(at(66).unwrap_err().0, Part::Wide);
        for _ in 0..30 {
            assert_eq!(at(67), Ok(()));
        }
        assert_eq!(at(90), Err((Part::Wide, Blocked { until: 127 })));
    }

    #[test]
    fn a_network_that_an_older_version_blocked_is_open() {
        let mut wide = Record {
            blocked_until: 600,
            ..Record::default()
        };
        let mut narrow = Record::default();
        assert_eq!(arrive(&mut narrow, Some(&mut wide), RULE, 7), Ok(()));
    }

    #[test]
    fn a_blocked_part_costs_its_network_nothing() {
        let (mut narrow, mut wide) = (Record::default(), Record::default());
        for _ in 0..500 {
            let _ = arrive(&mut narrow, Some(&mut wide), RULE, 1);
        }
        assert_eq!(wide.peek(RULE.wide(), 1).0, 4);
    }

    #[test]
    fn a_clock_set_back_neither_blocks_for_longer_nor_forgets_a_block_at_once() {
        let mut record = Record::default();
        for _ in 0..4 {
            let _ = record.arrive(RULE, 1_000_000);
        }
        assert_eq!(record.arrive(RULE, 10), Err(Blocked { until: 610 }));
        assert_eq!(record.arrive(RULE, 610), Ok(()));
    }

    #[test]
    fn a_block_that_was_over_stays_over_when_the_clock_is_set_back() {
        let mut record = Record::default();
        for _ in 0..4 {
            let _ = record.arrive(RULE, 1_000);
        }
        assert_eq!(record.arrive(RULE, 1_600), Ok(()));
        assert_eq!(record.arrive(RULE, 1_599), Ok(()));
    }

    proptest! {
        #[test]
        fn it_decides_as_the_model_of_everything(arrivals in 1u32..40, gaps in prop::collection::vec(prop_oneof![4 => 0u64..3, 1 => 0u64..700], 1..300)) {
            let rule = Rule { arrivals, ..RULE };
            let times: Vec<u64> = gaps.iter().scan(1_000, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut record = Record::default();
            let passed: Vec<bool> = times.iter().map(|&now| record.arrive(rule, now).is_ok()).collect();
            prop_assert_eq!(passed, model(rule, &times));
        }

        #[test]
        fn any_clock_is_survived(times in prop::collection::vec(any::<u64>(), 1..50), arrivals: u32) {
            let (mut narrow, mut wide) = (Record::default(), Record::default());
            let rule = Rule { arrivals, ..RULE };
            for now in times {
                if let Err((_, blocked)) = arrive(&mut narrow, Some(&mut wide), rule, now) {
                    prop_assert!(blocked.until <= now.saturating_add(rule.block));
                }
                let _ = narrow.peek(rule, now);
            }
        }
    }
}
