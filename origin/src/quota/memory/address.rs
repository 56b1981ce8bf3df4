//! What one address has used.

use shared::penalty::Record;

use super::penalty_rule;

/// Times in nanoseconds; a rate's time is its `tat`, 0 when idle.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) rate: u64,
    pub(super) links: u64,
    pub(super) token_endpoint: u64,
    pub(super) penalty: Option<Box<Record>>,
}

impl Address {
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.rate <= now
            && self.links <= now
            && self.token_endpoint <= now
            && self
                .penalty
                .as_ref()
                .is_none_or(|penalty| penalty.forgotten_at(penalty_rule(0, 0)) <= now)
    }
}
