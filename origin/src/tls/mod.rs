//! TLS on the service's own listeners, for those who put no proxy in front. The certificate is followed while the
//! service runs: who renews it replaces two files, and nothing restarts.

mod follow;
mod load;
pub mod redirect;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

pub use load::{Loaded, TlsError};

use crate::telemetry::Metrics;

/// Told to browsers with every answer over TLS: a year without plain HTTP.
pub const HSTS: &str = "max-age=31536000";

/// TLS of the public and the images listener, under `server.tls`. Without it both speak plain HTTP, behind a proxy or
/// on loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain in PEM, the service's own first. It names the API's host and the images host. Followed
    /// while the service runs; SIGHUP has it read at once.
    pub certificate_file: Option<PathBuf>,
    /// Its private key in PEM, readable by nobody else.
    pub key_file: Option<PathBuf>,
    /// A listener for plain HTTP, usually port 80, that sends readers to HTTPS and refuses everything else.
    pub redirect_bind: Option<SocketAddr>,
}

impl TlsSettings {
    /// Certificate and key, where TLS is on.
    pub fn files(&self) -> Option<(PathBuf, PathBuf)> {
        self.certificate_file.clone().zip(self.key_file.clone())
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self, urls: [&str; 2]) -> Result<(), String> {
        match (&self.certificate_file, &self.key_file) {
            (None, None) if self.redirect_bind.is_some() => {
                Err("server.tls.redirect_bind is set and there is no certificate_file".into())
            }
            (None, None) => Ok(()),
            (Some(_), None) => Err("server.tls.key_file is missing".into()),
            (None, Some(_)) => Err("server.tls.certificate_file is missing".into()),
            (Some(_), Some(_)) if urls.iter().all(|url| url.starts_with("https://")) => Ok(()),
            (Some(_), Some(_)) => Err(
                "server.tls is set, so server.url and images.url must be https:// addresses".into(),
            ),
        }
    }
}

/// The certificate in use. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub struct LiveCertificate {
    files: (PathBuf, PathBuf),
    current: Arc<RwLock<Arc<Loaded>>>,
}

impl LiveCertificate {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn open(files: (PathBuf, PathBuf)) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files.0, &files.1)?;
        let current = Arc::new(RwLock::new(Arc::new(loaded)));
        Ok(Self { files, current })
    }

    fn get(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, loaded: Loaded) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    /// Shows its dates to operators.
    pub fn show(&self, metrics: &Metrics) {
        let loaded = self.get();
        let health = &metrics.health;
        health.certificate_from.set(loaded.not_before as f64);
        health.certificate_until.set(loaded.not_after as f64);
    }

    /// What a listener needs: TLS 1.2 and 1.3, HTTP/2 and 1.1.
    ///
    /// # Errors
    /// Only a defect: the crypto provider has no cipher for these versions.
    pub fn config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone())))
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().key))
    }
}
