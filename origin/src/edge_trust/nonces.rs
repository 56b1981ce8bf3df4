//! Nonces of edge requests, each accepted once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds a nonce must be remembered: as long as its signature can be within the window on either side.
const MEMORY: u64 = 2 * shared::edge_auth::WINDOW + 1;

/// More than this many requests within [`MEMORY`] is more than one origin can answer; further ones are refused.
const CAPACITY: usize = 500_000;

/// The nonces of the last one to two memories, in two generations: no entry needs a time of its own.
#[derive(Clone, Debug, Default)]
pub struct Nonces(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<Box<str>>,
    previous: HashSet<Box<str>>,
    since: u64,
}

impl Nonces {
    /// Remembers a nonce at `now` (Unix seconds); whether it was new. Of many at once, one is the first.
    pub fn is_first(&self, nonce: &str, now: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(seen.since) >= MEMORY {
            seen.previous = std::mem::take(&mut seen.current);
            seen.since = now;
        }
        !seen.previous.contains(nonce)
            && seen.current.len() < CAPACITY
            && seen.current.insert(nonce.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_at_once_one_is_first() {
        let nonces = Nonces::default();
        let firsts: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..500)
                            .filter(|n| nonces.is_first(&format!("nonce-{n}"), 9))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(firsts, 500);
    }

    #[test]
    fn a_nonce_is_remembered_for_its_window_and_forgotten_later() {
        let nonces = Nonces::default();
        assert!(nonces.is_first("a", 1_000));
        assert!((1_000..1_000 + MEMORY).all(|now| !nonces.is_first("a", now)));
        assert!(
            nonces.is_first("a", 1_000 + 3 * MEMORY) || nonces.is_first("a", 1_000 + 5 * MEMORY)
        );
        assert!(nonces.0.lock().unwrap().previous.len() <= 1);
    }
}
