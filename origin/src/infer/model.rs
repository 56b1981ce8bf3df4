//! A loaded model: its graphs, checked against each other, and the text end of the pipeline. The
//! denoising is in `engine`, the picture's end in `vae`.

use super::error::InferError;
use super::fit::{check, hidden_output, info};
use super::folder::Folder;
use super::graph::Graph;
use super::memory::{Footprint, Lease, Ledger, Need};
use super::numbers::Feed;
use super::prompts::Prompts;
use super::resident::{self, Kernels};
use super::runtime::Runtime;
use super::scale::Scale;
use super::scheduler::Scheduler;
use super::settings::Settings;
use super::spec::{ImageSpec, ModelInfo};
use super::tokenizer::PromptTokenizer;
use super::vae::Vae;
use super::variants::{graph_in, has_graph};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the denoiser is told of a prompt.
#[derive(Debug)]
pub struct Conditioning {
    /// Tokens times dimensions.
    pub hidden: Vec<f32>,
    /// How many tokens.
    pub tokens: usize,
    /// SDXL: one vector for the whole prompt.
    pub pooled: Vec<f32>,
}

/// A tokenizer and its graph.
pub struct TextEncoder {
    pub(super) tokenizer: PromptTokenizer,
    pub(super) graph: Graph,
}

/// Everything one model needs.
pub struct Model {
    /// What it can do.
    pub info: ModelInfo,
    /// Its schedule.
    pub scheduler: Scheduler,
    /// Its schedule where a mask keeps a part of a picture.
    pub for_masks: Scheduler,
    /// The denoiser.
    pub unet: Graph,
    /// Whether the denoiser takes a timestep for every row.
    pub timestep_per_row: bool,
    /// Rows the export fixed, if it did.
    pub fixed_rows: Option<usize>,
    /// Dimension of the guidance embedding (LCM).
    pub guidance_embedding: Option<usize>,
    /// Reused from step to step.
    pub(super) scratch: Mutex<super::batch::Scratch>,
    /// Where latents can stay on the device.
    kernels: Option<Arc<Kernels>>,
    /// Whether they do.
    is_resident: AtomicBool,
    calls: Mutex<resident::Calls>,
    pub(super) encoders: Vec<TextEncoder>,
    /// Bytes of its weights on the device; known with a memory budget only, as all that follows.
    pub weights: u64,
    /// What its calls take, once that is measured.
    pub memory: OnceLock<Footprint>,
    ledger: Ledger,
    _lease: Lease,
    /// Between pictures and latents.
    pub vae: Vae,
    zeros_for_empty: bool,
    nothing: OnceLock<Arc<Conditioning>>,
    prompts: Prompts,
}

