//! The limits in Redis or Valkey: every decision is one script in one slot, by the server's clock, in one round trip.
//! Admissions that are wanted at the same time share one ([`batch`]).
//!
//! All keys of a deployment share the hash tag `{signet}`. A user's part is one string, an address's rates are one
//! number each, so a script reads all of it in one call and writes each key once. Exactness holds while the primary
//! lives: a failover may lose what was not replicated. While the server is away the caller keeps to its own memory, so
//! at most (processes × limit) pass; what was admitted there is settled there, and nothing is charged twice.

mod batch;
mod calls;
mod script;
mod settler;

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use batch::Wanted;
use script::Scripts;
use settler::Message;

use crate::state::server::{Server, key};

pub(super) use crate::state::server::ServerError as RemoteError;

/// Admissions whose end waits to be told to the server.
const UNSETTLED: usize = 65_536;

/// An admission at the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    server: Server,
    scripts: Scripts,
    wanted: OnceLock<mpsc::UnboundedSender<Wanted>>,
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
    /// The limits at this server. Must be called on a runtime.
    pub(super) fn new(server: Server) -> Self {
        let remote = Self {
            inner: Arc::new(Inner {
                server,
                scripts: Scripts::new(),
                wanted: OnceLock::new(),
                unsettled: OnceLock::new(),
                skew: AtomicU64::new(0),
            }),
        };
        let (sender, receiver) = mpsc::channel(UNSETTLED);
        if remote.inner.unsettled.set(sender).is_ok() {
            settler::start(Arc::downgrade(&remote.inner), receiver);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        if remote.inner.wanted.set(sender).is_ok() {
            batch::start(Arc::downgrade(&remote.inner), receiver);
        }
        remote
    }

    /// The server.
    pub(super) fn server(&self) -> &Server {
        &self.inner.server
    }

    /// Turns the clock that scripts see.
    #[cfg(test)]
    pub(super) fn turn(&self, seconds: u64) {
        self.inner
            .skew
            .fetch_add(seconds * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    }
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
