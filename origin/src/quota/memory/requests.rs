//! Limits on requests that make no picture: reads, uploads, writes, links, tokens.

use std::hash::BuildHasher;

use shared::gcra::Rate;

use super::address::Of;
use super::user::User;
use super::{Memory, decide};
use crate::quota::{Ask, Rates, Refusal, Simple};

impl Memory {
    /// Counts a read, an upload or a write of a user.
    pub(in crate::quota) fn simple(
        &self,
        what: Simple,
        user: &str,
        rate: Rate,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut users) = self.user_shard(user) else {
            return Ok(());
        };
        users.sweep(now);
        let known = users.known.get_mut(user).map_or(0, |one| *what.of(one));
        let (tat, _) = decide(rate, known, what.policy(), now)?;
        match users.known.get_mut(user) {
            Some(one) => *what.of(one) = tat,
            None => *what.of(users.known.entry(user.into()).or_default()) = tat,
        }
        Ok(())
    }

    pub(in crate::quota) fn link(
        &self,
        ask: &Ask<'_>,
        rates: &Rates,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut shard) = self.address_shard(ask.narrow, ask.wide) else {
            return Ok(());
        };
        shard.sweep(now);
        let next = shard.next(ask, ("links", rates.links), |one| &mut one.links, now)?;
        shard.charge(ask, &next, |one| &mut one.links);
        Ok(())
    }

    /// Counts a request for a token from an address, and when `client` is given against that client too.
    pub(in crate::quota) fn token_endpoint(
        &self,
        ask: &Ask<'_>,
        client: Option<&str>,
        rates: &Rates,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(mut shard) = self.address_shard(ask.narrow, ask.wide) else {
            return Ok(());
        };
        shard.sweep(now);
        let of: Of = |one| &mut one.token_endpoint;
        let next = shard.next(ask, ("token-endpoint", rates.token_endpoint), of, now)?;
        if let Some(client) = client
            && let Some(mut users) = self.user_shard(client)
        {
            users.sweep(now);
            let key = self.hasher.hash_one(client);
            let known = users.clients.get(&key).copied().unwrap_or(0);
            let policy = "token-endpoint-client";
            let (tat, _) = decide(rates.token_endpoint_client, known, policy, now)?;
            users.clients.insert(key, tat);
        }
        shard.charge(ask, &next, of);
        Ok(())
    }

    /// The request in the client's name was good: it does not count against the client.
    pub(in crate::quota) fn forgive_client(&self, client: &str, rates: &Rates, now: u64) {
        if let Some(mut users) = self.user_shard(client) {
            let key = self.hasher.hash_one(client);
            if let Some(tat) = users.clients.get_mut(&key) {
                *tat = rates.token_endpoint_client.refund(*tat, now);
            }
        }
    }
}

impl Simple {
    fn of(self, user: &mut User) -> &mut u64 {
        match self {
            Self::Reads => &mut user.reads,
            Self::Uploads => &mut user.uploads,
            Self::Writes => &mut user.writes,
            Self::UploadsWork => &mut user.uploads_work,
        }
    }
}
