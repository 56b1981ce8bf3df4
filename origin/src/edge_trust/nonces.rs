//! Nonces of edge requests, each accepted once: by all origins that share a server, and while that is away, by each.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use shared::edge_auth::{Accepted, WINDOW};

use crate::state::server::Server;

/// Seconds that a signature can be fresh: `created` may lie [`WINDOW`] before or after the clock.
const SECONDS: usize = 2 * WINDOW as usize + 1;

/// Nonces remembered at most, over all seconds that count: 65,000 requests a second for a minute on end, in at most
/// 75 MB. Further requests are not answered until a second is over.
const CAPACITY: usize = 4_000_000;

/// What is known of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce {
    /// Nobody has sent it before.
    First,
    /// The request was answered before.
    Replayed,
    /// It may be new, and there is no room to remember it.
    NoRoom,
}

/// The nonces of every second that a signature may still name.
#[derive(Clone, Debug)]
pub struct Nonces {
    seen: Arc<Mutex<Seen>>,
    /// Nonces are remembered by a hash under a key of this process: nobody can make two that are taken for one.
    hasher: RandomState,
    server: Option<Server>,
}

/// A bucket for each second of `created`, at the second modulo [`SECONDS`]: what is too old goes as a whole, and no
/// entry needs a time of its own.
#[derive(Debug)]
struct Seen {
    buckets: Vec<Bucket>,
    /// Entries of all buckets.
    entries: usize,
    capacity: usize,
    /// When old buckets were emptied last.
    emptied: u64,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    second: u64,
    hashes: HashSet<u64>,
}

impl Default for Nonces {
    fn default() -> Self {
        Self::shared(None)
    }
}

impl Nonces {
    /// Nonces that are remembered at the server too, where there is one.
    pub(crate) fn shared(server: Option<Server>) -> Self {
        Self::with_capacity(CAPACITY, server)
    }

    fn with_capacity(capacity: usize, server: Option<Server>) -> Self {
        Self {
            seen: Arc::new(Mutex::new(Seen {
                buckets: vec![Bucket::default(); SECONDS],
                entries: 0,
                capacity,
                emptied: 0,
            })),
            hasher: RandomState::new(),
            server,
        }
    }

    /// Remembers the nonce of a request that was found to be the edge's at `now` (Unix seconds). Of many at once,
    /// whichever origins they reach, one is the first.
    pub async fn remember(&self, accepted: &Accepted<'_>, now: u64) -> Nonce {
        let here = self.remember_here(accepted, now);
        if here != Nonce::First {
            return here;
        }
        let Some(server) = &self.server else {
            return Nonce::First;
        };
        // Without an answer the other origins are not asked: a replay counts at most once at each of them.
        let is_first = server.is_first("nonce", accepted.nonce, SECONDS as u64);
        match is_first.await.unwrap_or(true) {
            true => Nonce::First,
            false => Nonce::Replayed,
        }
    }

    fn remember_here(&self, accepted: &Accepted<'_>, now: u64) -> Nonce {
        let hash = self.hasher.hash_one((accepted.created, accepted.nonce));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remember(hash, accepted.created, now)
    }
}

impl Seen {
    fn remember(&mut self, hash: u64, created: u64, now: u64) -> Nonce {
        self.empty_old(now);
        let slot = usize::try_from(created).unwrap_or(0) % SECONDS;
        let Some(bucket) = self.buckets.get_mut(slot) else {
            return Nonce::NoRoom;
        };
        if bucket.second != created {
            // Emptied by now, or of a time that was before the clock was set back.
            self.entries -= bucket.hashes.len();
            *bucket = Bucket {
                second: created,
                ..Bucket::default()
            };
        }
        if bucket.hashes.contains(&hash) {
            return Nonce::Replayed;
        }
        if self.entries >= self.capacity {
            return Nonce::NoRoom;
        }
        bucket.hashes.insert(hash);
        self.entries += 1;
        Nonce::First
    }

    /// Gives back the memory of seconds that no signature may name any more; once a second.
    fn empty_old(&mut self, now: u64) {
        if now == self.emptied {
            return;
        }
        self.emptied = now;
        for bucket in &mut self.buckets {
            if bucket.second.saturating_add(WINDOW) < now && !bucket.hashes.is_empty() {
                self.entries -= bucket.hashes.len();
                bucket.hashes = HashSet::new();
            }
        }
    }
}

#[cfg(test)]
#[path = "nonces_tests.rs"]
mod tests;
