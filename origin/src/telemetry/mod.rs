//! What operators see: metrics, and log lines without a prompt, a token, a signature or a key.

pub(crate) mod ages;
mod health;
mod line;
mod metrics;
mod prompt_hash;
mod prompt_keys;
mod prompt_shared;
mod repeats;
mod repeats_shared;
pub mod trace;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use health::Health;
pub use line::{GenerationLine, RequestId};
pub use metrics::Metrics;
pub use prompt_hash::{PromptHash, PromptHasher};
pub use prompt_keys::PromptKeys;

/// The section `telemetry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `error`, `warn`, `info`, `debug` or `trace`; also filters of the form `origin=debug,info`.
    pub log: String,
    /// Whether answers are counted and watched; off only to measure what that costs.
    pub collect: bool,
    /// The file with the keys under which prompts are hashed, changed weekly. With `state.url` it follows those of the
    /// other origins. Empty: `prompt-hash-keys` beside the state.
    pub prompt_keys_file: PathBuf,
    /// The OpenTelemetry collector to which traces go by OTLP/HTTP, `http(s)://host:port`; `/v1/traces` is added. Empty:
    /// none.
    pub otlp_endpoint: String,
    /// How many of a hundred traces are taken, 0 to 100.
    pub otlp_percent: u8,
}

/// Libraries below us print headers and bodies when they are asked for details; only our own lines are known to hold no
/// secret, so only they may go below `info`.
fn may_be_told(line: &Metadata<'_>) -> bool {
    let ours = ["origin", "signet", "shared"];
    let root = line.target().split("::").next().unwrap_or("");
    *line.level() <= Level::INFO || ours.contains(&root)
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".into(),
            collect: true,
            prompt_keys_file: PathBuf::new(),
            otlp_endpoint: String::new(),
            otlp_percent: 100,
        }
    }
}

impl TelemetrySettings {
    /// Where the prompt-hash keys stand.
    pub fn prompt_keys(&self, state: &Path) -> PathBuf {
        if self.prompt_keys_file.as_os_str().is_empty() {
            state.with_file_name("prompt-hash-keys")
        } else {
            self.prompt_keys_file.clone()
        }
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        EnvFilter::try_new(&self.log)
            .map(|_| ())
            .map_err(|error| format!("telemetry.log: {error}"))?;
        let plain = |scheme| self.otlp_endpoint.strip_prefix(scheme);
        let rest = plain("http://").or_else(|| plain("https://"));
        let is_address = rest.is_some_and(|rest| {
            !rest.is_empty() && !rest.contains(['@', '?', '#']) && rest.is_ascii()
        });
        if !self.otlp_endpoint.is_empty() && !is_address {
            return Err("telemetry.otlp_endpoint must be http(s)://host[:port], without a user, query or fragment".into());
        }
        if self.otlp_percent > 100 {
            return Err("telemetry.otlp_percent is 0 to 100".into());
        }
        Ok(())
    }

    /// Starts logging as JSON lines on standard error; a second call changes nothing.
    pub fn start(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_default();
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .with_filter(filter_fn(may_be_told));
        let _ = tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init();
        std::panic::set_hook(Box::new(|panic| {
            // The message may hold what a client sent; where it happened does not.
            let place = panic.location().map(ToString::to_string);
            let thread = std::thread::current();
            tracing::error!(
                event = "panic",
                place,
                thread = thread.name(),
                "a defect: something panicked"
            );
        }));
    }
}
