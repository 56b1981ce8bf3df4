//! What follows from what was found, a page at a time.

use std::collections::BTreeMap;

use shared::object_key::ObjectKey;

use super::judge::{Kind, kind, lifetime};
use super::report::Report;
use super::{Sweep, SweepSettings, object_age};
use crate::generate::KEEP_RESULTS_SECONDS;
use crate::startup::StartError;
use crate::state::images::ImageRow;
use crate::state::sweeping::{KnownImage, Stage};
use crate::storage::{ObjectInfo, StoreError};

/// What a page asks for.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Object and row go.
    expired: Vec<(ObjectInfo, ImageRow)>,
    /// A deletion that was begun.
    deleting: Vec<(Option<ObjectInfo>, ImageRow)>,
    /// Pending rows whose object is whole.
    whole: Vec<ImageRow>,
    /// Pending rows whose object is not.
    broken: Vec<(Option<ObjectInfo>, ImageRow)>,
    resized: Vec<(ImageRow, u64)>,
    /// Listed rows whose object was not on the page.
    missing: Vec<ImageRow>,
    /// Previews past their day.
    previews: Vec<ObjectInfo>,
    /// Pictures without a row.
    rowless: Vec<ObjectInfo>,
    unknown: Vec<ObjectKey>,
    young: u64,
}

impl Batch {
    pub(super) fn both(
        &mut self,
        object: &ObjectInfo,
        known: KnownImage,
        now: u64,
        settings: &SweepSettings,
    ) {
        let KnownImage { row, stage } = known;
        let old = now.saturating_sub(row.created) >= settings.grace_seconds();
        match stage {
            Stage::Deleting => self.deleting.push((Some(object.clone()), row)),
            Stage::Pending if !old => self.young += 1,
            // A job's end lists its pictures: this one's ended without it.
            Stage::Pending if object.size == row.bytes && row.job_id.is_none() => {
                self.whole.push(row);
            }
            Stage::Pending => self.broken.push((Some(object.clone()), row)),
            Stage::Stored if row.expires.is_some_and(|at| at <= now) => {
                self.expired.push((object.clone(), row));
            }
            Stage::Stored if object.size != row.bytes => self.resized.push((row, object.size)),
            Stage::Stored => {}
        }
    }

    pub(super) fn alone(&mut self, object: ObjectInfo, now: u64, settings: &SweepSettings) {
        let old = |seconds| object_age(&object, now).is_some_and(|age| age >= seconds);
        match kind(&object.key) {
            Kind::Unknown => self.unknown.push(object.key),
            Kind::Preview if lifetime(&object.key).is_some_and(old) => self.previews.push(object),
            Kind::Preview => {}
            Kind::Picture if old(settings.grace_seconds()) => self.rowless.push(object),
            Kind::Picture => self.young += 1,
        }
    }

    pub(super) fn missing(&mut self, known: KnownImage, now: u64, settings: &SweepSettings) {
        let KnownImage { row, stage } = known;
        let old = now.saturating_sub(row.created) >= settings.grace_seconds();
        match stage {
            Stage::Deleting => self.deleting.push((None, row)),
            Stage::Pending if old => self.broken.push((None, row)),
            Stage::Pending => self.young += 1,
            Stage::Stored => self.missing.push(row),
        }
    }
}

impl Sweep {
    pub(super) async fn carry_out(
        &self,
        batch: Batch,
        now: u64,
        report: &mut Report,
    ) -> Result<(), StartError> {
        report.in_flight += batch.young;
        report.foreign += batch.unknown.len() as u64;
        for key in &batch.unknown {
            report.note("foreign", key.as_str());
        }
        report.settled += batch.whole.len() as u64;
        if !self.dry_run && !batch.whole.is_empty() {
            let ids = batch.whole.into_iter().map(|row| row.id).collect();
            self.state.commit_images(ids).await?;
        }
        report.resized += batch.resized.len() as u64;
        for (row, size) in batch.resized {
            report.note("resized", row.key.as_str());
            if !self.dry_run {
                self.state.resize_image(&row.id, size).await?;
            }
        }
        report.expired += batch.expired.len() as u64;
        report.settled += (batch.deleting.len() + batch.broken.len()) as u64;
        let mut going: Vec<(Option<ObjectInfo>, ImageRow)> = batch.deleting;
        going.extend(batch.broken);
        going.extend(
            batch
                .expired
                .into_iter()
                .map(|(object, row)| (Some(object), row)),
        );
        self.remove(going, report).await?;
        for row in batch.missing {
            self.missing(row, report).await?;
        }
        report.expired += batch.previews.len() as u64;
        let mut gone = batch.previews;
        gone.extend(self.rowless(batch.rowless, now, report).await?);
        report.freed += gone.iter().map(|object| object.size).sum::<u64>();
        if !self.dry_run {
            let keys = gone.into_iter().map(|object| object.key).collect();
            self.store.delete_many(keys).await?;
        }
        Ok(())
    }

