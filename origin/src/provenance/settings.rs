//! Whether and with whose certificate pictures are marked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The section `provenance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProvenanceSettings {
    /// Puts C2PA Content Credentials into every generated picture: that a model made it, which one and when; neither the
    /// prompt nor the user.
    pub enabled: bool,
    /// The signer's certificate chain in PEM, the signer's own first, for a P-256 key (ES256). Without one the service
    /// makes a chain of its own at its first start and keeps it beside the state: valid, but trusted by nobody.
    pub chain_file: Option<PathBuf>,
    /// The signer's private key, PKCS#8 in PEM.
    pub key_file: Option<PathBuf>,
}

impl Default for ProvenanceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            chain_file: None,
            key_file: None,
        }
    }
}

impl ProvenanceSettings {
    /// Says what cannot work.
    ///
    /// # Errors
    /// The name of the setting.
    pub fn validate(&self) -> Result<(), String> {
        if self.chain_file.is_some() == self.key_file.is_some() {
            Ok(())
        } else {
            Err("provenance.chain_file and provenance.key_file belong together".into())
        }
    }
}
