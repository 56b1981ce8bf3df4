//! How fast work gets done, measured while there is work.

use std::time::Duration;

/// Work a second over the last half minute or so of busy time.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    work: f64,
    seconds: f64,
}

/// Busy seconds after which an observation counts half.
const HALF_LIFE: f64 = 15.0;

impl Rate {
    /// Adds `work` done in `took` of busy time.
    pub fn observe(&mut self, work: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        let keep = 0.5f64.powf(seconds / HALF_LIFE);
        self.work = self.work * keep + work as f64;
        self.seconds = self.seconds * keep + seconds;
    }

    /// Work a second; `None` before anything was measured.
    pub fn per_second(&self) -> Option<f64> {
        (self.seconds > 0.0 && self.work > 0.0).then(|| self.work / self.seconds)
    }

    /// How long `work` takes; nothing before anything was measured.
    pub fn time_for(&self, work: u64) -> Duration {
        let seconds = self.per_second().map_or(0.0, |rate| work as f64 / rate);
        Duration::from_secs_f64(seconds.min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_a_change_within_a_minute_of_work() {
        let mut rate = Rate::default();
        assert_eq!(rate.time_for(100), Duration::ZERO);
        for _ in 0..100 {
            rate.observe(10, Duration::from_secs(1));
        }
        assert!((rate.per_second().unwrap() - 10.0).abs() < 1e-9);
        for _ in 0..60 {
            rate.observe(40, Duration::from_secs(1));
        }
        assert!((rate.per_second().unwrap() - 40.0).abs() < 3.0);
        assert!((rate.time_for(400).as_secs_f64() - 10.0).abs() < 1.0);
    }
}
