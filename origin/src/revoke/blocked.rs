//! What is revoked where no edge stands in front: ended entries are forgotten, and blocked addresses refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::revocation::names_of_address;

use crate::startup::App;
use crate::state::StateError;

/// How often it is looked what has ended, and whether any address is blocked.
const AGAIN: Duration = Duration::from_secs(2);

/// All epochs are compared every so many rounds, ten minutes.
const SETTLE_EVERY: u64 = 300;

/// Whether any address is blocked: only then each request costs a question.
#[derive(Clone, Debug, Default)]
pub struct Blocked(Arc<AtomicBool>);

impl Blocked {
    /// Whether an address is blocked.
    ///
    /// # Errors
    /// The state's own.
    pub async fn holds(&self, app: &App, address: IpAddr) -> Result<bool, StateError> {
        if !self.0.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let entries = app.state.revoked_among(names_of_address(address)).await?;
        let now = app.clock.seconds();
        Ok(entries.iter().any(|entry| entry.ends > now))
    }
}

/// Forgets what has ended, and looks whether any address is blocked, for as long as the runtime lives.
pub async fn follow(app: App) {
    for round in 0u64.. {
        if round % SETTLE_EVERY == 0
            && let Err(error) = app.state.settle_epochs().await
        {
            tracing::warn!(%error, "the epochs could not be looked through");
        }
        match app.state.forget_revoked(app.clock.seconds()).await {
            Ok(any_address) => app.blocked.0.store(any_address, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "what is revoked could not be looked through"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
