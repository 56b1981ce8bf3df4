//! Nonces of edge requests, each accepted once: by all origins that share a server, and while that is away, by each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::state::server::Server;

/// Seconds a nonce must be remembered: as long as its signature can be within the window on either side.
const MEMORY: u64 = 2 * shared::edge_auth::WINDOW + 1;

/// More than this many requests within [`MEMORY`] is more than one origin can answer; further ones are refused.
const CAPACITY: usize = 500_000;

/// The nonces of the last one to two memories, in two generations: no entry needs a time of its own.
#[derive(Clone, Debug, Default)]
pub struct Nonces {
    seen: Arc<Mutex<Generations>>,
    server: Option<Server>,
}

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<Box<str>>,
    previous: HashSet<Box<str>>,
    since: u64,
}

impl Nonces {
    /// Nonces that are remembered at the server too, where there is one.
    pub(crate) fn shared(server: Option<Server>) -> Self {
        Self {
            server,
            ..Self::default()
        }
    }

    /// Remembers a nonce at `now` (Unix seconds); whether it was new. Of many at once, whichever origins they reach, one
    /// is the first.
    pub async fn is_first(&self, nonce: &str, now: u64) -> bool {
        if !self.is_first_here(nonce, now) {
            return false;
        }
        match &self.server {
            // Without an answer the other origins are not asked: a replay counts at most once at each of them.
            Some(server) => server
                .is_first("nonce", nonce, MEMORY)
                .await
                .unwrap_or(true),
            None => true,
        }
    }

    fn is_first_here(&self, nonce: &str, now: u64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
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
                            .filter(|n| nonces.is_first_here(&format!("nonce-{n}"), 9))
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
        assert!(nonces.is_first_here("a", 1_000));
        assert!((1_000..1_000 + MEMORY).all(|now| !nonces.is_first_here("a", now)));
        assert!(
            nonces.is_first_here("a", 1_000 + 3 * MEMORY)
                || nonces.is_first_here("a", 1_000 + 5 * MEMORY)
        );
        assert!(nonces.seen.lock().unwrap().previous.len() <= 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_nonce_counts_once_over_all_origins_and_while_redis_is_away_once_at_each() {
        let mut redis = crate::test_redis::Server::start();
        let settings = crate::state::StateSettings::at(redis.url());
        let open = || Nonces::shared(Some(Server::open(&settings).unwrap()));
        let origins = [open(), open()];
        let mut asked = Vec::new();
        for n in 0..400 {
            let (origin, nonce) = (origins[n % 2].clone(), format!("nonce-{}", n / 2));
            asked.push(tokio::spawn(
                async move { origin.is_first(&nonce, 9).await },
            ));
        }
        let mut firsts = 0;
        for one in asked {
            firsts += usize::from(one.await.unwrap());
        }
        assert_eq!(firsts, 200);
        let lasts: u64 = redis
            .ask(&["TTL", "{signet}:nonce:nonce-7"])
            .parse()
            .unwrap();
        assert!((1..=MEMORY).contains(&lasts));
        redis.kill();
        for origin in &origins {
            assert!(origin.is_first("away", 10).await);
            assert!(!origin.is_first("away", 10).await);
            assert!(
                !origin.is_first("nonce-0", 10).await || !origin.is_first("nonce-0", 10).await,
                "what was seen here is remembered"
            );
        }
    }
}
