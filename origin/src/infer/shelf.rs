//! The loaded models, and changing them while they serve: folders are read anew, new and changed
//! ones loaded, those that are gone let go of. What a picture under way needs stays until it is
//! finished.

use super::error::InferError;
use super::memory::Need;
use super::model::Model;
use super::place;
use super::probe;
use super::resident::Kernels;
use super::runtime::{Places, Runtime};
use super::settings::{Latents, Settings};
use super::spec::ModelInfo;
use super::variants;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

/// A folder that cannot be used, and why.
pub type Refused = (PathBuf, InferError);

/// One loaded model.
struct Loaded {
    model: Arc<Model>,
    folder: PathBuf,
    print: Print,
}

/// What tells whether a folder has changed: its files' names, sizes and times.
type Print = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// What reading the folders anew changed, by the models' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New, or loaded again because their files changed.
    pub loaded: Vec<String>,
    /// Whose folders are gone.
    pub unloaded: Vec<String>,
    /// As they were.
    pub kept: Vec<String>,
}

/// All models of one device.
pub struct Shelf {
    /// None only where there are no folders either.
    runtime: Option<Runtime>,
    /// What keeps latents on the device.
    kernels: Option<Arc<Kernels>>,
    settings: Settings,
    /// Where the configured models lie.
    paths: Vec<PathBuf>,
    loaded: RwLock<Vec<Loaded>>,
    refused: RwLock<Vec<Refused>>,
    /// Held while models are loaded, so that two changes take turns.
    changing: Mutex<()>,
}

impl Shelf {
    /// Loads ONNX Runtime and every model the settings name.
    ///
    /// # Errors
    /// No runtime, no device, or no usable model at all.
    pub fn open(settings: &Settings, gpu: u32) -> Result<Self, InferError> {
        let places = Places::of_this_process();
        let paths = settings.models.iter().map(|path| places.resolve(path));
        let runtime = Runtime::load(settings, gpu)?;
        let stay = match settings.latents {
            Latents::Host => false,
            Latents::Device => true,
            Latents::Auto => runtime.gpu().is_some(),
        };
        let kernels = match stay.then(|| Kernels::new(&runtime)).transpose() {
            Err(error) if settings.latents == Latents::Auto => {
                tracing::warn!(%error, "latents visit the host at every step");
                None
            }
            kernels => kernels?,
        };
        let shelf = Self {
            runtime: Some(runtime),
            kernels: kernels.map(Arc::new),
            settings: settings.clone(),
            paths: paths.collect(),
            loaded: RwLock::default(),
            refused: RwLock::default(),
            changing: Mutex::default(),
        };
        shelf.reload()?;
        Ok(shelf)
    }

    /// No models, no library and no device: all pictures come from elsewhere.
    pub fn empty() -> Self {
        Self {
            runtime: None,
            kernels: None,
            settings: Settings::default(),
            paths: Vec::new(),
            loaded: RwLock::default(),
            refused: RwLock::default(),
            changing: Mutex::default(),
        }
    }

