//! How often and how boldly to sweep.

use serde::{Deserialize, Serialize};

/// The section `sweep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepSettings {
    /// Hours between the sweeps that the running service makes by itself; 0 leaves it to `signet sweep`.
    pub every_hours: u32,
    /// Hours that a half-written object, an unsettled row or an orphan must be old before a sweep decides about it.
    pub grace_hours: u32,
    /// Removes objects that no row names, once they are older than the grace time. Without it they are only told: after
    /// the ledger was restored from an old backup, good pictures look like this.
    pub remove_orphans: bool,
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self {
            every_hours: 24,
            grace_hours: 24,
            remove_orphans: false,
        }
    }
}

impl SweepSettings {
    pub(super) fn grace_seconds(&self) -> u64 {
        u64::from(self.grace_hours) * 3600
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// The name of the setting and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        if self.grace_hours == 0 {
            return Err(
                "sweep.grace_hours is 0: a sweep would take writes under way for left ones".into(),
            );
        }
        Ok(())
    }
}
