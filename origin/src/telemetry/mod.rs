//! What operators see: metrics, and log lines without a prompt, a token, a signature or a key.

mod line;
mod metrics;
mod prompt_hash;

use serde::{Deserialize, Serialize};

pub use line::{GenerationLine, RequestId};
pub use metrics::Metrics;
pub use prompt_hash::PromptHasher;

/// The section `telemetry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `error`, `warn`, `info`, `debug` or `trace`; also filters of the form `origin=debug,info`.
    pub log: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log: "info".into() }
    }
}

impl TelemetrySettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        tracing_subscriber::EnvFilter::try_new(&self.log)
            .map(|_| ())
            .map_err(|error| format!("telemetry.log: {error}"))
    }

    /// Starts logging as JSON lines on standard error; a second call changes nothing.
    pub fn start(&self) {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log).unwrap_or_default();
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init();
    }
}
