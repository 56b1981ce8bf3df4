//! Finding and loading ONNX Runtime, once for the process.

use super::device;
use super::error::InferError;
use super::memory::Ledger;
use super::settings::{Device, Settings};
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{self, ExecutionProvider};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The version `scripts/lib/onnxruntime.sh` puts into the cache.
const CACHED: &str = "onnxruntime-1.32.0/libonnxruntime.so";
const LIBRARY: &str = "libonnxruntime.so";

/// ONNX Runtime allows one environment a process, so all engines share the first one's.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A loaded library with the device graphs will run on.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    /// `cpu` or `cuda`.
    pub device: &'static str,
    gpu: u32,
    captures: bool,
    /// The device's memory.
    pub ledger: Ledger,
    /// Where the library was found.
    pub library: PathBuf,
}

impl Runtime {
    /// Finds and loads the library and settles the device.
    ///
    /// # Errors
    /// `RuntimeMissing` with all places tried, `RuntimeUnusable`, `DeviceUnavailable`.
    pub fn load(settings: &Settings, gpu: u32) -> Result<Self, InferError> {
        let library = find_library(settings, &Places::of_this_process())?;
        let environment = environment(&library, settings)?;
        let has_cuda = ep::CUDA::is_available().unwrap_or(false);
        let device = match (settings.device, has_cuda) {
            (Device::Cpu, _) | (Device::Auto, false) => "cpu",
            (Device::Auto | Device::Cuda, true) => "cuda",
            (Device::Cuda, false) => {
                return Err(InferError::DeviceUnavailable {
                    device: "cuda",
                    reason: format!(
                        "{} is built without CUDA; set infer.library to the libonnxruntime.so of \
                         the package onnxruntime-gpu",
                        library.display()
                    ),
                });
            }
        };
        let mut runtime = Self {
            environment,
            device,
            gpu,
            captures: settings.cuda_graphs,
            ledger: Ledger::new(settings.memory_mib),
            library,
        };
        if runtime.device == "cuda"
            && let Err(error) = runtime.builder(true, false)
        {
            if settings.device == Device::Cuda {
                return Err(error);
            }
            tracing::warn!(%error, "CUDA cannot be used, running on the CPU");
            runtime.device = "cpu";
        }
        Ok(runtime)
    }

    /// The GPU that graphs run on, if it is one.
    pub fn gpu(&self) -> Option<u32> {
        (self.device == "cuda").then_some(self.gpu)
    }

    /// Loads one graph.
    pub fn session(&self, file: &Path) -> Result<Session, InferError> {
        let _beside = device::share();
        self.builder(self.device == "cuda", false)?
            .commit_from_file(file)
            .map_err(|error| InferError::broken(file, error.message()))
    }

    /// Loads one graph so that its runs can be captured as CUDA graphs; `None` where that is not
    /// wanted, or not possible: every operator of it must run on the GPU.
    pub fn session_to_capture(&self, file: &Path) -> Option<Session> {
        // With a budget memory goes back after a call, which a captured graph would still write to.
        if self.device != "cuda" || !self.captures || self.ledger.budget.is_some() {
            return None;
        }
        let _beside = device::share();
        let session = self.builder(true, true).ok()?.commit_from_file(file);
        session
            .inspect_err(|error| tracing::info!(?file, %error, "no CUDA graphs of this model"))
            .ok()
    }

    /// For graphs that are made here.
    pub fn plain_builder(&self) -> Result<SessionBuilder, InferError> {
        self.builder(self.device == "cuda", false)
    }

    fn builder(&self, cuda: bool, captures: bool) -> Result<SessionBuilder, InferError> {
        let unavailable = |error: &dyn std::fmt::Display| InferError::DeviceUnavailable {
            device: self.device,
            reason: error.to_string(),
        };
        let builder = Session::builder(&self.environment).map_err(|e| unavailable(&e))?;
        let mut builder = builder
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(|e| unavailable(&e))?;
        if self.ledger.budget.is_some() {
            // A pattern lays a whole call out at once: more than its tensors ever take together.
            builder = builder
                .with_memory_pattern(false)
                .map_err(|e| unavailable(&e))?;
        }
        if cuda {
            let mut provider = ep::CUDA::default()
                .with_device_id(i32::try_from(self.gpu).unwrap_or(i32::MAX))
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .with_tf32(false)
                .with_cuda_graph(captures);
            if self.ledger.budget.is_some() {
                // One graph's own bound, behind what is reckoned for all of them.
                let left = usize::try_from(self.ledger.left()).unwrap_or(usize::MAX);
                provider = provider.with_memory_limit(left);
            }
            let provider = provider.build().error_on_failure();
            builder = builder
                .with_execution_providers([provider])
                .map_err(|e| unavailable(&advice(e.message())))?;
        }
        Ok(builder)
    }
}

/// The loader's words, and what helps against them.
fn advice(reason: &str) -> String {
    let missing = reason.contains("cannot open shared object file");
    let help = match missing {
        true => "; put the directories of the CUDA 13 and cuDNN 9 libraries on LD_LIBRARY_PATH",
        false => "",
    };
    format!("{}{help}", reason.trim_end())
}

