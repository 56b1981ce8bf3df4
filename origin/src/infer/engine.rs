//! The engine: models by name, rows of pictures, one step at a time.

use super::batch;
use super::error::InferError;
use super::pixels::Pixels;
use super::preview::Draft;
use super::row::{BatchKey, Row};
use super::settings::Settings;
use super::shelf::{Changes, Refused, Shelf};
use super::spec::{ImageSpec, ModelInfo};
use super::truncation::Truncated;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Rows of the denoiser's batch that a plain [`Engine::generate`] uses at once.
const GENERATE_SLOTS: usize = 8;

/// Pixels of a request whose rows are laid out between two steps; the noise of larger ones is drawn
/// beside them.
const READY_PIXELS: usize = 1 << 20;

/// Progress of [`Engine::generate`], after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEvent {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
}

/// Models loaded on one device.
pub struct Engine {
    shelf: Shelf,
}

impl Engine {
    /// Loads ONNX Runtime and every model the settings name.
    ///
    /// # Errors
    /// No runtime, no device, or no usable model at all. A folder that cannot be used while
    /// another can is listed by [`Engine::refused`].
    pub fn load(settings: &Settings) -> Result<Self, InferError> {
        Self::load_on(settings, settings.gpus.first().copied().unwrap_or(0))
    }

    /// As [`Engine::load`]; where it is on a GPU, on that one.
    pub fn load_on(settings: &Settings, gpu: u32) -> Result<Self, InferError> {
        let shelf = Shelf::open(settings, gpu)?;
        Ok(Self { shelf })
    }

    /// An engine without models, a library or a device, where all pictures come from elsewhere.
    pub fn empty() -> Self {
        let shelf = Shelf::empty();
        Self { shelf }
    }

