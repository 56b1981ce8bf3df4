//! A model folder in the diffusers layout: finding it, and what its small files say.

use super::error::InferError;
use super::graph::read_json;
use super::scheduler::{Kind, Scheduler};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `unet/config.json`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub struct UnetConfig {
    /// Latent side the model was trained at.
    pub sample_size: Option<Side>,
    /// Channels in: 4, or 9 for an inpainting model.
    pub in_channels: Option<usize>,
    /// One entry a level; each level but the last halves the side.
    #[serde(default)]
    pub down_block_types: Vec<String>,
    /// Where a guidance embedding is fed in (LCM).
    pub time_cond_proj_dim: Option<usize>,
}

/// A side, or height and width.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub enum Side {
    /// Square.
    One(usize),
    /// Height, then width.
    Two([usize; 2]),
}

impl Side {
    /// Height and width.
    pub fn pair(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side, side),
            Self::Two([height, width]) => (height, width),
        }
    }
}

/// `vae_decoder/config.json` or `vae/config.json`.
#[derive(Debug, Default, Deserialize)]
pub struct VaeConfig {
    /// What latents are multiplied with before denoising sees them.
    pub scaling_factor: Option<f32>,
    /// What is taken off first.
    pub shift_factor: Option<f32>,
    /// One entry a level; each level but the last halves the side.
    #[serde(default)]
    pub block_out_channels: Vec<usize>,
    /// Channels of the latents.
    pub latent_channels: Option<usize>,
}

/// `text_encoder/config.json`.
#[derive(Debug, Default, Deserialize)]
pub struct TextConfig {
    /// How many tokens it takes.
    pub max_position_embeddings: Option<usize>,
}

/// `model_index.json`.
#[derive(Debug, Default, Deserialize)]
pub struct Index {
    /// SDXL: an empty negative prompt is zeros rather than the encoding of nothing.
    #[serde(default)]
    pub force_zeros_for_empty_prompt: bool,
}

/// `signet.json` in a model folder: what the diffusers files have no place for. All optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// What requests call the model. Default: the folder's name.
    pub name: Option<String>,
    /// Default guidance scale; 1 for distilled models. Default 7.5.
    pub guidance_scale: Option<f32>,
    /// Default number of steps. Default 20, or 4 with LCM.
    pub steps: Option<usize>,
    /// Default width in pixels. Default: what the model was trained at.
    pub width: Option<usize>,
    /// Default height in pixels.
    pub height: Option<usize>,
    /// Smallest side in pixels. Default: half the smaller default side.
    pub min_side: Option<usize>,
    /// Largest side in pixels. Default: twice the larger default side.
    pub max_side: Option<usize>,
    /// Another scheduler than the folder's, by its diffusers class name.
    pub scheduler: Option<String>,
}

/// The small files of a model folder.
#[derive(Debug)]
pub struct Folder {
    /// The folder itself.
    pub path: PathBuf,
    /// What requests call the model.
    pub name: String,
    /// From `signet.json`.
    pub card: Card,
    /// From `model_index.json`.
    pub index: Index,
    /// From `unet/config.json`.
    pub unet: UnetConfig,
    /// From `vae_decoder/config.json` or `vae/config.json`.
    pub vae: VaeConfig,
    /// From `text_encoder/config.json`.
    pub text: TextConfig,
    /// From `scheduler/scheduler_config.json`.
    pub scheduler: Scheduler,
}

/// Model folders at or below `path`, at most two levels down, in order of name.
///
/// A folder counts when it has a `unet` or a `model_index.json`, so that a half-copied one is
/// named and refused rather than overlooked.
pub fn find(path: &Path) -> Vec<PathBuf> {
    fn look(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if path.join("unet").is_dir() || path.join("model_index.json").is_file() {
            found.push(path.to_owned());
        } else if depth > 0 {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let mut folders: Vec<_> = entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .collect();
            folders.sort();
            folders
                .iter()
                .for_each(|folder| look(folder, depth - 1, found));
        }
    }
    let mut found = Vec::new();
    look(path, 2, &mut found);
    found
}

impl Folder {
    /// Reads the small files. `scheduler` overrides the folder's own where it is not empty.
    pub fn read(path: &Path, scheduler: &str) -> Result<Self, InferError> {
        let card: Card = optional(&path.join("signet.json"))?;
        let wanted = match (scheduler, card.scheduler.as_deref()) {
            ("", of_card) => of_card,
            (configured, _) => Some(configured),
        };
        let vae = ["vae_decoder/config.json", "vae/config.json"].map(|file| path.join(file));
        let [first, second] = &vae;
        Ok(Self {
            path: path.to_owned(),
            name: card.name.clone().unwrap_or_else(|| folder_name(path)),
            index: optional(&path.join("model_index.json"))?,
            unet: optional(&path.join("unet/config.json"))?,
            vae: optional(if first.is_file() { first } else { second })?,
            text: optional(&path.join("text_encoder/config.json"))?,
            scheduler: read_scheduler(&path.join("scheduler/scheduler_config.json"), wanted)?,
            card,
        })
    }
}

/// A folder named after its format is called as the one above it.
fn folder_name(path: &Path) -> String {
    let names = path
        .ancestors()
        .filter_map(Path::file_name)
        .map(|name| name.to_string_lossy());
    let mut names = names.filter(|name| name != "onnx");
    names
        .next()
        .map_or_else(|| "model".to_owned(), |name| name.into_owned())
}

fn optional<T: serde::de::DeserializeOwned + Default>(file: &Path) -> Result<T, InferError> {
    if file.exists() {
        read_json(file)
    } else {
        Ok(T::default())
    }
}

fn read_scheduler(file: &Path, wanted: Option<&str>) -> Result<Scheduler, InferError> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => InferError::broken(file, "is missing"),
        _ => InferError::broken(file, error),
    })?;
    let scheduler = Scheduler::parse(&text).map_err(|error| InferError::broken(file, error))?;
    let Some(class) = wanted else {
        return Ok(scheduler);
    };
    let kind = Kind::CLASSES
        .iter()
        .find(|(name, _)| *name == class)
        .map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| InferError::BadSpec {
        field: "scheduler",
        reason: format!(
            "{class:?} is not one of {}",
            Kind::CLASSES.map(|(n, _)| n).join(", ")
        ),
    })?;
    scheduler
        .with_kind(kind)
        .map_err(|error| InferError::broken(file, error))
}
