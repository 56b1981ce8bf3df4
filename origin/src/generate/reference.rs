//! A job's pictures to start from: the caller's own uploads, looked up before anything is charged and read after.

use std::sync::Arc;

use shared::problem;

use crate::error::ApiError;
use crate::infer::{ImageSpec, InitImage, Mask, ModelInfo, Pixels};
use crate::startup::App;
use crate::state::images::ImageRow;
use crate::storage::StoreError;
use crate::upload::{Stored, Wanted};

/// How much of a picture is replaced where the caller does not say: most of it, and all of what a mask shows.
const STRENGTH: f32 = 0.8;

/// What a body says about it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) init_image: Option<String>,
    pub(super) mask: Option<String>,
    pub(super) strength: Option<f32>,
}

/// Uploads that are there and the caller's own.
#[derive(Debug)]
pub struct Reference {
    init: ImageRow,
    mask: Option<ImageRow>,
    strength: f32,
}

impl Asked {
    /// Looks the uploads up.
    ///
    /// # Errors
    /// `invalid_request` naming the field; `not_found` for an upload that is not there or not the caller's.
    pub(super) async fn find(
        self,
        app: &App,
        user: &str,
        model: &ModelInfo,
        spec: &ImageSpec,
    ) -> Result<Option<Reference>, ApiError> {
        let Some(id) = self.init_image else {
            return match (self.mask, self.strength) {
                (Some(_), _) => Err(invalid("mask needs an init_image")),
                (None, Some(_)) => Err(invalid("strength needs an init_image")),
                (None, None) => Ok(None),
            };
        };
        if !model.takes_image {
            return Err(invalid("init_image is not taken by this model"));
        }
        let usual = if self.mask.is_some() { 1.0 } else { STRENGTH };
        let strength = self.strength.unwrap_or(usual);
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(invalid("strength must be over 0 and at most 1"));
        }
        let init = upload(app, user, &id).await?;
        let mask = match self.mask {
            None => None,
            Some(id) => Some(upload(app, user, &id).await?),
        };
        let size = |row: &ImageRow| (row.width, row.height);
        if mask.as_ref().is_some_and(|mask| size(mask) != size(&init)) {
            return Err(invalid("mask must have the size of init_image"));
        }
        let reference = Reference {
            init,
            mask,
            strength,
        };
        if reference.steps_run(spec.steps) == 0 {
            return Err(invalid("strength leaves no step to run"));
        }
        Ok(Some(reference))
    }
}

impl Reference {
    /// Pixels of the picture and of its mask, as they are stored.
    pub(super) fn pixels(&self) -> Vec<u64> {
        let rows = [Some(&self.init), self.mask.as_ref()];
        let pixels = |row: &ImageRow| u64::from(row.width) * u64::from(row.height);
        rows.into_iter().flatten().map(pixels).collect()
    }

    /// Steps that are left of so many.
    pub(super) fn steps_run(&self, steps: usize) -> usize {
        ((steps as f32 * self.strength) as usize).min(steps)
    }

    /// Reads the uploads and brings them to the size of the job.
    ///
    /// # Errors
    /// The store's, and `uploads_busy` while there is no memory for them.
    pub(super) async fn load(&self, app: &App, spec: &ImageSpec) -> Result<InitImage, ApiError> {
        let (width, height) = (spec.width, spec.height);
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let wanted = Wanted {
            width: side(width),
            height: side(height),
        };
        let uploads = app.uploads.of(&self.init.user_id);
        let rgb = uploads.to_rgb(stored(&self.init), read(app, &self.init), wanted);
        let pixels = Pixels {
            width,
            height,
            rgb: rgb.await?,
            seed: 0,
        };
        let mask = match &self.mask {
            None => None,
            Some(row) => {
                let values = uploads.to_mask(stored(row), read(app, row), wanted).await?;
                Some(Arc::new(Mask {
                    width,
                    height,
                    values,
                }))
            }
        };
        Ok(InitImage {
            pixels: Arc::new(pixels),
            strength: self.strength,
            mask,
        })
    }
}

fn invalid(text: &str) -> ApiError {
    ApiError::Invalid(text.into())
}

/// Another user's upload, an expired one, and what is no upload at all are alike not there.
async fn upload(app: &App, user: &str, id: &str) -> Result<ImageRow, ApiError> {
    let now = app.clock.seconds();
    let row = app.state.image(user, id).await?;
    row.filter(|row| row.key.as_str().starts_with("uploads/"))
        .filter(|row| row.expires.is_none_or(|at| now < at))
        .ok_or(ApiError::Problem(problem::NOT_FOUND))
}

fn stored(row: &ImageRow) -> Stored {
    Stored {
        width: row.width,
        height: row.height,
        bytes: row.bytes,
    }
}

async fn read(app: &App, row: &ImageRow) -> Result<bytes::Bytes, ApiError> {
    match app.store.get(&row.key, None).await {
        Ok(object) => Ok(object.body.collect().await?),
        // Deleted since it was looked up.
        Err(StoreError::NotFound) => Err(ApiError::Problem(problem::NOT_FOUND)),
        Err(error) => Err(error.into()),
    }
}
