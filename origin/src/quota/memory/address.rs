//! What addresses have used, and the IPv6 networks around them.

use std::collections::HashMap;
use std::net::IpAddr;

use shared::gcra::Rate;
use shared::penalty::{self, Record};

use super::{SWEEP_AFTER, decide, penalty_rule};
use crate::quota::{Ask, Refusal};

/// One address, or one network. Times in nanoseconds; a rate's time is its `tat`, 0 when idle.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) rate: u64,
    pub(super) links: u64,
    pub(super) token_endpoint: u64,
    pub(super) penalty: Option<Box<Record>>,
}

impl Address {
    fn is_idle(&self, now: u64) -> bool {
        self.rate <= now
            && self.links <= now
            && self.token_endpoint <= now
            && self
                .penalty
                .as_ref()
                .is_none_or(|penalty| penalty.forgotten_at(penalty_rule(0, 0)) <= now)
    }
}

/// One shard of them.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    pub(super) narrow: HashMap<IpAddr, Address>,
    /// IPv6 networks, in the shard of all their parts.
    pub(super) wide: HashMap<IpAddr, Address>,
    decisions: usize,
}

/// The times of an address and of the network around it once one more is charged.
pub(super) struct Next {
    narrow: u64,
    wide: Option<u64>,
    /// What is then left of the tighter rate.
    pub(super) remaining: u64,
}

/// One of an address's times.
pub(super) type Of = fn(&mut Address) -> &mut u64;

impl Addresses {
    /// Whether the rates of an address and of the network around it have room for one more. Changes nothing.
    pub(super) fn next(
        &mut self,
        ask: &Ask<'_>,
        (policy, [narrow, wide]): (&'static str, [Rate; 2]),
        of: Of,
        now: u64,
    ) -> Result<Next, Refusal> {
        let known = |all: &mut HashMap<IpAddr, Address>, address: &IpAddr| {
            all.get_mut(address).map_or(0, |one| *of(one))
        };
        let tat = known(&mut self.narrow, &ask.narrow);
        let (tat, remaining) = decide(narrow, tat, policy, now)?;
        let mut next = Next {
            narrow: tat,
            wide: None,
            remaining,
        };
        if let Some(network) = &ask.wide {
            let tat = known(&mut self.wide, network);
            let (tat, remaining) = decide(wide, tat, policy, now)?;
            next.wide = Some(tat);
            next.remaining = next.remaining.min(remaining);
        }
        Ok(next)
    }

    /// Charges it.
    pub(super) fn charge(&mut self, ask: &Ask<'_>, next: &Next, of: Of) {
        *of(self.narrow.entry(ask.narrow).or_default()) = next.narrow;
        if let (Some(network), Some(tat)) = (ask.wide, next.wide) {
            *of(self.wide.entry(network).or_default()) = tat;
        }
    }

    /// Counts an arrival at a generation route.
    pub(super) fn arrive(
        &mut self,
        ask: &Ask<'_>,
        rule: penalty::Rule,
        now: u64,
    ) -> Result<(), penalty::Blocked> {
        let network = ask.wide.map(|it| self.wide.entry(it).or_default());
        let wide = network.map(|it| &mut **it.penalty.get_or_insert_default());
        // A part of a blocked network leaves nothing behind.
        let mut stranger = Record::default();
        let known = self.narrow.get_mut(&ask.narrow);
        let one = known.map_or(&mut stranger, |it| it.penalty.get_or_insert_default());
        let verdict = penalty::arrive(one, wide, rule, now);
        if stranger != Record::default() {
            let one = self.narrow.entry(ask.narrow).or_default();
            one.penalty = Some(Box::new(stranger));
        }
        verdict.map_err(|(_, blocked)| blocked)
    }

    /// Forgets what is idle, now and then.
    pub(super) fn sweep(&mut self, now: u64) {
        self.decisions += 1;
        if self.decisions > SWEEP_AFTER.max(self.narrow.len() + self.wide.len()) {
            self.decisions = 0;
            for all in [&mut self.narrow, &mut self.wide] {
                all.retain(|_, one| !one.is_idle(now));
            }
        }
    }
}
