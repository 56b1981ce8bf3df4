//! Nonces of edge requests, each accepted once.

use std::time::Duration;

use moka::sync::Cache;

/// More than this many within two windows is more than one origin can answer.
const CAPACITY: u64 = 1_000_000;

/// The nonces of the last minute. Bounded; for the bound to forget a live one, a million signed requests must come
/// within it.
#[derive(Clone, Debug)]
pub struct Nonces(Cache<String, ()>);

impl Default for Nonces {
    fn default() -> Self {
        let live = Duration::from_secs(2 * shared::edge_auth::WINDOW + 1);
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(live).build())
    }
}

impl Nonces {
    /// Remembers a nonce; whether it was new. Of two at once, one is the first.
    pub fn is_first(&self, nonce: &str) -> bool {
        self.0.entry_by_ref(nonce).or_insert(()).is_fresh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_at_once_one_is_first() {
        let nonces = Nonces::default();
        let firsts: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..500).filter(|n| nonces.is_first(&format!("nonce-{n}"))).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(firsts, 500);
    }
}
