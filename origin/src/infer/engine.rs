//! The engine: models by name, rows of pictures, one step at a time.

use super::batch;
use super::error::InferError;
use super::folder;
use super::model::Model;
use super::pixels::Pixels;
use super::row::{BatchKey, Row};
use super::runtime::{Places, Runtime};
use super::settings::Settings;
use super::spec::{ImageSpec, ModelInfo};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Rows of the denoiser's batch that a plain [`Engine::generate`] uses at once.
const GENERATE_SLOTS: usize = 8;

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
    runtime: Runtime,
    scheduler: String,
    models: RwLock<Vec<Arc<Model>>>,
    refused: Vec<(PathBuf, InferError)>,
}

impl Engine {
    /// Loads ONNX Runtime and every model the settings name.
    ///
    /// # Errors
    /// No runtime, no device, or no usable model at all. A folder that cannot be used while
    /// another can is listed by [`Engine::refused`].
    pub fn load(settings: &Settings) -> Result<Self, InferError> {
        let runtime = Runtime::load(settings)?;
        let places = Places::of_this_process();
        let (mut models, mut refused): (Vec<Arc<Model>>, Vec<_>) = (Vec::new(), Vec::new());
        for path in &settings.models {
            let path = places.resolve(path);
            let found = folder::find(&path);
            if found.is_empty() {
                let error =
                    InferError::broken(&path, "holds no model (no unet, no model_index.json)");
                refused.push((path, error));
                continue;
            }
            for folder in found {
                match Model::load(&runtime, &folder, &settings.scheduler) {
                    Ok(model) if models.iter().any(|m| m.info.name == model.info.name) => {
                        let reason = format!("is another model called {:?}", model.info.name);
                        refused.push((folder.clone(), InferError::broken(folder, reason)));
                    }
                    Ok(model) => models.push(Arc::new(model)),
                    Err(error) => refused.push((folder, error)),
                }
            }
        }
        if models.is_empty() {
            let reasons: Vec<_> = refused.iter().map(|(_, error)| error.to_string()).collect();
            let reasons = match reasons.is_empty() {
                true => "infer.models is empty".to_owned(),
                false => reasons.join("; "),
            };
            return Err(InferError::NoModel { reasons });
        }
        let scheduler = settings.scheduler.clone();
        Ok(Self {
            runtime,
            scheduler,
            models: RwLock::new(models),
            refused,
        })
    }

    /// The loaded models; the first is the default one.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.list().iter().map(|model| model.info.clone()).collect()
    }

    /// The model of that name, or the default one for an empty name.
    pub fn model(&self, name: &str) -> Result<ModelInfo, InferError> {
        self.find(name).map(|model| model.info.clone())
    }

    /// Folders that were refused, with the reason.
    pub fn refused(&self) -> &[(PathBuf, InferError)] {
        &self.refused
    }

    /// `cpu` or `cuda`.
    pub fn device(&self) -> &'static str {
        self.runtime.device
    }

    /// Where ONNX Runtime was found.
    pub fn library(&self) -> &Path {
        &self.runtime.library
    }

    /// Loads one more model, or a changed one in place of its namesake, while others serve.
    pub fn load_model(&self, folder: &Path) -> Result<ModelInfo, InferError> {
        let model = Arc::new(Model::load(&self.runtime, folder, &self.scheduler)?);
        let info = model.info.clone();
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        match models.iter_mut().find(|known| known.info.name == info.name) {
            Some(known) => *known = model,
            None => models.push(model),
        }
        Ok(info)
    }

    /// Takes a model out; pictures under way finish, then its memory is given back.
    pub fn unload_model(&self, name: &str) -> Result<(), InferError> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let before = models.len();
        models.retain(|model| model.info.name != name);
        match models.len() < before {
            true => Ok(()),
            false => Err(InferError::UnknownModel(name.to_owned())),
        }
    }

    /// Seconds inside ONNX Runtime so far: text, denoiser, picture.
    pub fn seconds(&self) -> [f64; 3] {
        self.list()
            .iter()
            .map(|model| model.seconds())
            .fold([0.0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z])
    }

    /// Lays out the rows of a request, one a picture.
    ///
    /// # Errors
    /// `UnknownModel`, `BadSpec`, or a failure of the text encoder.
    pub fn rows(&self, spec: &ImageSpec) -> Result<Vec<Row>, InferError> {
        let model = self.find(&spec.model)?;
        model.info.validate(spec)?;
        Row::of_spec(&model, spec)
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
                .min(max_slots.max(2));
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

    /// Decodes a finished row.
    pub fn decode(&self, row: &Row) -> Result<Pixels, InferError> {
        row.decode()
    }

    /// What a row looks like so far, at half its size, where [`Row::want_preview`] asked for it.
    pub fn preview(&self, row: &mut Row) -> Option<Pixels> {
        row.take_preview()
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

    fn list(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Model>>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Arc<Model>, InferError> {
        let models = self.list();
        let found = match name {
            "" => models.first(),
            name => models.iter().find(|model| model.info.name == name),
        };
        found
            .cloned()
            .ok_or_else(|| InferError::UnknownModel(name.to_owned()))
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
