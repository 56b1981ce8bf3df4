//! The generic cell rate algorithm (ITU-T I.371) in integer nanoseconds. One number per key: the theoretical arrival
//! time, `tat`. From idle exactly burst + 1 pass at once, as with nginx `burst=b nodelay`.

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two emissions, at least 1.
    emission: u64,
    /// How far `tat` may run ahead of now, in nanoseconds.
    tolerance: u64,
    burst: u32,
    /// What all that ever passes at once leaves, in nanoseconds.
    full: u64,
}

/// The answer for one arrival. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes; the new `tat` must be stored.
    Pass {
        /// To be stored in place of the old one.
        tat: u64,
        /// How many more would pass right now.
        remaining: u32,
        /// Until the key is idle again.
        reset: u64,
    },
    /// It is refused and nothing changes.
    Refuse {
        /// Until one would pass.
        retry_after: u64,
        /// Until the key is idle again.
        reset: u64,
    },
}

const MINUTE: u64 = 60_000_000_000;

/// How far the clocks that share a key may differ, beyond a full window, before its stored time is taken for one of
/// another epoch of the clock.
const CLOCK_STEP: u64 = MINUTE;

/// Days ahead, which no other limit lets anybody get.
const COUNTED: u64 = 1 << 50;

impl Rate {
    /// `per_minute` arrivals a minute with this burst; `None` when `per_minute` is 0 or beyond one a nanosecond.
    pub fn per_minute(per_minute: u32, burst: u32) -> Option<Self> {
        let emission = MINUTE
            .checked_div(u64::from(per_minute))
            .filter(|&emission| emission > 0)?;
        Some(Self {
            emission,
            tolerance: emission.saturating_mul(u64::from(burst)),
            burst,
            full: emission.saturating_mul(u64::from(burst) + 1),
        })
    }

    /// The same pace, counted up to its burst and never refused: for what another place has decided.
    pub fn counted(self) -> Self {
        Self {
            tolerance: COUNTED,
            ..self
        }
    }

    /// The rate as one arrival sees it that counts for so many, 1 to [`Rate::capacity`]: more count as all of it, so
    /// that whatever is allowed at all passes from idle.
    pub fn times(self, count: u32) -> Self {
        let more = u64::from(count.clamp(1, self.capacity())) - 1;
        let emissions = self.emission.saturating_mul(more);
        Self {
            emission: self.emission.saturating_add(emissions),
            tolerance: self.tolerance.saturating_sub(emissions),
            ..self
        }
    }

    /// What an arrival that passes leaves at most.
    fn latest(&self, now: u64) -> u64 {
        now.saturating_add(self.full.min(self.window()))
    }

    /// Nanoseconds between two emissions.
    pub fn emission(&self) -> u64 {
        self.emission
    }

    /// How many pass at once from idle.
    pub fn capacity(&self) -> u32 {
        self.burst.saturating_add(1)
    }

    /// Nanoseconds from full use to idle: after this long without an arrival a key may be forgotten.
    pub fn window(&self) -> u64 {
        self.tolerance.saturating_add(self.emission)
    }

    /// How far `tat` runs ahead of `now`, at most a window. Nothing ever stored lies further ahead, but clocks differ
    /// and step: up to [`CLOCK_STEP`] more still reads as full, since two clocks that share a key must not gain by
    /// differing; beyond that the clock was set back, and the key has room for the one pass that renews its time.
    /// Else refusals, which store nothing, would last until the clock has caught up.
    fn ahead(&self, tat: Option<u64>, now: u64) -> u64 {
        let ahead = tat.map_or(0, |tat| tat.saturating_sub(now));
        if ahead > self.window().saturating_add(CLOCK_STEP) {
            self.tolerance
        } else {
            ahead.min(self.window())
        }
    }

