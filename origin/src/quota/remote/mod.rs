//! The limits in Redis or Valkey: every decision is one script in one slot, by the server's clock, in one round trip.
//!
//! All keys of a deployment share the hash tag `{signet}`. A user's part is one string, an address's rates are one
//! number each, so a decision reads all of it in one call and writes each key once. Exactness holds while the primary
//! lives: a failover may lose what was not replicated. While the server is away the caller keeps to its own memory, so
//! at most (processes × limit) pass; what was admitted there is settled there, and nothing is charged twice.

mod calls;
mod script;
mod settler;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::mpsc;

use script::Scripts;
pub(crate) use script::is_broken;

use settler::Message;

use crate::state::StateSettings;

/// After a failure the server is left alone for so long, so that requests need not wait for it one by one.
const REST: Duration = Duration::from_millis(500);
/// Admissions whose end waits to be told to the server.
const UNSETTLED: usize = 65_536;

/// Why the server decided nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RemoteError {
    /// Not reached, or not in time.
    #[error("Redis is away: {0}")]
    Away(String),
    /// It answered what no script of ours answers, or a key holds something else.
    #[error("Redis answers what cannot be right: {0}")]
    Broken(String),
}

/// An admission at the server.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    id: [u8; 8],
    keys: Vec<String>,
    /// Emission times of address, network, token and user, in microseconds.
    emissions: [u64; 4],
}

/// A connection to the server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    connection: ConnectionManager,
    scripts: Scripts,
    timeout: Duration,
    begun: Instant,
    /// Milliseconds after `begun` until which the server is left alone.
    resting_until: AtomicU64,
    unsettled: OnceLock<mpsc::Sender<Message>>,
    /// Added to the server's clock, in microseconds; only tests turn it.
    skew: AtomicU64,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    /// A connection that is made when it is first needed, and again whenever it broke. Must be called on a runtime.
    ///
    /// # Errors
    /// The address is none.
    pub(super) fn open(settings: &StateSettings) -> Result<Self, redis::RedisError> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let client = settings.redis()?;
        let config = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(250))
            .set_number_of_retries(1)
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let remote = Self {
            inner: Arc::new(Inner {
                connection: ConnectionManager::new_lazy_with_config(client, config)?,
                scripts: Scripts::new(),
                timeout,
                begun: Instant::now(),
                resting_until: AtomicU64::new(0),
                unsettled: OnceLock::new(),
                skew: AtomicU64::new(0),
            }),
        };
        let (sender, receiver) = mpsc::channel(UNSETTLED);
        if remote.inner.unsettled.set(sender).is_ok() {
            settler::start(Arc::downgrade(&remote.inner), receiver);
        }
        Ok(remote)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.inner.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn rest(&self) {
        let rest = u64::try_from(REST.as_millis()).unwrap_or(0);
        self.inner
            .resting_until
            .store(self.elapsed() + rest, Ordering::Relaxed);
    }

    /// Whether the server failed a moment ago.
    fn is_resting(&self) -> bool {
        self.elapsed() < self.inner.resting_until.load(Ordering::Relaxed)
    }

    /// Turns the clock that scripts see.
    #[cfg(test)]
    pub(super) fn turn(&self, seconds: u64) {
        self.inner
            .skew
            .fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

/// The key of one counter.
fn key(kind: &str, name: &str) -> String {
    format!("{{signet}}:{kind}:{name}")
}

fn address_key(kind: &str, address: IpAddr) -> String {
    key(kind, &address.to_string())
}

/// The first eight bytes of a hash: names tokens and clients in little room.
fn short_hash(text: &str) -> [u8; 8] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(digest) {
        *to = from;
    }
    short
}
