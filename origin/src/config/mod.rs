//! `signet.toml`: one section a module, each beside the module it configures. Every value can be overridden by
//! `SIGNET_SECTION__KEY`; secrets come from the environment or a file named in it, never from the file itself.

mod described;
mod keys;
mod load;
mod server;

use serde::{Deserialize, Serialize};

pub use described::default_file;
pub(crate) use keys::{key_file_time, keyring};
pub use load::{ConfigError, load, names_any};
pub use server::{ImagesSettings, ServerSettings};
pub(crate) use server::{host_of, is_loopback_host};

use crate::auth::AuthSettings;
use crate::edge_trust::EdgeSettings;
use crate::quota::LimitSettings;
use crate::state::StateSettings;
use crate::storage::StorageSettings;
use crate::telemetry::TelemetrySettings;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Listeners and host names.
    pub server: ServerSettings,
    /// The images host and its links.
    pub images: ImagesSettings,
    /// The edge or the proxy in front.
    pub edge: EdgeSettings,
    /// Tokens and sessions.
    pub auth: AuthSettings,
    /// Rates and quotas. A rate lets `burst` + 1 pass at once from idle, then `per_minute` a minute.
    pub limits: LimitSettings,
    /// What plans change of the limits, by the plan's name; what a plan leaves out stays. `default` is the plan of users
    /// without one.
    pub plans: crate::quota::Plans,
    /// Where pictures lie: a folder, R2 or any other S3 server.
    pub storage: StorageSettings,
    /// What must survive a restart.
    pub state: StateSettings,
    /// Models and what they run on.
    pub infer: crate::infer::Settings,
    /// A service elsewhere that makes pictures.
    pub provider: crate::provider::Settings,
    /// The queue in front of the engine.
    pub queue: crate::schedule::Settings,
    /// Reference images that users send.
    pub uploads: crate::upload::UploadSettings,
    /// Marking generated pictures.
    pub provenance: crate::provenance::ProvenanceSettings,
    /// Removing what has expired.
    pub sweep: crate::sweep::SweepSettings,
    /// Log, metrics and traces.
    pub telemetry: TelemetrySettings,
}

impl Settings {
    /// # Errors
    /// A sentence that names the first setting that cannot work.
    pub fn validate(&self) -> Result<(), String> {
        self.server.validate()?;
        self.images.validate()?;
        self.server
            .tls
            .validate([&self.server.url(), &self.images.url()])?;
        self.auth.validate()?;
        self.limits.validate()?;
        self.state.validate()?;
        crate::quota::plans::validate(&self.plans)?;
        self.queue.validate()?;
        // Where all pictures come from elsewhere there is no model to load.
        if !(self.infer.models.is_empty() && self.provider.is_on()) {
            self.infer.validate()?;
        }
        self.provider.validate()?;
        self.uploads.validate()?;
        self.sweep.validate()?;
        self.provenance.validate()?;
        self.telemetry.validate()?;
        self.storage.validate().map_err(|error| error.to_string())?;
        if !self.limits.enabled && !self.server.bind.ip().is_loopback() {
            return Err("limits.enabled is false and server.bind is no loopback address: that is for benchmarks only".into());
        }
        let api = self.server.url();
        let images = self.images.url();
        let host = |url: &str| server::host_of(url).to_owned();
        if host(&api) == host(&images) && !server::is_loopback_host(&host(&api)) {
            return Err(format!(
                "server.url and images.url share the host {}; pictures need a host of their own",
                host(&api)
            ));
        }
        if self.edge.require && self.edge.keys.is_none() && self.edge.keys_file.is_none() {
            return Err("edge.require is set and there are no edge keys (SIGNET_EDGE__KEYS or edge.keys_file)".into());
        }
        if self.link_keys()?.is_none() && !self.state.url.is_empty() {
            return Err("state.url is set and there are no link keys (SIGNET_IMAGES__KEYS or images.keys_file): origins that share a state sign and open the same links, so each must be given the same keys; `signet keys generate` makes some, and what one origin made for itself is in `link-keys` beside its state.file".into());
        }
        self.edge_keys()?;
        Ok(())
    }
}
