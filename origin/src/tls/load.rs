//! A certificate and its key from two files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Strangers can read the key.
    #[error("{0}: everybody can read this key; chmod o-rwx")]
    Open(PathBuf),
    /// No certificate, or no key, in PEM.
    #[error("{0}: {1}")]
    Pem(PathBuf, &'static str),
    /// The certificate cannot be read as X.509.
    #[error("{0}: this is no X.509 certificate")]
    Certificate(PathBuf),
    /// The key cannot be used, or is another certificate's.
    #[error("{0}: {1}")]
    Key(PathBuf, rustls::Error),
    /// No cipher.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A certificate, ready to use.
#[derive(Debug)]
pub struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

impl Loaded {
    /// Reads a chain and its key; the two must belong together.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn read(certificate_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let at = |file: &Path| {
            let file = file.to_path_buf();
            move |error| TlsError::File(file, error)
        };
        let text = std::fs::read(certificate_file).map_err(at(certificate_file))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Pem(certificate_file.into(), "this is no PEM"))?;
        let first = chain
            .first()
            .ok_or(TlsError::Pem(certificate_file.into(), "no certificate"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(first)
            .map_err(|_| TlsError::Certificate(certificate_file.into()))?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let mode = std::fs::metadata(key_file)
            .map_err(at(key_file))?
            .permissions()
            .mode();
        if mode & 0o007 != 0 {
            return Err(TlsError::Open(key_file.into()));
        }
        let secret = Zeroizing::new(std::fs::read(key_file).map_err(at(key_file))?);
        let secret = PrivateKeyDer::from_pem_slice(&secret)
            .map_err(|_| TlsError::Pem(key_file.into(), "no private key in PEM"))?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, secret, &provider)
            .map_err(|error| TlsError::Key(key_file.into(), error))?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
        })
    }
}