impl Model {
    /// Loads a folder.
    ///
    /// # Errors
    /// `ModelBroken` with the file at fault.
    pub fn load(
        runtime: &Runtime,
        kernels: Option<&Arc<Kernels>>,
        path: &Path,
        options: &Settings,
    ) -> Result<Self, InferError> {
        let folder = Folder::read(path, &options.scheduler)?;
        let at = |file: &str| folder.path.join(file);
        let mut encoders = vec![TextEncoder {
            tokenizer: PromptTokenizer::load(
                &at("tokenizer"),
                folder.text.max_position_embeddings,
            )?,
            graph: Graph::load(runtime, "text_encoder", graph_in(&at("text_encoder"))?)?,
        }];
        if at("text_encoder_2").is_dir() {
            encoders.push(TextEncoder {
                tokenizer: PromptTokenizer::load(
                    &at("tokenizer_2"),
                    folder.text.max_position_embeddings,
                )?,
                graph: Graph::load(runtime, "text_encoder_2", graph_in(&at("text_encoder_2"))?)?,
            });
        }
        // Only tensors at fixed places can be captured.
        let kernels = kernels.filter(|_| folder.scheduler.is_linear());
        let file = graph_in(&at("unet"))?;
        let unet = match kernels {
            Some(_) => Graph::load_to_capture(runtime, "unet", file)?,
            None => Graph::load(runtime, "unet", file)?,
        };
        let mut ports = unet.inputs.iter().chain(&unet.outputs);
        let can_stay = ports.all(|port| resident::is_supported(port.element));
        let kernels = kernels.filter(|_| can_stay).cloned();
        let decoder = Graph::load(runtime, "vae_decoder", graph_in(&at("vae_decoder"))?)?;
        let encoder = match has_graph(&at("vae_encoder")) {
            true => {
                let file = graph_in(&at("vae_encoder"))?;
                Some(Graph::load(runtime, "vae_encoder", file)?)
            }
            false => None,
        };
        let channels = check(&folder, &encoders, &unet, &decoder)?;
        let timestep = unet.need_input("timestep")?;
        // One for all rows is a number alone or a list fixed at one.
        let timestep_per_row =
            timestep.shape.len() == 1 && timestep.fixed(0).is_none_or(|rows| rows > 1);
        let factor = 1
            << folder
                .vae
                .block_out_channels
                .len()
                .clamp(1, 7)
                .saturating_sub(1);
        let factor = if folder.vae.block_out_channels.is_empty() {
            8
        } else {
            factor
        };
        let info = info(&folder, &unet, factor, encoder.is_some());
        let graphs = encoders.iter().map(|encoder| &encoder.graph);
        let graphs = graphs.chain([&unet, &decoder]).chain(&encoder);
        let weights = graphs.map(|graph| graph.weights).sum();
        Ok(Self {
            info,
            weights,
            memory: OnceLock::new(),
            ledger: runtime.ledger.clone(),
            _lease: runtime.ledger.lease(weights),
            scheduler: folder.scheduler,
            for_masks: folder.for_masks,
            timestep_per_row,
            fixed_rows: unet.need_input("sample")?.fixed(0),
            guidance_embedding: unet
                .input("timestep_cond")
                .and_then(|port| port.fixed(1))
                .or(folder.unet.time_cond_proj_dim),
            scratch: Mutex::default(),
            is_resident: AtomicBool::new(kernels.is_some()),
            kernels,
            calls: Mutex::default(),
            unet,
            encoders,
            vae: Vae {
                decoder,
                encoder,
                scale: Scale::read(&folder.vae, &folder.vae_file, channels)?,
                channels,
                factor,
                tile: options.vae_tile,
            },
            zeros_for_empty: folder.index.forces_zeros(),
            nothing: OnceLock::new(),
            prompts: Prompts::default(),
        })
    }

    /// Encodes a prompt. One prompt at a time, so that its numbers never depend on another's.
    pub fn condition(&self, prompt: &str, negative: bool) -> Result<Arc<Conditioning>, InferError> {
        if !(negative && prompt.is_empty()) {
            if let Some(known) = self.prompts.get(prompt) {
                return Ok(known);
            }
            let text = Arc::new(self.encode_text(prompt)?);
            self.prompts.put(prompt, &text);
            return Ok(text);
        }
        // The empty negative prompt comes with nearly every request.
        if let Some(known) = self.nothing.get() {
            return Ok(Arc::clone(known));
        }
        let mut nothing = self.encode_text("")?;
        if self.zeros_for_empty && self.encoders.len() > 1 {
            nothing.hidden.fill(0.0);
            nothing.pooled.fill(0.0);
        }
        Ok(Arc::clone(self.nothing.get_or_init(|| Arc::new(nothing))))
    }