fn environment(library: &Path, settings: &Settings) -> Result<Environment, InferError> {
    let mut slot = ENVIRONMENT
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let unusable = |reason: String| InferError::RuntimeUnusable {
        path: library.into(),
        reason,
    };
    let builder = ort::init_from(library).map_err(|error| unusable(error.to_string()))?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if settings.threads == 0 {
        cores
    } else {
        settings.threads
    };
    // One pool for all graphs: on the CPU text encoder, denoiser and decoder take turns.
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads)
        .and_then(|pool| pool.with_inter_threads(1))
        .map_err(|error| unusable(error.to_string()))?;
    let environment = builder
        .with_name("signet")
        .with_telemetry(false)
        .with_global_thread_pool(pool)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    *slot = Some(environment.clone());
    Ok(environment)
}

/// Where files without a configured place are looked for.
pub struct Places {
    variable: Option<PathBuf>,
    cache: Option<PathBuf>,
    program: Option<PathBuf>,
    working: Option<PathBuf>,
}

impl Places {
    /// The cache is the one of `scripts/lib/common.sh`.
    pub fn of_this_process() -> Self {
        Self::new(
            |name| std::env::var_os(name),
            std::env::current_exe().ok(),
            std::env::current_dir().ok(),
        )
    }

    fn new(
        variable: impl Fn(&str) -> Option<OsString>,
        program: Option<PathBuf>,
        working: Option<PathBuf>,
    ) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = path("SIGNET_CACHE").or_else(|| {
            let home = || path("HOME").map(|home| home.join(".cache"));
            path("XDG_CACHE_HOME")
                .or_else(home)
                .map(|cache| cache.join("signet"))
        });
        Self {
            variable: path("ORT_DYLIB_PATH"),
            cache,
            program,
            working,
        }
    }

    /// The folders above the program, nearest first: `target/release/signet` lies in a checkout.
    fn above_program(&self) -> impl Iterator<Item = &Path> {
        self.program
            .iter()
            .flat_map(|program| program.ancestors().skip(1).take(4))
    }

    /// A configured path: absolute as it is, relative where it first exists.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let roots = self
            .working
            .iter()
            .map(PathBuf::as_path)
            .chain(self.above_program());
        roots
            .map(|root| root.join(path))
            .find(|found| found.exists())
            .unwrap_or(path.into())
    }
}

fn find_library(settings: &Settings, places: &Places) -> Result<PathBuf, InferError> {
    let configured = Some(&settings.library).filter(|path| !path.as_os_str().is_empty());
    let candidates: Vec<PathBuf> = match configured {
        Some(path) => vec![places.resolve(path)],
        None => places
            .variable
            .iter()
            .cloned()
            .chain(places.cache.iter().map(|cache| cache.join(CACHED)))
            .chain(places.above_program().map(|folder| folder.join(LIBRARY)))
            .collect(),
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(InferError::RuntimeMissing {
            tried: candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path, variables: &'static [(&'static str, &'static str)]) -> Places {
        let look_up = move |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| OsString::from(v))
        };
        Places::new(
            look_up,
            Some(folder.join("target/release/signet")),
            Some(folder.into()),
        )
    }

    #[test]
    fn the_cache_of_the_scripts_is_looked_at_as_they_name_it() {
        let cache = |variables| places(Path::new("/x"), variables).cache.unwrap();
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/signet"));
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]),
            Path::new("/c/signet")
        );
        assert_eq!(
            cache(&[("SIGNET_CACHE", "/s"), ("HOME", "/h")]),
            Path::new("/s")
        );
    }

    #[test]
    fn a_missing_library_names_every_place_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(
            folder.path(),
            &[("ORT_DYLIB_PATH", "/nowhere/a.so"), ("HOME", "/h")],
        );
        let error = find_library(&Settings::default(), &places).unwrap_err();
        assert_eq!(error.code(), "runtime_missing");
        let text = error.to_string();
        let at = |words: &str| {
            text.find(words)
                .unwrap_or_else(|| panic!("{words}: {text}"))
        };
        assert!(at("/nowhere/a.so") < at("/h/.cache/signet/onnxruntime-1.32.0"));
        assert!(at("/h/.cache/signet") < at("target/release/libonnxruntime.so"));
    }

    #[test]
    fn a_library_beside_the_program_and_one_at_the_root_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path(), &[]);
        let root = folder.path().join(LIBRARY);
        std::fs::write(&root, "x").unwrap();
        assert_eq!(find_library(&Settings::default(), &places).unwrap(), root);
        let beside = folder.path().join("target/release").join(LIBRARY);
        std::fs::create_dir_all(beside.parent().unwrap()).unwrap();
        std::fs::write(&beside, "x").unwrap();
        assert_eq!(find_library(&Settings::default(), &places).unwrap(), beside);
    }

    #[test]
    fn a_missing_cuda_library_is_named_with_what_helps() {
        let told = "Failed to load library libonnxruntime_providers_cuda.so with error: \
                    libcublasLt.so.13: cannot open shared object file: No such file or directory\n";
        let text = advice(told);
        assert!(
            text.contains("libcublasLt.so.13") && text.contains("LD_LIBRARY_PATH"),
            "{text}"
        );
        assert_eq!(
            advice("no CUDA-capable device is detected\n"),
            "no CUDA-capable device is detected"
        );
    }

    #[test]
    fn a_configured_library_that_is_not_there_is_not_replaced_by_another() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LIBRARY), "x").unwrap();
        let settings = Settings {
            library: "/nowhere/ort.so".into(),
            ..Settings::default()
        };
        let error = find_library(&settings, &places(folder.path(), &[])).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ort.so"), "{error}");
    }
}