    /// The loaded models; the first is the default one.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.shelf.infos()
    }

    /// The model of that name, or the default one for an empty name.
    pub fn model(&self, name: &str) -> Result<ModelInfo, InferError> {
        self.shelf.find(name).map(|model| model.info.clone())
    }

    /// Where a loaded model came from.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        self.shelf.folder(name)
    }

    /// Folders that were refused when they were read last, with the reason.
    pub fn refused(&self) -> Vec<Refused> {
        self.shelf.refused()
    }

    /// `cpu`, `cuda`, or `none` without models.
    pub fn device(&self) -> &'static str {
        self.shelf
            .runtime()
            .map_or("none", |runtime| runtime.device)
    }

    /// Where ONNX Runtime was found.
    pub fn library(&self) -> &Path {
        let runtime = self.shelf.runtime();
        runtime.map_or(Path::new(""), |runtime| &runtime.library)
    }

    /// Reads the configured folders anew while the models serve. Blocks while models load.
    ///
    /// # Errors
    /// `NoModel` when nothing would be left: then all stays as it was.
    pub fn reload(&self) -> Result<Changes, InferError> {
        self.shelf.reload()
    }

    /// Takes a model out until the folders are read anew. Pictures under way finish; jobs that
    /// have not begun fail with `unknown_model`.
    ///
    /// # Errors
    /// `UnknownModel`, `LastModel`.
    pub fn unload(&self, name: &str) -> Result<(), InferError> {
        self.shelf.unload(name)
    }

    /// Pixels of the smallest denoiser call that can carry a picture of this request: its size
    /// times its rows, or times those that the export fixed.
    pub fn call_pixels(&self, spec: &ImageSpec) -> u64 {
        let (rows, fixed) = match self.shelf.find(&spec.model) {
            Ok(model) => (model.branches(spec.guidance_scale), model.fixed_rows),
            Err(_) => (spec.branches(), None),
        };
        let area = spec.width as u64 * spec.height as u64;
        area.saturating_mul(rows.max(fixed.unwrap_or(1)) as u64)
    }

    /// Most denoiser rows that the memory budget allows in a call with pictures of this request.
    pub fn most_rows(&self, spec: &ImageSpec) -> usize {
        let pixels = spec.width as u64 * spec.height as u64;
        let model = self.shelf.find(&spec.model);
        model.map_or(usize::MAX, |model| model.most_rows(pixels))
    }

    /// Bytes by which one picture of this request would exceed the memory budget; 0 when it fits.
    pub fn shortage(&self, spec: &ImageSpec) -> u64 {
        let (Ok(model), Some(runtime)) = (self.shelf.find(&spec.model), self.shelf.runtime())
        else {
            return 0;
        };
        let pixels = spec.width as u64 * spec.height as u64;
        let rows = model.branches(spec.guidance_scale);
        let need = model.need(pixels, rows.max(model.fixed_rows.unwrap_or(1)));
        let left = runtime.ledger.left();
        match self.shelf.overlaps() {
            // The ends of the largest picture are set aside.
            true => need.call.saturating_sub(runtime.ledger.left_for_a_call()),
            false => need.total(false).saturating_sub(left),
        }
    }

    /// Seconds inside ONNX Runtime so far: text, denoiser, picture.
    pub fn seconds(&self) -> [f64; 3] {
        self.shelf.seconds()
    }

    /// Lays out the rows of a request, one a picture.
    ///
    /// # Errors
    /// `UnknownModel`, `BadSpec`, or a failure of the text encoder.
    pub fn rows(&self, spec: &ImageSpec) -> Result<Vec<Row>, InferError> {
        let model = self.shelf.find(&spec.model)?;
        model.info.validate(spec)?;
        Row::of_spec(&model, spec)
    }

    /// The prompts of a request that are longer than its model takes; none where it is not loaded.
    pub fn truncated(&self, spec: &ImageSpec) -> Vec<Truncated> {
        let model = self.shelf.find(&spec.model);
        model.map_or_else(|_| Vec::new(), |model| model.truncated(spec))
    }

    /// Encodes the prompts of a request that will come up soon. A failure shows in its turn.
    pub fn prepare(&self, spec: &ImageSpec) {
        if let Ok(model) = self.shelf.find(&spec.model) {
            let (prompt, negative) = model.prompts_of(spec);
            drop(model.condition(prompt, false));
            drop(negative.map(|prompt| model.condition(prompt, true)));
        }
    }

    /// Whether the rows of a request take neither the text encoder nor a picture to start from.
    pub fn is_ready(&self, spec: &ImageSpec) -> bool {
        let Ok(model) = self.shelf.find(&spec.model) else {
            return false;
        };
        let (prompt, negative) = model.prompts_of(spec);
        let knows_negative = negative.is_none_or(|prompt| model.knows(prompt, true));
        // Drawing the first noise is a matter of microseconds up to here.
        let is_small = spec.n * spec.width * spec.height <= READY_PIXELS;
        is_small && spec.init.is_none() && knows_negative && model.knows(prompt, false)
    }

    /// Takes one step with every row, sharing denoiser calls where keys agree, at most
    /// `max_slots` of the denoiser's rows a call. Each row's own outcome comes back in order; a
    /// row that failed is spent, its neighbours are not.
    pub fn step(&self, rows: &mut [&mut Row], max_slots: usize) -> Vec<Result<(), InferError>> {
        let mut outcomes: Vec<Result<(), InferError>> = rows.iter().map(|_| Ok(())).collect();
        let mut rows: Vec<(usize, &mut Row)> =
            rows.iter_mut().map(|row| &mut **row).enumerate().collect();
        while let Some((_, first)) = rows.first() {
            let key = first.batch_key();
            let limit = first
                .model
                .fixed_rows
                .unwrap_or(max_slots)
                .min(max_slots.max(1))
                .min(first.most_rows());
            let (positions, mut chunk, rest) = take_chunk(rows, key, limit);
            rows = rest;
            let results = match batch::step(&mut chunk) {
                Ok(results) => results,
                // One row alone may still go through where the batch did not.
                Err(error) if chunk.len() == 1 => vec![Err(error)],
                Err(_) => chunk
                    .iter_mut()
                    .map(|row| {
                        batch::step(&mut [row]).and_then(|mut one| one.pop().unwrap_or(Ok(())))
                    })
                    .collect(),
            };
            for (position, result) in positions.into_iter().zip(results) {
                if let Some(outcome) = outcomes.get_mut(position) {
                    *outcome = result;
                }
            }
        }
        outcomes
    }

    /// The shelf, to be looked at.
    #[cfg(test)]
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Decodes a finished row.
    pub fn decode(&self, row: &Row) -> Result<Pixels, InferError> {
        row.decode()
    }

    /// What a row looks like so far, still to be drawn, where [`Row::want_preview`] asked for it.
    pub fn draft(&self, row: &mut Row) -> Option<Draft> {
        row.take_draft()
    }

    /// Draws a preview, at half the picture's size; `None` when the decoder's size is fixed.
    pub fn draw(&self, draft: &Draft) -> Option<Pixels> {
        draft.draw()
    }

    /// Makes all pictures of a request, blocking. `on_step` may break off at any step.
    ///
    /// # Errors
    /// See [`InferError`]; `Cancelled` when `on_step` broke off.
    pub fn generate(
        &self,
        spec: &ImageSpec,
        on_step: &mut dyn FnMut(StepEvent) -> ControlFlow<()>,
    ) -> Result<Vec<Pixels>, InferError> {
        let mut rows = self.rows(spec)?;
        let steps = rows.first().map_or(0, Row::calls);
        for step in 1..=steps {
            let mut refs: Vec<&mut Row> = rows.iter_mut().collect();
            self.step(&mut refs, GENERATE_SLOTS)
                .into_iter()
                .collect::<Result<(), _>>()?;
            if on_step(StepEvent { step, steps }).is_break() {
                return Err(InferError::Cancelled);
            }
        }
        rows.iter().map(|row| self.decode(row)).collect()
    }
}

type Chunk<'a> = (Vec<usize>, Vec<&'a mut Row>, Vec<(usize, &'a mut Row)>);

/// Takes rows of that key out until `limit` slots are full; guidance pairs stay together.
fn take_chunk<'a>(rows: Vec<(usize, &'a mut Row)>, key: BatchKey, limit: usize) -> Chunk<'a> {
    let (mut positions, mut chunk, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut slots = 0;
    for (position, row) in rows {
        let fits = chunk.is_empty() || slots + row.slots() <= limit;
        if row.batch_key() == key && fits {
            slots += row.slots();
            positions.push(position);
            chunk.push(row);
        } else {
            rest.push((position, row));
        }
    }
    (positions, chunk, rest)
}
