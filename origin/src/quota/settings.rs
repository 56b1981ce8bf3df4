//! The section `limits`.

use serde::{Deserialize, Serialize};
use shared::gcra::Rate;

/// A rate: so many a minute, and so many more at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// Arrivals a minute, at least 1.
    pub per_minute: u32,
    /// How many may come at once beyond the first.
    pub burst: u32,
}

impl RateSettings {
    pub(super) fn rate(self) -> Option<Rate> {
        Rate::per_minute(self.per_minute, self.burst)
    }
}

/// Every limit of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Switches rate limits and quotas off: for benchmarks on loopback only.
    pub enabled: bool,
    /// Policy `address`: generations of one client address (IPv6: a /64; ten times as much a /48, here
    /// and in the other policies that count addresses).
    pub address: RateSettings,
    /// Policy `token`: generations with one token.
    pub token: RateSettings,
    /// Policy `user`: generations of one user with whatever tokens.
    pub user: RateSettings,
    /// Policy `user-hour`: generations of one user in any sliding hour.
    pub user_hour: u32,
    /// Policy `jobs`: jobs of one user at once.
    pub jobs: u32,
    /// Policy `units-day`: cost units of one user in any 24 hours (a unit is one step of a 512×512 picture), for users
    /// without a plan of their own; 0: no such limit.
    pub units_day: u64,
    /// Policy `storage`: bytes one user may store.
    pub storage_bytes: u64,
    /// Policy `penalty-box`: arrivals of one address at generation routes within 60 s; more block it.
    pub penalty_arrivals: u32,
    /// How long an address stays in the penalty box, in seconds.
    pub penalty_seconds: u64,
    /// Policy `reads`: job and list reads of one user.
    pub reads: RateSettings,
    /// Policy `uploads`: uploads of one user.
    pub uploads: RateSettings,
    /// Policy `writes`: changes to pictures of one user: keep, unkeep, delete, a new link.
    pub writes: RateSettings,
    /// Policy `uploads-work`: the work in the uploads of one user, in units: 2^20 pixels read once, of a WebP two; each
    /// pass that a JPEG makes over its coefficients adds an eighth.
    pub uploads_work: RateSettings,
    /// Policy `links`: links opened from one address, at the origin's own images listener.
    pub links: RateSettings,
    /// Policy `token-endpoint`: token requests from one address.
    pub token_endpoint: RateSettings,
    /// Policy `token-endpoint-client`: failed token requests in the name of one client, from whatever addresses.
    /// Addresses from which it signed in within a day stay open to it.
    pub token_endpoint_client: RateSettings,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let rate = |per_minute, burst| RateSettings { per_minute, burst };
        Self {
            enabled: true,
            address: rate(5, 3),
            token: rate(20, 5),
            user: rate(60, 49),
            user_hour: 50,
            jobs: 8,
            units_day: 2_000,
            storage_bytes: 500_000_000,
            penalty_arrivals: 30,
            penalty_seconds: 600,
            reads: rate(300, 60),
            uploads: rate(20, 5),
            writes: rate(120, 30),
            uploads_work: rate(240, 239),
            links: rate(600, 100),
            token_endpoint: rate(10, 9),
            token_endpoint_client: rate(10, 9),
        }
    }
}

impl LimitSettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        for (name, rate) in [
            ("address", self.address),
            ("token", self.token),
            ("user", self.user),
            ("reads", self.reads),
            ("uploads", self.uploads),
            ("writes", self.writes),
            ("uploads_work", self.uploads_work),
            ("links", self.links),
            ("token_endpoint", self.token_endpoint),
            ("token_endpoint_client", self.token_endpoint_client),
        ] {
            if rate.rate().is_none() {
                return Err(format!("limits.{name}.per_minute is 0"));
            }
        }
        for (name, value) in [
            ("user_hour", self.user_hour),
            ("jobs", self.jobs),
            ("penalty_arrivals", self.penalty_arrivals),
        ] {
            if value == 0 {
                return Err(format!("limits.{name} is 0"));
            }
        }
        Ok(())
    }
}