    /// The prompt that a request needs encoded, and the negative one if it needs that too.
    pub fn prompts_of<'a>(&self, spec: &'a ImageSpec) -> (&'a str, Option<&'a str>) {
        let guided = self.branches(spec.guidance_scale) > 1;
        (&spec.prompt, guided.then_some(&spec.negative_prompt))
    }

    /// Whether [`Model::condition`] has that prompt at hand.
    pub fn knows(&self, prompt: &str, negative: bool) -> bool {
        match negative && prompt.is_empty() {
            true => self.nothing.get().is_some(),
            false => self.prompts.get(prompt).is_some(),
        }
    }

    fn encode_text(&self, prompt: &str) -> Result<Conditioning, InferError> {
        let mut parts: Vec<(Vec<f32>, usize)> = Vec::new();
        let (mut tokens, mut pooled) = (0, Vec::new());
        for encoder in &self.encoders {
            let ids = encoder.tokenizer.encode(prompt)?;
            tokens = encoder.tokenizer.length();
            let graph = &encoder.graph;
            let hidden = hidden_output(graph, self.encoders.len() > 1)?;
            let mut wanted = vec![hidden.as_str()];
            let has_pooled = graph.outputs.iter().any(|port| port.name == "text_embeds");
            if has_pooled {
                wanted.push("text_embeds");
            }
            let shape = [1, ids.len() as i64];
            graph.run(
                &[("input_ids", &shape, Feed::Ids(&ids))],
                &wanted,
                |which, shape, data| {
                    match which {
                        0 => {
                            let width = shape.last().copied().unwrap_or(0).max(0) as usize;
                            parts.push((data.to_vec(), width));
                        }
                        _ => pooled = data.to_vec(),
                    }
                    Ok(())
                },
            )?;
        }
        let rows = |(data, width): &(Vec<f32>, usize), token: usize| {
            data.get(token * width..(token + 1) * width)
                .unwrap_or_default()
                .to_vec()
        };
        let hidden: Vec<f32> = (0..tokens)
            .flat_map(|t| parts.iter().flat_map(move |part| rows(part, t)))
            .collect();
        finite(&hidden, "text_encoder")?;
        Ok(Conditioning {
            hidden,
            tokens,
            pooled,
        })
    }

    /// Pixels of a picture of `pixels` that its ends see at once.
    pub fn piece(&self, pixels: u64) -> u64 {
        match self.vae.tile as u64 {
            0 => pixels,
            tile => pixels.min(tile * tile),
        }
    }

    /// What a picture of `pixels` takes on the device, in a call of `rows`.
    pub fn need(&self, pixels: u64, rows: usize) -> Need {
        let piece = self.piece(pixels);
        let known = self.memory.get();
        known.map_or_else(Need::default, |memory| {
            memory.need(pixels, rows as u64, piece)
        })
    }

    /// Denoiser rows that one picture takes at a guidance scale: two where it is guided. A denoiser
    /// distilled with guidance takes the scale as an input instead.
    pub fn branches(&self, guidance_scale: f32) -> usize {
        match guidance_scale > 1.0 && self.guidance_embedding.is_none() {
            true => 2,
            false => 1,
        }
    }

    /// Denoiser rows that one picture takes by default.
    pub fn rows_by_default(&self) -> usize {
        let rows = self.branches(self.info.guidance_scale);
        rows.max(self.fixed_rows.unwrap_or(1))
    }

    /// Most rows of `pixels` each that a denoiser call may have by the memory budget.
    pub fn most_rows(&self, pixels: u64) -> usize {
        let left = self.ledger.left_for_a_call();
        let known = self.memory.get();
        known.map_or(usize::MAX, |memory| memory.denoise.rows_in(left, pixels))
    }

    /// Seconds inside ONNX Runtime so far: text, denoiser, picture.
    pub fn seconds(&self) -> [f64; 3] {
        let text = self
            .encoders
            .iter()
            .map(|encoder| encoder.graph.seconds())
            .sum();
        [text, self.unet.seconds(), self.vae.seconds()]
    }

    /// What keeps latents on the device, where they stay there.
    pub fn resident(&self) -> Option<&Kernels> {
        let on = self.is_resident.load(Ordering::Relaxed);
        self.kernels.as_deref().filter(|_| on)
    }

    /// Whether latents stay on the device from now on, if they can. Rows that have begun must not
    /// go on.
    pub fn set_resident(&self, on: bool) {
        self.is_resident.store(on, Ordering::Relaxed);
    }

    /// The prepared calls; a panic inside leaves them usable, since every use overwrites them.
    pub(super) fn calls(&self) -> std::sync::MutexGuard<'_, resident::Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scratch space; a panic inside leaves it usable, since every use overwrites it.
    pub(super) fn scratch(&self) -> std::sync::MutexGuard<'_, super::batch::Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses numbers that are not finite, wherever they came from.
pub fn finite(data: &[f32], stage: &'static str) -> Result<(), InferError> {
    match data.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(InferError::NotFinite { stage }),
    }
}
