//! The time, passed to whoever needs it, so that tests can turn it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of the time. Cheap to clone; clones of a manual clock turn together.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Nanoseconds since the epoch, set by a test.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands still at `seconds` since the epoch until it is turned.
    pub fn manual(seconds: u64) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(
            seconds.saturating_mul(1_000_000_000),
        )))
    }

    /// Nanoseconds since the Unix epoch; 0 for a machine that believes to be before it.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that everyone else is passed"
    )]
    pub fn nanos(&self) -> u64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
                }),
            Self::Manual(nanos) => nanos.load(Ordering::SeqCst),
        }
    }

    /// Seconds since the Unix epoch.
    pub fn seconds(&self) -> u64 {
        self.nanos() / 1_000_000_000
    }

    /// Turns a manual clock on; the system's cannot be turned.
    pub fn advance(&self, seconds: u64) {
        if let Self::Manual(nanos) = self {
            nanos.fetch_add(seconds.saturating_mul(1_000_000_000), Ordering::SeqCst);
        }
    }
}

/// `seconds` since the epoch as RFC 3339 in UTC, for example `2026-03-09T14:22:01Z`.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date, after the proleptic Gregorian calendar counted from 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_741_530_121, "2025-03-09T14:22:01Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn clones_of_a_manual_clock_turn_together() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        clock.advance(7);
        assert_eq!(other.seconds(), 12);
    }
}
