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
    /// Life in seconds; the configured one without it, rounded to the grain.
    pub ttl: Option<u64>,
    /// Only for clients in this range.
    pub ip: Option<AddressRange>,
    /// Name to save as, as [`shared::link::safe_name`] makes it.
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
        let exp = match options.ttl {
            Some(life) if (1..=MAX_LIFE).contains(&life) => now + life,
            Some(_) => return Err(SignError::Life),
            None => round_up(now + self.life, self.grain, now),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> Publisher {
        let ring = Keyring::parse("k1:QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=");
        Publisher::new(ring.unwrap(), "https://img.example.com", 3600, 300)
    }

    #[test]
    fn links_are_the_same_within_a_grain_and_last_at_least_their_life() {
        let key = ObjectKey::parse("generated/u/a.png").unwrap();
        let at = |now| {
            publisher()
                .link(&key, 0, &LinkOptions::default(), now)
                .unwrap()
        };
        let first = at(1_800_000_001);
        for now in [1_800_000_002, 1_800_000_150, 1_800_000_300] {
            assert_eq!(at(now), first, "{now}");
        }
        assert_ne!(at(1_800_000_301), first);
        assert!(first.url.contains("exp=1800003900&"), "{}", first.url);
    }

    #[test]
    fn a_life_that_was_asked_for_is_kept_to_the_second() {
        let key = ObjectKey::parse("generated/u/a.png").unwrap();
        let options = LinkOptions {
            ttl: Some(7),
            ..LinkOptions::default()
        };
        let link = publisher().link(&key, 0, &options, 1_800_000_001).unwrap();
        assert!(link.url.contains("exp=1800000008&"), "{}", link.url);
    }
}
