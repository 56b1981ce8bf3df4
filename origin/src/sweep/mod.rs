//! Sweeping: store and ledger are walked side by side in the order of their keys, and each difference is explained or
//! left alone.
//!
//! What has expired goes; what a crash left between two steps is settled; rows without objects give their bytes back;
//! usage is counted anew. Orphans are told, and go only where the operator says so, since a ledger restored from an old
//! backup makes orphans of good pictures. What has no name of ours is never touched.

mod act;
mod cursor;
mod judge;
mod regular;
mod report;
mod settings;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::startup::StartError;
use crate::state::{State, StateError};
use crate::storage::{Listing, ObjectInfo, Store};

pub use cursor::Cursor;
pub use judge::lifetime;
pub use regular::regularly;
pub use report::Report;
pub use settings::SweepSettings;

/// Rows read at once.
const ROWS: usize = 4_000;

/// A sweep to be.
#[derive(Debug)]
pub struct Sweep {
    /// Where the objects lie.
    pub store: Store,
    /// The ledger.
    pub state: State,
    /// The time.
    pub clock: Clock,
    /// How it goes about it.
    pub settings: SweepSettings,
    /// Tells and changes nothing.
    pub dry_run: bool,
    /// Where it notes how far it came; a dry run notes nothing.
    pub cursor_file: Option<PathBuf>,
}

impl Sweep {
    /// Walks over everything, or over what an interrupted sweep left. `tell` hears of every page.
    ///
    /// # Errors
    /// The store's or the state's; what was done until then is done, and the next sweep goes on there.
    pub async fn run(&self, mut tell: impl FnMut(&Report)) -> Result<Report, StartError> {
        let now = self.clock.seconds();
        let file = self.cursor_file.as_deref().filter(|_| !self.dry_run);
        let mut cursor = file.map_or_else(Cursor::default, |file| Cursor::read(file, now));
        let mut report = Report {
            resumed: cursor.after.clone(),
            rows: self.state.count_images().await?,
            ..Report::default()
        };
        let mut pages = self.store.walk(cursor.after.clone());
        let mut after = cursor.after.clone().unwrap_or_default();
        while let Some(page) = pages.next().await {
            let page = page?;
            let last = page.next.clone();
            self.page(page, &after, last.as_deref(), now, &mut report)
                .await?;
            tell(&report);
            let Some(last) = last else { break };
            after.clone_from(&last);
            if let Some(file) = file {
                cursor.note(file, last, now)?;
            }
        }
        self.unfinished(now, &mut report).await?;
        self.all_is_known()?;
        for wrong in self.state.correct_usage(self.dry_run).await? {
            report.usage(&wrong);
        }
        if let Some(file) = file {
            Cursor::clear(file)?;
        }
        tell(&report);
        Ok(report)
    }

    /// Judges the objects of a page beside the rows of the same stretch of keys.
    async fn page(
        &self,
        page: Listing,
        after: &str,
        until: Option<&str>,
        now: u64,
        report: &mut Report,
    ) -> Result<(), StartError> {
        report.seen(&page);
        let mut batch = act::Batch::default();
        let mut objects = page.objects.into_iter().peekable();
        let mut from = after.to_owned();
        loop {
            let rows = self.state.rows_between(&from, until, ROWS).await?;
            let full = rows.len() == ROWS;
            if let Some(last) = rows.last() {
                from = last.row.key.as_str().to_owned();
            }
            for known in rows {
                while let Some(object) = objects.next_if(|object| object.key < known.row.key) {
                    batch.alone(object, now, &self.settings);
                }
                match objects.next_if(|object| object.key == known.row.key) {
                    Some(object) => batch.both(&object, known, now, &self.settings),
                    None => batch.missing(known, now, &self.settings),
                }
            }
            if !full {
                break;
            }
        }
        for object in objects {
            batch.alone(object, now, &self.settings);
        }
        self.all_is_known()?;
        self.carry_out(batch, now, report).await
    }

    /// What another origin wrote while the shared state is away would look like an orphan here.
    fn all_is_known(&self) -> Result<(), StartError> {
        if self.state.is_away() {
            return Err(StateError::Away("nothing is removed meanwhile".into()).into());
        }
        Ok(())
    }

    async fn unfinished(&self, now: u64, report: &mut Report) -> Result<(), StartError> {
        for write in self.store.unfinished().await? {
            let age = age(write.begun, now);
            if age.is_some_and(|age| age >= self.settings.grace_seconds()) {
                report.half_written += 1;
                report.freed += write.size.unwrap_or(0);
                report.note("half-written", &write.name);
                if !self.dry_run {
                    self.store.drop_unfinished(&write).await?;
                }
            } else {
                report.in_flight += 1;
            }
        }
        Ok(())
    }
}

/// Seconds since a time; none when it is unknown, so that what has no age is never old.
fn age(time: Option<SystemTime>, now: u64) -> Option<u64> {
    let since = time?.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(now.saturating_sub(since.as_secs()))
}

fn object_age(object: &ObjectInfo, now: u64) -> Option<u64> {
    age(object.modified, now)
}
