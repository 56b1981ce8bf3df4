//! Follows the certificate's files: looked at every few seconds, and at once on SIGHUP.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{LiveCertificate, Loaded};
use crate::telemetry::Metrics;

/// How often the files are looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// What of a file changes when it is replaced.
type Look = Option<(u64, u64, i64, i64)>;

impl LiveCertificate {
    /// Follows the files for ever. A pair that cannot be used is told to the log once, counted, and looked at again
    /// when it changes: renewals write two files, so the first may stand beside the other's predecessor for a moment.
    /// The certificate in use stays until then.
    ///
    /// # Errors
    /// SIGHUP cannot be listened to.
    pub async fn follow(self, metrics: Metrics) -> std::io::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut seen = self.looks();
        loop {
            let asked = tokio::select! {
                got = hang_up.recv() => got.is_some(),
                () = tokio::time::sleep(FOLLOW_EVERY) => false,
            };
            let found = self.looks();
            if asked || found != seen {
                seen = found;
                self.read(&metrics);
            }
        }
    }

    fn looks(&self) -> [Look; 2] {
        [look(&self.files.0), look(&self.files.1)]
    }

    /// Two small local files; not worth a thread.
    fn read(&self, metrics: &Metrics) {
        match Loaded::read(&self.files.0, &self.files.1) {
            Ok(loaded) => {
                let until = loaded.not_after;
                self.set(loaded);
                self.show(metrics);
                tracing::info!(until, "the certificate was read again");
            }
            Err(error) => {
                metrics.health.certificate_failures.inc();
                tracing::error!(%error, "the certificate stays as it was");
            }
        }
    }
}

fn look(file: &Path) -> Look {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
