//! What a limit says about itself: a refusal, a row of the usage report, and the headers of
//! draft-ietf-httpapi-ratelimit-headers-10.

use serde::Serialize;

use crate::jobs::STREAMS;

/// One policy as it stands for a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyUse {
    /// The policy's name.
    pub policy: &'static str,
    /// How much it allows a window.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// How much is left.
    pub remaining: u64,
    /// The window; none where the limit counts what is there now.
    pub window_seconds: Option<u64>,
    /// Until all of it is free again; none where time frees nothing.
    pub reset_seconds: Option<u64>,
}

/// A limit that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy's name.
    pub policy: &'static str,
    /// How much it allows a window.
    pub limit: u64,
    /// The window in seconds.
    pub window_seconds: u64,
    /// After so many seconds one more would pass.
    pub retry_after: u64,
}

impl Refusal {
    /// `Retry-After`, `RateLimit` and `RateLimit-Policy`.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("retry-after", self.retry_after.to_string()),
            (
                "ratelimit",
                format!("\"{}\";r=0;t={}", self.policy, self.retry_after),
            ),
            (
                "ratelimit-policy",
                format!(
                    "\"{}\";q={};w={}",
                    self.policy, self.limit, self.window_seconds
                ),
            ),
        ]
    }
}

/// Time frees nothing of a store but what expires, and that is looked for once an hour.
const STORAGE_RETRY: u64 = 3600;

/// What a refusal by the policy `storage` tells, in bytes.
pub fn storage_headers(limit: u64, used: u64) -> [(&'static str, String); 3] {
    [
        ("retry-after", STORAGE_RETRY.to_string()),
        (
            "ratelimit",
            format!("\"storage\";r={}", limit.saturating_sub(used)),
        ),
        (
            "ratelimit-policy",
            format!("\"storage\";q={limit};qu=\"content-bytes\""),
        ),
    ]
}

/// A stream may end at any time.
const STREAMS_RETRY: u64 = 5;

/// What a refusal by the policy `streams` tells: a job's event streams at once.
pub fn streams_headers() -> [(&'static str, String); 3] {
    [
        ("retry-after", STREAMS_RETRY.to_string()),
        ("ratelimit", "\"streams\";r=0".into()),
        (
            "ratelimit-policy",
            format!("\"streams\";q={STREAMS};qu=\"concurrent-requests\""),
        ),
    ]
}

/// Nanoseconds as whole seconds, rounded up and at least 1: what a client waits.
pub(super) fn wait_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_structured_fields() {
        let refusal = Refusal {
            policy: "address",
            limit: 4,
            window_seconds: 48,
            retry_after: 12,
        };
        assert_eq!(
            refusal.headers(),
            [
                ("retry-after", "12".into()),
                ("ratelimit", "\"address\";r=0;t=12".into()),
                ("ratelimit-policy", "\"address\";q=4;w=48".into()),
            ]
        );
    }

    #[test]
    fn a_wait_is_never_told_too_short() {
        assert_eq!(
            [
                wait_seconds(0),
                wait_seconds(1_000_000_000),
                wait_seconds(1_000_000_001)
            ],
            [1, 1, 2]
        );
    }
}
