//! Origins that share a real redis-server.

use std::path::Path;

use crate::program::Home;

#[path = "../../src/test_redis.rs"]
mod server;

pub use server::Server as Redis;

/// An origin with a state file of its own, which keeps its pictures in `store`, as the others do.
pub fn origin(redis: &Redis, store: &Path) -> Home {
    Home::new(&[
        ("SIGNET_STATE__URL", &redis.url()),
        // A busy machine must not look like a server that is away.
        ("SIGNET_STATE__TIMEOUT_MS", "2000"),
        ("SIGNET_STORAGE__FOLDER", &store.display().to_string()),
        (
            "SIGNET_IMAGES__KEYS",
            "k1:c2hhcmVkIGxpbmsga2V5IG9mIHR3byBvcmlnaW5zIS4=",
        ),
        ("SIGNET_AUTH__ISSUER", "https://issuer.example"),
    ])
}
