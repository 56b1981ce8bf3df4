//! The section `infer` of the configuration.

use super::scheduler::Kind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where models and ONNX Runtime lie, and what they run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Model folders in the diffusers layout with ONNX graphs, or folders of such folders. A
    /// relative path is looked for under the working directory, then above the program's own
    /// folder. The first model found is the default one.
    pub models: Vec<PathBuf>,
    /// The ONNX Runtime library. Empty: `ORT_DYLIB_PATH`, then the cache that `scripts/` fills,
    /// then beside the program, then the checkout's root.
    pub library: PathBuf,
    /// What to run on: `auto` takes CUDA where it is and the CPU otherwise, `cpu` never a GPU,
    /// `cuda` never the CPU.
    pub device: Device,
    /// Which GPUs, counted from 0. Each has an engine of its own with all models, and a job goes to
    /// the one where it ends first.
    pub gpus: Vec<u32>,
    /// Threads for each operation on the CPU. 0: one for each core.
    pub threads: usize,
    /// Memory in MiB that ONNX Runtime may take on the device: all models' weights and the calls
    /// under way. A model or a picture that does not fit is refused, and calls have as many rows
    /// as do. 0: no bound. docs/models.md says how it is reckoned.
    pub memory_mib: u64,
    /// Side in pixels of the tiles in which pictures of more than its square are decoded and
    /// read, so that memory does not grow with the picture. A multiple of 64; 0: never in tiles.
    pub vae_tile: usize,
    /// Where latents lie between steps: on the `device`, on the `host`, or `auto`, on a GPU where
    /// a model's first step there is what the host makes of it.
    pub latents: Latents,
    /// Whether a GPU's denoiser calls are captured as CUDA graphs, one a model, size and number of
    /// rows, where that is seen to give the same in less time.
    pub cuda_graphs: bool,
    /// Another scheduler than the model's own, by its diffusers class name. Empty: the model's.
    pub scheduler: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models: vec![PathBuf::from("models/demo")],
            library: PathBuf::new(),
            device: Device::Auto,
            gpus: vec![0],
            threads: 0,
            memory_mib: 0,
            vae_tile: 1024,
            latents: Latents::Auto,
            cuda_graphs: true,
            scheduler: String::new(),
        }
    }
}

impl Settings {
    /// Says what cannot work, before anything is loaded.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if self.models.iter().all(|path| path.as_os_str().is_empty()) {
            return Err("infer.models names no folder".to_owned());
        }
        if self.gpus.is_empty() {
            return Err("infer.gpus names no GPU; infer.device = \"cpu\" does without".to_owned());
        }
        let twice = |(i, gpu)| self.gpus.iter().take(i).any(|before| before == gpu);
        if self.gpus.iter().enumerate().any(twice) {
            return Err("infer.gpus names a GPU twice".to_owned());
        }
        if self.threads > 1024 {
            return Err("infer.threads must be at most 1024".to_owned());
        }
        if !self.vae_tile.is_multiple_of(64) || self.vae_tile > 8192 {
            return Err("infer.vae_tile must be a multiple of 64, at most 8192".to_owned());
        }
        let classes = Kind::CLASSES.map(|(class, _)| class);
        if !self.scheduler.is_empty() && !classes.contains(&self.scheduler.as_str()) {
            return Err(format!(
                "infer.scheduler must be one of {}",
                classes.join(", ")
            ));
        }
        Ok(())
    }
}

/// What graphs run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// CUDA where it is, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA or nothing.
    Cuda,
}

/// Where latents lie between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Latents {
    /// On a GPU where its numbers are the host's.
    Auto,
    /// Where the denoiser runs.
    Device,
    /// In the program's memory.
    Host,
}
