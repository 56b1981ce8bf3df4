//! Where objects are kept, and how the service talks to that place.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::secret::Secret;

/// Which kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A folder on this machine's disk.
    #[default]
    Folder,
    /// Cloudflare R2 or any other S3 server.
    S3,
}

/// How the bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// `https://endpoint/bucket/key`: R2 and most servers of one's own.
    #[default]
    Path,
    /// `https://bucket.endpoint/key`: Amazon S3.
    Virtual,
}

/// The section `storage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `folder` or `s3`.
    pub kind: StoreKind,
    /// The folder that holds the objects, when `kind` is `folder`. Created with mode 700.
    pub folder: PathBuf,
    /// Addresses under which the bucket might be public, such as a custom domain or `https://pub-….r2.dev`: start-up and
    /// `signet doctor` ask there for an object without credentials, and complain when they get it.
    pub public_urls: Vec<String>,
    /// Days after which `signet lifecycle apply` lets results move to the bucket's colder class (`STANDARD_IA`); 0 for
    /// never. Amazon S3 allows it from day 30 on, when results go; R2 bills that class for at least 30 days.
    pub cold_after_days: u32,
    /// The bucket and how to reach it, when `kind` is `s3`.
    pub s3: S3Settings,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            kind: StoreKind::Folder,
            folder: PathBuf::from("data/objects"),
            public_urls: Vec::new(),
            cold_after_days: 0,
            s3: S3Settings::default(),
        }
    }
}

/// The section `storage.s3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// The server's address, for R2 `https://ACCOUNT.r2.cloudflarestorage.com`. A path is kept.
    /// Plain http is accepted for a loopback address only, unless `allow_http`.
    pub endpoint: String,
    /// The region; R2 calls it `auto`.
    pub region: String,
    /// The bucket. It must exist and must not be readable by the public.
    pub bucket: String,
    /// `path` or `virtual`.
    pub addressing: Addressing,
    /// Lets plain http leave this machine: for a private network only.
    pub allow_http: bool,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret: from the environment only, never from the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// A file that holds the secret, instead of `secret_access_key`.
    pub secret_access_key_file: Option<PathBuf>,
    /// Longest wait for a connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for one attempt, in milliseconds.
    pub attempt_timeout_ms: u64,
    /// Longest wait for an operation with all its attempts, in milliseconds.
    pub operation_timeout_ms: u64,
    /// How often a failed call is made in all; waits between attempts grow and are random.
    pub max_attempts: u32,
    /// Objects larger than this many bytes are sent in parts of this size (S3 wants 5 MiB or more).
    pub part_bytes: u64,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "auto".into(),
            bucket: String::new(),
            addressing: Addressing::Path,
            allow_http: false,
            access_key_id: String::new(),
            secret_access_key: None,
            secret_access_key_file: None,
            connect_timeout_ms: 3_000,
            attempt_timeout_ms: 15_000,
            operation_timeout_ms: 40_000,
            max_attempts: 4,
            part_bytes: 16 << 20,
        }
    }
}

impl StorageSettings {
    /// Says what cannot work, before anything is opened.
    ///
    /// # Errors
    /// [`StoreError::Settings`] that names the field.
    pub fn validate(&self) -> Result<(), StoreError> {
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if !self.public_urls.iter().all(is_url) {
            return Err(StoreError::Settings(
                "storage.public_urls: must start with https://".into(),
            ));
        }
        match self.kind {
            StoreKind::Folder if self.folder.as_os_str().is_empty() => {
                Err(StoreError::Settings("storage.folder is empty".into()))
            }
            StoreKind::Folder => Ok(()),
            StoreKind::S3 => self.s3.validate(),
        }
    }
}

