//! Links to pictures, signed for a time.

mod ring;

use serde::Serialize;
use shared::keyring::Keyring;
use shared::link::{AddressRange, MAX_LIFE, SignError, SignRequest, round_up};
use shared::object_key::ObjectKey;

pub use ring::{FOLLOW_EVERY, LiveRing};

/// A link and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedLink {
    /// The whole address.
    pub url: String,
    /// RFC 3339, UTC.
    pub expires_at: String,
}

/// What a caller may ask of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// Life in seconds; the configured one without it.
    pub ttl: Option<u64>,
    /// Only for clients in this range.
    pub ip: Option<AddressRange>,
    /// Name to save as.
    pub dl: Option<String>,
}

/// Signs links for one images host.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// The keyring; also what the embedded listener verifies with.
    pub ring: LiveRing,
    base: String,
    life: u64,
    grain: u64,
}

impl Publisher {
    /// `images_url` without a trailing slash, `life` and `grain` in seconds.
    pub fn new(ring: Keyring, images_url: &str, life: u64, grain: u64) -> Self {
        Self {
            ring: LiveRing::new(ring),
            base: images_url.trim_end_matches('/').into(),
            life,
            grain,
        }
    }

    /// A link to `key` for its owner at `now` (Unix seconds), with the owner's link epoch.
    ///
    /// # Errors
    /// [`SignError`]: a life over 7 days, an unsafe name.
    pub fn link(
        &self,
        key: &ObjectKey,
        epoch: u64,
        options: &LinkOptions,
        now: u64,
    ) -> Result<SignedLink, SignError> {
        let life = options.ttl.unwrap_or(self.life);
        if !(1..=MAX_LIFE).contains(&life) {
            return Err(SignError::Life);
        }
        let exp = round_up(now + life, self.grain, now);
        let path = SignRequest {
            key,
            exp,
            dl: options.dl.as_deref(),
            ep: epoch,
            ip: options.ip,
        }
        .sign(&self.ring.get(), now)?;
        Ok(SignedLink {
            url: format!("{}{path}", self.base),
            expires_at: crate::clock::rfc3339(exp),
        })
    }
}