    /// Reads the folders anew. A folder that was changed and cannot be used is refused, and the
    /// model it held before goes on serving.
    ///
    /// # Errors
    /// `NoModel` when nothing would be left: then all stays as it was.
    pub fn reload(&self) -> Result<Changes, InferError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::default();
        let Some(runtime) = &self.runtime else {
            return Ok(changes);
        };
        let (mut next, mut refused): (Vec<Loaded>, Vec<Refused>) = (Vec::new(), Vec::new());
        for path in &self.paths {
            let found = place::find(path);
            if found.is_empty() {
                let error =
                    InferError::broken(path, "holds no model (no unet, no model_index.json)");
                refused.push((path.clone(), error));
            }
            for folder in found {
                let print = print(&folder);
                let old = self.of_folder(&folder);
                let same = old.as_ref().filter(|(_, known)| *known == print);
                let model = match same {
                    Some((model, _)) => Ok(Arc::clone(model)),
                    None => self.load(runtime, &folder, &print, &next),
                };
                let (model, print, list) = match (model, same, old.clone()) {
                    (Ok(model), Some(_), _) => (model, print, &mut changes.kept),
                    (Ok(model), None, _) => (model, print, &mut changes.loaded),
                    (Err(error), _, old) => {
                        refused.push((folder.clone(), error));
                        let Some((model, print)) = old else { continue };
                        (model, print, &mut changes.kept)
                    }
                };
                let name = model.info.name.clone();
                if next.iter().any(|known| known.model.info.name == name) {
                    let reason = format!("is another model called {name:?}");
                    refused.push((folder.clone(), InferError::broken(folder, reason)));
                    continue;
                }
                list.push(name);
                next.push(Loaded {
                    model,
                    folder,
                    print,
                });
            }
        }
        if next.is_empty() {
            let reasons: Vec<_> = refused.iter().map(|(_, error)| error.to_string()).collect();
            let reasons = match reasons.is_empty() {
                true => "infer.models is empty".to_owned(),
                false => reasons.join("; "),
            };
            return Err(InferError::NoModel { reasons });
        }
        let stays = |name: &String| next.iter().any(|one| one.model.info.name == *name);
        let before = self.names();
        changes.unloaded = before.into_iter().filter(|name| !stays(name)).collect();
        if self.overlaps() {
            let ends = next.iter().map(|one| self.least(&one.model));
            let ends = ends.fold(Need::default(), Need::max);
            runtime.ledger.set_aside(ends.before + ends.after);
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = next;
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = refused;
        Ok(changes)
    }