impl S3Settings {
    fn validate(&self) -> Result<(), StoreError> {
        let wrong = |text: String| Err(StoreError::Settings(text));
        for (name, value) in [
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("bucket", &self.bucket),
            ("access_key_id", &self.access_key_id),
        ] {
            if value.is_empty() {
                return wrong(format!("storage.s3.{name} is empty"));
            }
        }
        if !is_bucket_name(&self.bucket) {
            return wrong("storage.s3.bucket: 3 to 63 of a-z, 0-9, '-' and '.'".into());
        }
        match self.endpoint.split_once("://") {
            Some(("https", rest)) if !rest.is_empty() => {}
            Some(("http", rest)) if self.allow_http || is_loopback(rest) => {}
            Some(("http", _)) => {
                return wrong("storage.s3.endpoint: plain http beyond this machine".into());
            }
            _ => return wrong("storage.s3.endpoint: must start with https://".into()),
        }
        if self.secret_access_key.is_some() == self.secret_access_key_file.is_some() {
            return wrong(
                "storage.s3: exactly one of secret_access_key and secret_access_key_file".into(),
            );
        }
        for (name, value) in [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("attempt_timeout_ms", self.attempt_timeout_ms),
            ("operation_timeout_ms", self.operation_timeout_ms),
            ("max_attempts", u64::from(self.max_attempts)),
        ] {
            if value == 0 {
                return wrong(format!("storage.s3.{name} is 0"));
            }
        }
        if !(5 << 20..=1 << 30).contains(&self.part_bytes) {
            return wrong("storage.s3.part_bytes: 5 MiB to 1 GiB".into());
        }
        Ok(())
    }

    /// The secret, from the setting or from its file (surrounding white space is dropped).
    ///
    /// # Errors
    /// [`StoreError::Settings`] when there is none or the file cannot be read.
    pub(super) fn secret(&self) -> Result<Secret, StoreError> {
        if let Some(secret) = &self.secret_access_key {
            return Ok(secret.clone());
        }
        let Some(path) = &self.secret_access_key_file else {
            return Err(StoreError::Settings(
                "storage.s3.secret_access_key is missing".into(),
            ));
        };
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| {
                StoreError::Settings(format!(
                    "storage.s3.secret_access_key_file {}: {error}",
                    path.display()
                ))
            })?;
        match text.trim() {
            "" => Err(StoreError::Settings(
                "storage.s3.secret_access_key_file is empty".into(),
            )),
            secret => Ok(Secret::new(secret)),
        }
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_timeout_ms)
    }

    pub(super) fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_timeout_ms)
    }
}

fn is_bucket_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && !name.contains("..")
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// Whether the authority at the start of `rest` is this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> S3Settings {
        S3Settings {
            endpoint: "https://s3.example".into(),
            bucket: "pictures".into(),
            access_key_id: "id".into(),
            secret_access_key: Some(Secret::new("secret")),
            ..S3Settings::default()
        }
    }

    #[test]
    fn complete_settings_are_accepted() {
        assert_eq!(s3().validate(), Ok(()));
        assert_eq!(StorageSettings::default().validate(), Ok(()));
    }

    #[test]
    fn every_wrong_field_is_named() {
        type Spoil = fn(&mut S3Settings);
        let cases: [(&str, Spoil); 9] = [
            ("endpoint", |s| s.endpoint = String::new()),
            ("endpoint", |s| s.endpoint = "ftp://x".into()),
            ("endpoint", |s| s.endpoint = "http://s3.example".into()),
            ("endpoint", |s| {
                s.endpoint = "http://127.0.0.1@s3.example".into()
            }),
            ("bucket", |s| s.bucket = "Not A Bucket".into()),
            ("secret_access_key", |s| s.secret_access_key = None),
            ("secret_access_key", |s| {
                s.secret_access_key_file = Some("x".into())
            }),
            ("max_attempts", |s| s.max_attempts = 0),
            ("part_bytes", |s| s.part_bytes = 1),
        ];
        for (field, spoil) in cases {
            let mut settings = s3();
            spoil(&mut settings);
            let error = settings.validate().unwrap_err();
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn plain_http_is_accepted_on_loopback_only() {
        for host in [
            "127.0.0.1:9000",
            "localhost/path",
            "[::1]:9000",
            "s3.localhost:1",
        ] {
            let settings = S3Settings {
                endpoint: format!("http://{host}"),
                ..s3()
            };
            assert_eq!(settings.validate(), Ok(()), "{host}");
        }
    }

    #[test]
    fn the_secret_can_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let settings = S3Settings {
            secret_access_key: None,
            secret_access_key_file: Some(file.path().into()),
            ..s3()
        };
        assert_eq!(settings.secret().unwrap().expose(), "from-file");
        std::fs::write(file.path(), " \n").unwrap();
        assert_eq!(settings.secret().unwrap_err().code(), "settings");
    }
}
