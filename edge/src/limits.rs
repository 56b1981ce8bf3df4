//! Flood shields: Cloudflare's Rate Limiting bindings, approximate and per location. Exact limits are those of the
//! objects ([`crate::penalty`], [`crate::token_limit`]) and of the origin.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use shared::client_ip;
pub use shared::hex::hex;
use shared::link::{LinkError, PermittedLink};

use crate::counts;
use crate::js::{self, Lines};
use crate::penalty;
use crate::serve::ServeError;
use crate::token_limit;

/// A shield: its binding in wrangler.toml for one address or token, the binding for an IPv6 /48, and its name.
/// Quotas must equal those in wrangler.toml, where the platform wants them.
#[derive(Clone, Copy, Debug)]
pub struct Shield {
    /// Name of the binding.
    pub binding: &'static str,
    /// Binding with ten times the quota, for the /48 around an IPv6 address.
    pub wide: Option<&'static str>,
    /// Policy name in `RateLimit` and in the answer.
    pub policy: &'static str,
    /// Requests in [`PERIOD`].
    pub quota: u32,
}

/// A limit that refused, as its answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Policy name.
    pub policy: &'static str,
    /// How much it allows in a window.
    pub quota: u32,
    /// The window in seconds.
    pub window: u64,
    /// After so many seconds there is room again.
    pub retry_after: u64,
}

impl From<Shield> for Refusal {
    fn from(shield: Shield) -> Self {
        Self {
            policy: shield.policy,
            quota: shield.quota,
            window: PERIOD,
            // The binding tells no time; after a whole period there is room again for certain.
            retry_after: PERIOD,
        }
    }
}

/// Seconds in which a quota may be used.
pub const PERIOD: u64 = 60;

/// Links opened by one address.
pub const LINKS: Shield = Shield {
    binding: "LINKS",
    wide: Some("LINKS_WIDE"),
    policy: "links",
    quota: 600,
};
/// API calls of one address.
pub const FLOOD: Shield = Shield {
    binding: "FLOOD",
    wide: Some("FLOOD_WIDE"),
    policy: "edge-flood",
    quota: 1200,
};
/// API calls with one token.
pub const FLOOD_TOKEN: Shield = Shield {
    binding: "FLOOD_TOKEN",
    wide: None,
    policy: "edge-flood-token",
    quota: 1200,
};

/// Every binding that must be there.
pub const BINDINGS: [&str; 7] = [
    "LINKS",
    "LINKS_WIDE",
    "FLOOD",
    "FLOOD_WIDE",
    "FLOOD_TOKEN",
    penalty::BINDING,
    token_limit::BINDING,
];

/// The bindings, or nothing when limits are off.
pub struct Limiters<'a>(pub Option<&'a worker::Env>);

impl Limiters<'_> {
    /// What has to be asked about `address`: its own key, and that of the /48 around it; nothing when limits are off.
    pub fn questions(&self, shield: Shield, address: IpAddr) -> Option<Lines> {
        self.0?;
        let group = client_ip::group(address);
        let mut asks = Lines::default();
        asks.push(shield.binding, &group.narrow.to_string());
        if let (Some(wide), Some(binding)) = (group.wide, shield.wide) {
            asks.push(binding, &wide.to_string());
        }
        Some(asks)
    }

    /// Whether `address` is within the shield.
    pub async fn allow_address(&self, shield: Shield, address: IpAddr) -> bool {
        self.ask(shield, self.questions(shield, address)).await
    }

    /// Whether the bearer of this `Authorization` value is within the shield; the token itself is not handed out.
    pub async fn allow_token(&self, shield: Shield, authorization: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(authorization.as_bytes()).into();
        let mut asks = Lines::default();
        asks.push(shield.binding, &hex(digest.split_at(16).0));
        self.ask(shield, Some(asks)).await
    }

    /// A shield that fails lets pass: it protects from floods, access is decided by the checks around it.
    async fn ask(&self, shield: Shield, asks: Option<Lines>) -> bool {
        let (Some(env), Some(asks)) = (self.0, asks) else {
            return true;
        };
        counted(js::ask_limiters(env, &asks).await, shield)
    }
}

/// `within`, counted where it is a refusal.
fn counted(within: bool, shield: Shield) -> bool {
    if !within {
        counts::limited(shield.policy);
    }
    within
}

/// A permitted link that is within its address's limit and not revoked: it may be read from the bucket.
pub struct AdmittedLink(PermittedLink);

impl AdmittedLink {
    /// Asks the shield, then the revocations, in the contract's order.
    ///
    /// # Errors
    /// [`ServeError::RateLimited`], [`ServeError::Link`] for a revoked one.
    pub async fn admit(
        link: PermittedLink,
        client: IpAddr,
        limiters: &Limiters<'_>,
        revoked: Result<(), LinkError>,
    ) -> Result<Self, ServeError> {
        if !limiters.allow_address(LINKS, client).await {
            return Err(ServeError::RateLimited);
        }
        revoked.map_err(ServeError::Link)?;
        Ok(Self(link))
    }

    /// The link.
    pub fn link(&self) -> &PermittedLink {
        &self.0
    }
}
