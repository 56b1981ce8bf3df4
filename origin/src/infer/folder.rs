//! A model folder in the diffusers layout: finding it, and what its small files say.

use super::error::InferError;
use super::graph::read_json;
use super::place;
use super::scheduler::{Kind, Scheduler, SchedulerError, SchedulerFile};
use serde::Deserialize;
use serde_json::Value;
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
    /// Mean of each channel of the latents; counts beside `latents_std` only.
    pub latents_mean: Option<Vec<f32>>,
    /// Standard deviation of each channel of the latents; counts beside `latents_mean` only.
    pub latents_std: Option<Vec<f32>>,
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
    /// SDXL: an empty negative prompt is zeros rather than the encoding of nothing. So it is unless it says otherwise.
    force_zeros_for_empty_prompt: Option<bool>,
    /// The library and the class of the scheduler.
    scheduler: Option<Value>,
}

impl Index {
    /// Whether an empty negative prompt is zeros.
    pub fn forces_zeros(&self) -> bool {
        self.force_zeros_for_empty_prompt.unwrap_or(true)
    }

    /// The scheduler's class, where the index names one. Flax has classes of its own for the same schedulers.
    fn scheduler_class(&self) -> Option<&str> {
        let class = self.scheduler.as_ref()?.get(1)?.as_str()?;
        Some(class.strip_prefix("Flax").unwrap_or(class))
    }
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
    /// Which of the two.
    pub vae_file: PathBuf,
    /// From `text_encoder/config.json`.
    pub text: TextConfig,
    /// From `scheduler/scheduler_config.json`, as the model's pipeline runs it.
    pub scheduler: Scheduler,
    /// The same where a mask keeps a part of a picture.
    pub for_masks: Scheduler,
}

impl Folder {
    /// Reads the small files. `scheduler` overrides the folder's own where it is not empty.
    pub fn read(path: &Path, scheduler: &str) -> Result<Self, InferError> {
        let card: Card = optional(&path.join("signet.json"))?;
        let index: Index = optional(&path.join("model_index.json"))?;
        let unet: UnetConfig = optional(&path.join("unet/config.json"))?;
        let named = [
            (Some(scheduler).filter(|class| !class.is_empty()), ""),
            (card.scheduler.as_deref(), "signet.json"),
            (index.scheduler_class(), "model_index.json"),
        ];
        let named = named.into_iter().find_map(|(class, by)| Some((class?, by)));
        let scheduler = read_scheduler(path, named)?;
        // What is neither SDXL nor distilled with guidance runs as Stable Diffusion 1 and 2 do.
        let is_plain = !path.join("text_encoder_2").is_dir() && unet.time_cond_proj_dim.is_none();
        let scheduler = match is_plain {
            true => scheduler.for_stable_diffusion(),
            false => scheduler,
        };
        let vae = ["vae_decoder/config.json", "vae/config.json"].map(|file| path.join(file));
        let [first, second] = &vae;
        Ok(Self {
            path: path.to_owned(),
            name: card.name.clone().unwrap_or_else(|| place::name(path)),
            vae_file: if first.is_file() { first } else { second }.clone(),
            vae: optional(if first.is_file() { first } else { second })?,
            text: optional(&path.join("text_encoder/config.json"))?,
            for_masks: match is_plain {
                true => scheduler.clone().without_warm_up(),
                false => scheduler.clone(),
            },
            scheduler,
            index,
            unet,
            card,
        })
    }
}

fn optional<T: serde::de::DeserializeOwned + Default>(file: &Path) -> Result<T, InferError> {
    if file.exists() {
        read_json(file)
    } else {
        Ok(T::default())
    }
}

/// Reads the scheduler's file as the class that the configuration, the card or the index names, in that order, or else as
/// its own.
fn read_scheduler(path: &Path, named: Option<(&str, &str)>) -> Result<Scheduler, InferError> {
    let file = path.join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => InferError::broken(&file, "is missing"),
        _ => InferError::broken(&file, error),
    })?;
    let broken = |error| InferError::broken(&file, error);
    let fields = SchedulerFile::parse(&text).map_err(broken)?;
    let (class, by) = named.unwrap_or((fields.class(), ""));
    if Kind::from_class(class).is_none() && !by.is_empty() {
        let error = SchedulerError::Class(class.to_owned());
        return Err(InferError::broken(path.join(by), error));
    }
    fields.read_as(class).map_err(broken)
}
