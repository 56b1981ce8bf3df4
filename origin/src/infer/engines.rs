//! One engine for each GPU, with the same models; on the CPU there is one.

use super::engine::Engine;
use super::error::InferError;
use super::settings::{Device, Settings};
use super::shelf::{Changes, Refused};
use super::spec::{ImageSpec, ModelInfo};
use super::truncation::Truncated;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The engines of this process; at least one.
pub struct Engines {
    first: Arc<Engine>,
    others: Vec<Arc<Engine>>,
}

impl Engines {
    /// Loads ONNX Runtime, and every model that the settings name on every GPU that they name.
    ///
    /// # Errors
    /// No runtime, no usable model at all, or a GPU that is demanded and not to be had. One that
    /// is only wished for is done without.
    pub fn load(settings: &Settings) -> Result<Self, InferError> {
        let (first, rest) = match settings.gpus.as_slice() {
            [] => (0, [].as_slice()),
            [first, rest @ ..] => (*first, rest),
        };
        let first = Engine::load_on(settings, first)?;
        if first.device() != "cuda" {
            return Ok(Self::of(Arc::new(first), Vec::new()));
        }
        // Nothing is loaded on the CPU for a GPU that is not there.
        let on_gpu = Settings {
            device: Device::Cuda,
            ..settings.clone()
        };
        let mut others = Vec::new();
        for loaded in at_once(rest, |gpu| Engine::load_on(&on_gpu, *gpu)) {
            match loaded {
                Ok(engine) => others.push(Arc::new(engine)),
                Err(error) if settings.device == Device::Cuda => return Err(error),
                Err(error) => tracing::warn!(%error, "a GPU cannot be used and is done without"),
            }
        }
        Ok(Self::of(Arc::new(first), others))
    }

    /// Without models, a library or a device, where all pictures come from elsewhere.
    pub fn empty() -> Self {
        Self::of(Arc::new(Engine::empty()), Vec::new())
    }

    /// These engines.
    pub fn of(first: Arc<Engine>, others: Vec<Arc<Engine>>) -> Self {
        Self { first, others }
    }

    /// Each engine, the first GPU's first.
    pub fn each(&self) -> impl Iterator<Item = &Arc<Engine>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The models that are loaded somewhere; the first is the default one.
    pub fn models(&self) -> Vec<ModelInfo> {
        let mut models: Vec<ModelInfo> = Vec::new();
        for model in self.each().flat_map(|engine| engine.models()) {
            if !models.iter().any(|known| known.name == model.name) {
                models.push(model);
            }
        }
        models
    }

    /// The model of that name, or the default one for an empty name.
    ///
    /// # Errors
    /// `UnknownModel`.
    pub fn model(&self, name: &str) -> Result<ModelInfo, InferError> {
        let elsewhere = || {
            self.others
                .iter()
                .find_map(|engine| engine.model(name).ok())
        };
        let found = self.first.model(name);
        found.or_else(|error| elsewhere().ok_or(error))
    }

    /// The prompts of a request that are longer than its model takes; none where it is not loaded.
    pub fn truncated(&self, spec: &ImageSpec) -> Vec<Truncated> {
        let mut engines = self
            .each()
            .filter(|engine| engine.model(&spec.model).is_ok());
        engines
            .next()
            .map_or_else(Vec::new, |engine| engine.truncated(spec))
    }

