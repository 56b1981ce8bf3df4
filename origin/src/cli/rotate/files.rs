//! A keyring's file, and what a rotation notes down beside it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use shared::edge_auth::WINDOW;
use shared::keyring::Keyring;
use shared::link::{CLOCK_SKEW, MAX_LIFE};

use crate::config::Settings;
use crate::secret::Secret;
use crate::startup::{StartError, link_key_file};

/// Seconds after which no request of the edge, and no answer to one, is under way that an old key signed.
const EDGE_LIFE: u64 = 2 * WINDOW + CLOCK_SKEW;

/// The keyring's file and what lies beside it.
pub(super) struct Files {
    /// Whether it is the ring between edge and origin.
    pub(super) is_edge: bool,
    /// `kid:key,…`.
    pub(super) ring: PathBuf,
    /// The new pair while it is being brought in.
    pub(super) next: PathBuf,
    /// `kid unix-seconds` for each key that stopped signing.
    pub(super) stopped: PathBuf,
}

impl Files {
    pub(super) fn of(settings: &Settings, is_edge: bool) -> Result<Self, StartError> {
        let ring = if is_edge {
            settings.edge.keys_file.clone().ok_or(
                "no file holds the edge keys; put them into one that edge.keys_file names, so that they can be rotated",
            )?
        } else {
            link_key_file(settings).ok_or(
                "the link keys come from SIGNET_IMAGES__KEYS; put them into a file that images.keys_file names, so that they can be rotated",
            )?
        };
        let beside = |ending: &str| {
            let mut name = ring.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            ring.with_file_name(name)
        };
        Ok(Self {
            is_edge,
            next: beside(".next"),
            stopped: beside(".stopped"),
            ring,
        })
    }

    pub(super) fn read(&self) -> Result<(Secret, Keyring), StartError> {
        let text = Secret::new(fs::read_to_string(&self.ring)?.trim().to_owned());
        let ring = Keyring::parse(text.expose())?;
        Ok((text, ring))
    }

    /// Replaces the ring's file, whole or not at all; who owns it stays.
    pub(super) fn write(&self, text: &Secret) -> Result<(), StartError> {
        Keyring::parse(text.expose())?;
        replace(&self.ring, text.expose())
    }

    /// How long what a key signed may live after its last signature, in seconds.
    pub(super) fn life(&self) -> u64 {
        if self.is_edge {
            EDGE_LIFE
        } else {
            MAX_LIFE + CLOCK_SKEW
        }
    }

    /// What a key signs, and how it is named in a command.
    pub(super) fn words(&self) -> (&'static str, &'static str) {
        if self.is_edge {
            ("request", " --edge-keys")
        } else {
            ("link", "")
        }
    }

    /// When `kid` signed for the last time.
    pub(super) fn stopped_at(&self, kid: &str) -> Option<u64> {
        let text = fs::read_to_string(&self.stopped).ok()?;
        let line = text.lines().rev().find_map(|line| {
            let (other, at) = line.split_once(' ')?;
            (other == kid).then_some(at)
        });
        line?.parse().ok()
    }
}

/// Replaces a file of mode 600, whole or not at all; who owns it stays.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), StartError> {
    let partial = file.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut out = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    out.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(file) {
        // An operator's command must not take the file from the service's user.
        let new = out.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            chown(&partial, Some(old.uid()), Some(old.gid()))?;
        }
    }
    out.sync_all()?;
    fs::rename(partial, file)?;
    Ok(())
}