    /// Off the list, then the objects, then the rows: a crash in between is settled by the next start or sweep.
    async fn remove(
        &self,
        going: Vec<(Option<ObjectInfo>, ImageRow)>,
        report: &mut Report,
    ) -> Result<(), StartError> {
        let objects = going.iter().filter_map(|(object, _)| object.as_ref());
        report.freed += objects.map(|object| object.size).sum::<u64>();
        if self.dry_run || going.is_empty() {
            return Ok(());
        }
        let rows: Vec<ImageRow> = going.into_iter().map(|(_, row)| row).collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        self.state.unlist_images(ids).await?;
        let keys = rows.iter().map(|row| row.key.clone()).collect();
        self.store.delete_many(keys).await?;
        let rows = rows.into_iter().map(|row| (row.user_id, row.id)).collect();
        Ok(self.state.remove_images(rows).await?)
    }

    /// A listed row whose object is not under its key: it moved, or it is gone.
    async fn missing(&self, row: ImageRow, report: &mut Report) -> Result<(), StartError> {
        // The page may be older than the row.
        if self.is_there(&row.key).await? {
            return Ok(());
        }
        if let Some(other) = row.key.counterpart()
            && self.is_there(&other).await?
        {
            report.settled += 1;
            report.note("moved", other.as_str());
            if !self.dry_run {
                let kept = other.as_str().starts_with("kept/");
                let expires = (!kept).then(|| self.clock.seconds() + KEEP_RESULTS_SECONDS);
                self.state.move_image(&row.id, &other, expires).await?;
            }
            return Ok(());
        }
        report.missing += 1;
        report.note("missing", row.key.as_str());
        if !self.dry_run {
            self.state.remove_image(&row.user_id, &row.id).await?;
        }
        Ok(())
    }

    async fn is_there(&self, key: &ObjectKey) -> Result<bool, StartError> {
        match self.store.head(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Of pictures without a row, those that may go: second copies of a move, and what is older than anything of its
    /// prefix may be. The others are orphans.
    async fn rowless(
        &self,
        objects: Vec<ObjectInfo>,
        now: u64,
        report: &mut Report,
    ) -> Result<Vec<ObjectInfo>, StartError> {
        let mut gone = Vec::new();
        let twins = objects.iter().filter_map(|object| object.key.counterpart());
        let twins = twins.map(|key| key.as_str().to_owned()).collect();
        // A row may also have been written since the page was read.
        let mut asked: Vec<String> = twins;
        asked.extend(objects.iter().map(|object| object.key.as_str().to_owned()));
        let rows = if asked.is_empty() {
            Vec::new()
        } else {
            self.state.rows_of_keys(asked).await?
        };
        let rows: BTreeMap<String, KnownImage> = rows
            .into_iter()
            .map(|known| (known.row.key.as_str().to_owned(), known))
            .collect();
        for object in objects {
            if rows.contains_key(object.key.as_str()) {
                continue;
            }
            let twin = object.key.counterpart();
            let twin = twin.filter(|twin| rows.contains_key(twin.as_str()));
            if let Some(twin) = twin {
                // Only a second copy may go; where the row's own object is missing, this is the picture itself.
                if self.is_there(&twin).await? {
                    report.settled += 1;
                    report.note("second-copy", object.key.as_str());
                    gone.push(object);
                }
                continue;
            }
            let past = lifetime(&object.key)
                .zip(object_age(&object, now))
                .is_some_and(|(life, age)| age >= life);
            if past {
                report.expired += 1;
                gone.push(object);
                continue;
            }
            report.orphans += 1;
            report.note("orphan", object.key.as_str());
            if self.settings.remove_orphans {
                report.orphans_removed += 1;
                gone.push(object);
            }
        }
        Ok(gone)
    }
}