    /// Takes a model out until the folders are read anew; pictures under way finish, then its
    /// memory is given back.
    ///
    /// # Errors
    /// `UnknownModel`; `LastModel`, since a service without one serves nobody.
    pub fn unload(&self, name: &str) -> Result<(), InferError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let position = loaded.iter().position(|one| one.model.info.name == name);
        let position = position.ok_or_else(|| InferError::UnknownModel(name.to_owned()))?;
        if loaded.len() == 1 {
            return Err(InferError::LastModel(name.to_owned()));
        }
        loaded.remove(position);
        Ok(())
    }

    /// The model of that name, or the first for an empty name.
    pub fn find(&self, name: &str) -> Result<Arc<Model>, InferError> {
        let loaded = self.read();
        let found = match name {
            "" => loaded.first(),
            name => loaded.iter().find(|one| one.model.info.name == name),
        };
        let found = found.map(|one| Arc::clone(&one.model));
        found.ok_or_else(|| InferError::UnknownModel(name.to_owned()))
    }

    /// What the loaded models can do; the first is the default one.
    pub fn infos(&self) -> Vec<ModelInfo> {
        self.read()
            .iter()
            .map(|one| one.model.info.clone())
            .collect()
    }

    /// Where a loaded model came from.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        let loaded = self.read();
        let found = loaded.iter().find(|one| one.model.info.name == name);
        found.map(|one| one.folder.clone())
    }

    /// Folders that were refused when they were read last.
    pub fn refused(&self) -> Vec<Refused> {
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }

    /// Seconds inside ONNX Runtime so far: text, denoiser, picture.
    pub fn seconds(&self) -> [f64; 3] {
        let all = self.read();
        let each = all.iter().map(|one| one.model.seconds());
        each.fold([0.0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z])
    }

    /// The library and the device, where there are models.
    pub fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }

    /// Loads a model and takes one small step with it: graphs that do not fit each other are
    /// found now rather than by the first who asks. With a memory budget it also is measured, and
    /// refused where its usual picture does not fit beside `others`, or theirs beside it.
    fn load(
        &self,
        runtime: &Runtime,
        folder: &Path,
        print: &Print,
        others: &[Loaded],
    ) -> Result<Arc<Model>, InferError> {
        let beside: u64 = others.iter().map(|one| one.model.weights).sum();
        let budget = runtime.ledger.budget;
        let left = budget.map_or(u64::MAX, |bytes| bytes.saturating_sub(beside));
        let over = |needed: u64| InferError::OverBudget {
            folder: folder.to_owned(),
            needed: needed.div_ceil(1 << 20),
            left: left >> 20,
        };
        let files = weight(folder, print);
        if files > left {
            return Err(over(files));
        }
        let kernels = self.kernels.as_ref();
        let model = Arc::new(Model::load(runtime, kernels, folder, &self.settings)?);
        if self.settings.latents == Latents::Auto && model.resident().is_some() {
            probe::settle_residence(&model);
        }
        match probe::try_out(&model) {
            // What the numbers are like for a prompt of nothing says little.
            Ok(()) | Err(InferError::NotFinite { .. }) => {}
            Err(error @ InferError::ModelBroken { .. }) => return Err(error),
            Err(error) => {
                let reason = format!("does not run: {error}");
                return Err(InferError::broken(folder, reason));
            }
        }
        if budget.is_none() {
            return Ok(model);
        }
        let weights = model.weights;
        let known = probe::measure(&model, left.saturating_sub(weights), |need| {
            over(weights.saturating_add(need))
        });
        let known = match known {
            Ok(known) => model.memory.get_or_init(|| known),
            Err(InferError::OutOfMemory { .. }) => return Err(over(left.saturating_add(1))),
            Err(error) => return Err(error),
        };
        tracing::debug!(?folder, weights, ?known, "measured a model");
        let needs = others.iter().map(|one| self.least(&one.model));
        let need = needs.fold(self.least(&model), Need::max);
        let needed = weights.saturating_add(need.total(self.overlaps()));
        match needed > left {
            true => Err(over(needed)),
            false => Ok(model),
        }
    }

    /// What must be there for a model's usual picture; where stages overlap, for the ends of its
    /// largest one.
    fn least(&self, model: &Model) -> Need {
        let info = &model.info;
        let rows = model.rows_by_default();
        let usual = model.need((info.width * info.height) as u64, rows);
        match self.overlaps() {
            false => usual,
            true => Need {
                call: usual.call,
                ..model.need((info.max_side * info.max_side) as u64, rows)
            },
        }
    }

    /// Whether the stages of the pipeline go on side by side: on a GPU.
    pub fn overlaps(&self) -> bool {
        let runtime = self.runtime.as_ref();
        runtime.is_some_and(|runtime| runtime.gpu().is_some())
    }

    fn names(&self) -> Vec<String> {
        let loaded = self.read();
        loaded
            .iter()
            .map(|one| one.model.info.name.clone())
            .collect()
    }

    fn of_folder(&self, folder: &Path) -> Option<(Arc<Model>, Print)> {
        let loaded = self.read();
        let found = loaded.iter().find(|one| one.folder == folder);
        found.map(|one| (Arc::clone(&one.model), one.print.clone()))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Loaded>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the folder's graphs and their weights.
fn weight(folder: &Path, print: &Print) -> u64 {
    let counts = |file: &Path| {
        let mut parts = file.strip_prefix(folder).into_iter().flatten();
        let of = parts.next().and_then(|name| name.to_str()).unwrap_or("");
        let plain = file.extension().is_some_and(|e| e == "json" || e == "txt");
        let mut graphs = ["unet", "text_encoder", "vae_"].iter();
        let is_anothers = || {
            let graph = variants::graph_in(&folder.join(of));
            graph.is_ok_and(|graph| variants::is_anothers(file, &graph))
        };
        !plain && graphs.any(|part| of.starts_with(part)) && !is_anothers()
    };
    let sizes = print.iter().filter(|(file, ..)| counts(file));
    sizes.map(|(_, bytes, _)| bytes).sum()
}

/// The folder's files, two levels down.
fn print(folder: &Path) -> Print {
    fn look(path: &Path, depth: usize, print: &mut Print) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            // Follows links: a snapshot folder of links to blobs is a usual way to keep models.
            let Ok(about) = std::fs::metadata(&path) else {
                continue;
            };
            if !about.is_dir() {
                print.push((path, about.len(), about.modified().ok()));
            } else if depth > 0 {
                look(&path, depth - 1, print);
            }
        }
    }
    let mut print = Vec::new();
    look(folder, 2, &mut print);
    print.sort();
    print
}
