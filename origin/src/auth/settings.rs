//! The section `auth`.

use serde::{Deserialize, Serialize};

use super::provider::ProviderSettings;

/// Shortest and longest life of an access token, in minutes.
pub const TOKEN_MINUTES: std::ops::RangeInclusive<u64> = 15..=60;

/// Tokens and sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// `iss` of the tokens: the API's public address. Empty: `server.url`.
    pub issuer: String,
    /// `aud` of the tokens.
    pub audience: String,
    /// Life of an access token in minutes, 15 to 60.
    pub token_minutes: u64,
    /// Life of a studio session in hours.
    pub session_hours: u64,
    /// Whether the studio signs people in without a provider. Only ever on loopback.
    pub local_sign_in: bool,
    /// Days after which somebody who exchanged a provider's token has to bring one again.
    pub refresh_days: u64,
    /// The OpenID provider by which the studio signs people in, and whose tokens clients may exchange.
    pub provider: ProviderSettings,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: "signet".into(),
            token_minutes: 30,
            session_hours: 12,
            local_sign_in: true,
            refresh_days: 30,
            provider: ProviderSettings::default(),
        }
    }
}

impl AuthSettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if !TOKEN_MINUTES.contains(&self.token_minutes) {
            return Err(format!(
                "auth.token_minutes is {}; tokens live 15 to 60 minutes",
                self.token_minutes
            ));
        }
        if self.audience.is_empty() {
            return Err("auth.audience is empty".into());
        }
        if !(1..=168).contains(&self.session_hours) {
            return Err(format!(
                "auth.session_hours is {}; sessions live 1 to 168 hours",
                self.session_hours
            ));
        }
        if !(1..=365).contains(&self.refresh_days) {
            return Err(format!(
                "auth.refresh_days is {}; it must be 1 to 365",
                self.refresh_days
            ));
        }
        self.provider.validate()
    }
}