    /// Decides one arrival at `now` for a key whose stored time is `tat` (`None`: never seen). A clock set back
    /// refuses for a window and a minute at most, and never lets a second burst pass.
    pub fn decide(&self, tat: Option<u64>, now: u64) -> Decision {
        let ahead = self.ahead(tat, now);
        let tat = now.saturating_add(ahead);
        if ahead > self.tolerance {
            return Decision::Refuse {
                retry_after: ahead - self.tolerance,
                reset: ahead,
            };
        }
        let tat = tat.saturating_add(self.emission).min(self.latest(now));
        let remaining = (self.window() - (tat - now).min(self.window())) / self.emission;
        Decision::Pass {
            tat,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: tat - now,
        }
    }

    /// The `tat` after one earlier pass is given back; never before `now`, where the key is idle anyway.
    pub fn refund(&self, tat: u64, now: u64) -> u64 {
        tat.saturating_sub(self.emission).max(now)
    }

    /// How many would pass right now, and nanoseconds until idle.
    pub fn peek(&self, tat: Option<u64>, now: u64) -> (u32, u64) {
        let ahead = self.ahead(tat, now);
        let remaining = (self.window() - ahead) / self.emission;
        (u32::try_from(remaining).unwrap_or(u32::MAX), ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_that_counts_for_many_takes_as_much_as_many() {
        let rate = Rate::per_minute(240, 239).unwrap();
        let pass = |tat, now, count| match rate.times(count).decide(tat, now) {
            Decision::Pass { tat, .. } => Ok(tat),
            Decision::Refuse { retry_after, .. } => Err(retry_after),
        };
        let many = pass(None, 5, 100).unwrap();
        let each = (0..100).fold(None, |tat, _| Some(pass(tat, 5, 1).unwrap()));
        assert_eq!(Some(many), each);
        // 140 are left: 141 wait for one.
        assert_eq!(pass(Some(many), 5, 141), Err(rate.emission()));
        let full = pass(Some(many), 5, 140).unwrap();
        assert_eq!(rate.peek(Some(full), 5), (0, MINUTE));
        assert_eq!(pass(Some(full), 5, 1), Err(rate.emission()));
        // More than all there ever is counts as all of it.
        assert_eq!(pass(None, 5, u32::MAX), Ok(5 + MINUTE));
        assert_eq!(pass(Some(6), 5, u32::MAX), Err(1));
        assert_eq!(rate.times(7).capacity(), rate.capacity());
        assert_eq!(rate.times(7).window(), rate.window());
        // What is only counted is never refused.
        let Decision::Pass { tat, .. } = rate.counted().times(9).decide(Some(full), 5) else {
            panic!("refused");
        };
        assert_eq!(tat, full);
    }

    /// The same rule told as a leaky bucket of whole emissions.
    fn model(rate: Rate, arrivals: &[u64]) -> Vec<bool> {
        let mut level_empty_at: u64 = 0;
        arrivals
            .iter()
            .map(|&now| {
                let start = level_empty_at.max(now);
                let fits = start - now <= rate.emission * u64::from(rate.burst);
                if fits {
                    level_empty_at = start + rate.emission;
                }
                fits
            })
            .collect()
    }

    fn run(rate: Rate, arrivals: &[u64]) -> Vec<bool> {
        let mut stored = None;
        arrivals
            .iter()
            .map(|&now| match rate.decide(stored, now) {
                Decision::Pass { tat, .. } => {
                    stored = Some(tat);
                    true
                }
                Decision::Refuse { .. } => false,
            })
            .collect()
    }

    #[test]
    fn from_idle_exactly_burst_plus_one_pass_at_once() {
        for burst in [0, 1, 3, 50] {
            let rate = Rate::per_minute(5, burst).unwrap();
            let passed = run(rate, &[1_000; 200])
                .into_iter()
                .filter(|&passed| passed)
                .count();
            assert_eq!(passed, burst as usize + 1);
        }
    }

    #[test]
    fn tokens_never_refill_past_burst_and_refusals_change_nothing() {
        let rate = Rate::per_minute(60, 2).unwrap();
        let long = 1_000 * MINUTE;
        assert_eq!(
            run(rate, &[0, long, long, long, long]),
            [true, true, true, true, false]
        );
        let Decision::Refuse { retry_after, .. } = rate.decide(Some(3_000_000_000), 0) else {
            panic!("must refuse")
        };
        assert_eq!(retry_after, 1_000_000_000);
        assert!(matches!(
            rate.decide(Some(3_000_000_000), retry_after),
            Decision::Pass { remaining: 0, .. }
        ));
    }

    #[test]
    fn a_clock_set_back_by_an_hour_passes_one_and_goes_on_at_the_rate() {
        let rate = Rate::per_minute(60, 2).unwrap();
        let hour = 60 * MINUTE;
        let start = 10 * hour;
        let arrivals: Vec<u64> = [start; 5]
            .into_iter()
            .chain([start - hour; 5])
            .chain((1..=3).map(|second| start - hour + second * 1_000_000_000))
            .collect();
        let passed = run(rate, &arrivals);
        assert_eq!(passed[..5], [true, true, true, false, false]);
        assert_eq!(passed[5..10], [true, false, false, false, false]);
        assert_eq!(passed[10..], [true, true, true]);
    }

    #[test]
    fn two_clocks_that_differ_by_seconds_do_not_add_their_rates() {
        let rate = Rate::per_minute(60, 0).unwrap();
        // One arrival each 100 ms for a minute, seen alternately by a clock that is 5 s behind.
        let arrivals: Vec<u64> = (0..600u64)
            .map(|i| MINUTE + i * 100_000_000 - 5_000_000_000 * (i % 2))
            .collect();
        let passed = run(rate, &arrivals).into_iter().filter(|&p| p).count();
        assert!((55..=61).contains(&passed), "{passed}");
    }

    #[test]
    fn what_is_only_counted_passes_and_shows_as_used() {
        let rate = Rate::per_minute(20, 5).unwrap();
        let mut tat = None;
        for _ in 0..100 {
            let Decision::Pass { tat: new, .. } = rate.counted().decide(tat, 7) else {
                panic!("must pass")
            };
            tat = Some(new);
        }
        assert_eq!(rate.peek(tat, 7).0, 0);
        let refunded = rate.counted().refund(tat.unwrap(), 7);
        assert_eq!(rate.peek(Some(refunded), 7).0, 1);
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        assert_eq!(Rate::per_minute(0, 1), None);
    }

    proptest! {
        #[test]
        fn it_decides_as_the_bucket_model(per_minute in 1u32..5_000, burst in 0u32..20, gaps in prop::collection::vec(0u64..20_000_000_000, 1..200)) {
            let rate = Rate::per_minute(per_minute, burst).unwrap();
            let arrivals: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            prop_assert_eq!(run(rate, &arrivals), model(rate, &arrivals));
        }

        #[test]
        fn any_clock_and_any_stored_time_are_survived(per_minute: u32, burst: u32, tat: Option<u64>, now: u64) {
            if let Some(rate) = Rate::per_minute(per_minute, burst) {
                match rate.decide(tat, now) {
                    Decision::Pass { tat, remaining, .. } => {
                        prop_assert!(remaining <= burst);
                        prop_assert!(tat >= now);
                    }
                    Decision::Refuse { retry_after, .. } => prop_assert!(retry_after <= rate.window()),
                }
                let _ = rate.peek(tat, now);
            }
        }

        #[test]
        fn a_refund_gives_back_exactly_one(per_minute in 1u32..600, burst in 1u32..10) {
            let rate = Rate::per_minute(per_minute, burst).unwrap();
            let mut tat = None;
            for _ in 0..=burst {
                if let Decision::Pass { tat: new, .. } = rate.decide(tat, 0) { tat = Some(new); }
            }
            prop_assert_eq!(rate.peek(tat, 0).0, 0);
            prop_assert_eq!(rate.peek(Some(rate.refund(tat.unwrap(), 0)), 0).0, 1);
        }
    }
}
