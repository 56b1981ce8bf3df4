//! What one address has used, and what the IPv6 network around it.

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

/// An IPv6 /48.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) rate: u64,
    pub(super) penalty: Option<Box<Record>>,
}

fn is_over(penalty: Option<&Record>, now: u64) -> bool {
    penalty.is_none_or(|penalty| penalty.forgotten_at(penalty_rule(0, 0)) <= now)
}

impl Address {
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.rate <= now
            && self.links <= now
            && self.token_endpoint <= now
            && is_over(self.penalty.as_deref(), now)
    }
}

impl Network {
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.rate <= now && is_over(self.penalty.as_deref(), now)
    }
}