    /// Where a loaded model came from.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        self.each().find_map(|engine| engine.folder(name))
    }

    /// Folders that were refused when they were read last, with the reason; on any of the GPUs.
    pub fn refused(&self) -> Vec<Refused> {
        let mut refused: Vec<Refused> = Vec::new();
        for one in self.each().flat_map(|engine| engine.refused()) {
            let told = one.1.to_string();
            let known = |other: &Refused| other.0 == one.0 && other.1.to_string() == told;
            if !refused.iter().any(known) {
                refused.push(one);
            }
        }
        refused
    }

    /// `cpu`, `cuda`, or `none` without models.
    pub fn device(&self) -> &'static str {
        self.first.device()
    }

    /// Where ONNX Runtime was found.
    pub fn library(&self) -> &Path {
        self.first.library()
    }

    /// Reads the configured folders anew while the models serve. Blocks while models load.
    ///
    /// # Errors
    /// `NoModel` where nothing would be left: there all stays as it was.
    pub fn reload(&self) -> Result<Changes, InferError> {
        let engines: Vec<_> = self.each().collect();
        let mut outcomes = at_once(&engines, |engine| engine.reload()).into_iter();
        let first = outcomes.next().unwrap_or(Ok(Changes::default()));
        let others: Result<Vec<_>, _> = outcomes.collect();
        others.and(first)
    }

    /// Takes a model out until the folders are read anew.
    ///
    /// # Errors
    /// `UnknownModel`, `LastModel`.
    pub fn unload(&self, name: &str) -> Result<(), InferError> {
        let only = |engine: &Arc<Engine>| {
            let models = engine.models();
            models.len() == 1 && models.iter().any(|model| model.name == name)
        };
        // It stays everywhere or goes everywhere.
        if self.each().any(only) {
            return Err(InferError::LastModel(name.to_owned()));
        }
        let outcomes = self.each().map(|engine| engine.unload(name));
        // One that never came to a GPU is out there already.
        let told =
            |outcome: &Result<(), InferError>| !matches!(outcome, Err(InferError::UnknownModel(_)));
        let outcomes: Vec<_> = outcomes.filter(told).collect();
        match outcomes.is_empty() {
            true => Err(InferError::UnknownModel(name.to_owned())),
            false => outcomes.into_iter().collect(),
        }
    }
}

/// Does the work for all at the same time, and gives what comes of it in their order.
fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads = items.iter().map(|item| scope.spawn(move || work(item)));
        let threads: Vec<_> = threads.collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::engine_tests::{copy_tree, goldens, settings};

    fn names(models: &[ModelInfo]) -> Vec<&str> {
        models.iter().map(|model| model.name.as_str()).collect()
    }

    #[test]
    fn models_are_those_of_all_engines_and_changes_reach_each() {
        let folder = tempfile::tempdir().unwrap();
        let copy = |to: &str| copy_tree(&goldens().join("model"), &folder.path().join(to));
        copy("first");
        let load = || Arc::new(Engine::load(&settings(folder.path())).unwrap());
        let one = load();
        copy("second");
        // A model that came to one of two only: the other has no room for it, say.
        let engines = Engines::of(one, vec![load()]);
        assert_eq!(names(&engines.models()), ["first", "second"]);
        assert!(engines.model("second").is_ok() && engines.folder("second").is_some());
        assert_eq!(engines.model("third").unwrap_err().code(), "unknown_model");

        assert_eq!(engines.reload().unwrap().loaded, ["second"]);
        assert!(engines.each().all(|engine| engine.models().len() == 2));
        engines.unload("second").unwrap();
        assert_eq!(
            engines.unload("second").unwrap_err().code(),
            "unknown_model"
        );
        assert_eq!(engines.unload("first").unwrap_err().code(), "last_model");
        assert!(engines.each().all(|engine| engine.models().len() == 1));

        std::fs::remove_dir_all(folder.path().join("first/unet")).unwrap();
        engines.reload().unwrap();
        let refused = engines.refused();
        assert_eq!(refused.len(), 1, "told once for both: {refused:?}");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(engines.reload().unwrap_err().code(), "no_model");
    }

    #[test]
    fn without_a_gpu_there_is_one_engine_whatever_gpus_are_named() {
        let wanted = Settings {
            gpus: vec![0, 1, 2],
            ..settings(&goldens().join("model"))
        };
        let engines = Engines::load(&wanted).unwrap();
        assert_eq!((engines.each().count(), engines.device()), (1, "cpu"));
    }
}
