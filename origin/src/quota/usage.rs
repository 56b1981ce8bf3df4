//! Rows of the usage report.

use shared::gcra::Rate;

use super::PolicyUse;
use super::headers::wait_seconds;

/// A rate whose stored time is `tat`. Times in nanoseconds.
pub(super) fn rate(policy: &'static str, rate: Rate, tat: u64, now: u64) -> PolicyUse {
    let (remaining, reset) = rate.peek(Some(tat), now);
    let (limit, remaining) = (u64::from(rate.capacity()), u64::from(remaining));
    PolicyUse {
        policy,
        limit,
        used: limit.saturating_sub(remaining),
        remaining,
        window_seconds: Some(wait_seconds(rate.window())),
        reset_seconds: Some(seconds(reset)),
    }
}

/// A limit on a number. The reset in nanoseconds.
pub(super) fn count(
    policy: &'static str,
    limit: u64,
    used: u64,
    window_seconds: Option<u64>,
    reset: Option<u64>,
) -> PolicyUse {
    PolicyUse {
        policy,
        limit,
        used,
        remaining: limit.saturating_sub(used),
        window_seconds,
        reset_seconds: reset.map(seconds),
    }
}

/// An address's row, or that of the network around it when less is left of that one.
pub(super) fn tighter(narrow: PolicyUse, wide: Option<PolicyUse>) -> PolicyUse {
    match wide {
        Some(wide) if wide.remaining < narrow.remaining => wide,
        _ => narrow,
    }
}

fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}
