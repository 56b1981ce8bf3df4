//! How long the latest generations took.

use std::collections::VecDeque;

/// One generation.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Unix seconds.
    pub at: u64,
    /// From arrival to picture, milliseconds.
    pub latency_ms: u64,
    /// Of it in the queue.
    pub queue_ms: u64,
}

/// The latest generations.
#[derive(Debug)]
pub struct Latest {
    most: usize,
    all: VecDeque<Made>,
}

/// Percentiles in milliseconds: 50, 95, 99.
pub type Percentiles = [u64; 3];

impl Latest {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            all: VecDeque::new(),
        }
    }

    /// Adds one; the oldest goes where there is no room.
    pub fn note(&mut self, made: Made) {
        if self.all.len() >= self.most {
            self.all.pop_front();
        }
        self.all.push_back(made);
    }

    /// Percentiles of `what` over those since `since` and before `until`; none when there are none.
    pub fn percentiles(
        &self,
        since: u64,
        until: u64,
        what: impl Fn(&Made) -> u64,
    ) -> Option<Percentiles> {
        let span = self
            .all
            .iter()
            .filter(|made| (since..until).contains(&made.at));
        let mut values: Vec<u64> = span.map(what).collect();
        values.sort_unstable();
        // Nearest rank.
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied()
        };
        Some([at(50)?, at(95)?, at(99)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_span_by_nearest_rank() {
        let mut latest = Latest::new(100);
        let of = |at, latency_ms| Made {
            at,
            latency_ms,
            queue_ms: 1,
        };
        latest.note(of(1, 999_999));
        for n in 1..=100 {
            latest.note(of(10, n));
        }
        let latency = |made: &Made| made.latency_ms;
        assert_eq!(latest.percentiles(10, 11, latency), Some([50, 95, 99]));
        assert_eq!(latest.percentiles(11, 99, latency), None);
        assert_eq!(latest.all.len(), 100, "the first one had to go");
        latest.note(of(20, 7));
        assert_eq!(latest.percentiles(20, 21, latency), Some([7, 7, 7]));
    }
}
