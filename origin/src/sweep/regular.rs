//! The running service's own sweeps.

use std::time::Duration;

use super::Sweep;
use crate::startup::App;

/// Until the first sweep of a fresh service: start-up is busy enough.
const FIRST: Duration = Duration::from_secs(300);

/// Starts the regular sweeps, unless the settings leave them to the operator. They end with the runtime.
pub fn regularly(app: &App) {
    let settings = app.settings.sweep;
    if settings.every_hours == 0 {
        return;
    }
    let sweep = Sweep {
        store: app.store.clone(),
        state: app.state.clone(),
        clock: app.clock.clone(),
        settings,
        dry_run: false,
        // Not the command's: each goes on where it was itself interrupted.
        cursor_file: Some(app.settings.state.file.with_file_name("sweep-of-service")),
    };
    let pause = Duration::from_secs(u64::from(settings.every_hours) * 3600);
    tokio::spawn(async move {
        tokio::time::sleep(FIRST.min(pause)).await;
        loop {
            match sweep.run(|_| ()).await {
                Ok(report) => tracing::info!(
                    objects = report.objects,
                    expired = report.expired,
                    settled = report.settled,
                    half_written = report.half_written,
                    missing = report.missing,
                    orphans = report.orphans,
                    foreign = report.foreign,
                    freed = report.freed,
                    "swept"
                ),
                Err(error) => {
                    tracing::error!(%error, "a sweep was cut short; the next one goes on there")
                }
            }
            tokio::time::sleep(pause).await;
        }
    });
}
