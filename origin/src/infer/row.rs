//! One picture on its way: its own latents, its own place on its schedule, its own prompt.

use super::error::InferError;
use super::model::{Conditioning, Model, finite};
use super::noise::Noise;
use super::paste::put_back;
use super::pixels::Pixels;
use super::preview::{Draft, Preview};
use super::resident::Home;
use super::scheduler::{Plan, Sampler};
use super::spec::{ImageSpec, Mask};
use std::sync::Arc;

/// A picture being denoised. Rows of any users and any steps may share a denoiser call when
/// their [`BatchKey`]s are equal.
pub struct Row {
    pub(super) model: Arc<Model>,
    pub(super) latents: Vec<f32>,
    pub(super) positive: Arc<Conditioning>,
    pub(super) negative: Option<Arc<Conditioning>>,
    pub(super) guidance: f32,
    pub(super) sampler: Sampler,
    pub(super) noise: Noise,
    pub(super) kept: Option<Kept>,
    /// Where the latents lie while they are on the device; those above are old then.
    pub(super) home: Option<Home>,
    /// Set by whoever wants a preview of the next step; holds what it showed after it.
    preview: Preview,
    height: usize,
    width: usize,
    seed: u64,
}

/// The part of a picture that is kept while the rest is painted anew.
pub(super) struct Kept {
    original: Arc<Pixels>,
    /// In pixels.
    painted: Arc<Mask>,
    clean: Vec<f32>,
    first_noise: Vec<f32>,
    /// 1 where a latent is painted anew; one value a latent pixel.
    mask: Vec<f32>,
}

impl Kept {
    /// 1 where a latent is painted anew; one value a latent pixel.
    pub fn mask(&self) -> &[f32] {
        &self.mask
    }

    /// What goes into the latents where `sampler` stands, besides what is painted anew.
    pub fn share(&self, sampler: &Sampler) -> Vec<f32> {
        let mut known = vec![0.0; self.clean.len()];
        sampler.add_noise(&self.clean, &self.first_noise, &mut known);
        let mask = self.mask.iter().cycle();
        known
            .iter_mut()
            .zip(mask)
            .for_each(|(x, mask)| *x *= 1.0 - mask);
        known
    }
}

/// What rows must have in common to share a denoiser call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchKey {
    model: usize,
    height: usize,
    width: usize,
    tokens: usize,
    /// Where the export takes one timestep for all rows, that timestep.
    timestep: Option<u32>,
}

impl Row {
    /// Lays out the rows of a validated request: prompts encoded, first latents drawn.
    pub(super) fn of_spec(model: &Arc<Model>, spec: &ImageSpec) -> Result<Vec<Row>, InferError> {
        let (prompt, negative) = model.prompts_of(spec);
        let positive = model.condition(prompt, false)?;
        let negative = negative.map(|prompt| model.condition(prompt, true));
        let negative = negative.transpose()?;
        if negative.is_some() && model.fixed_rows == Some(1) {
            let reason = "must be 1: this export takes one row a call".to_owned();
            return Err(InferError::BadSpec {
                field: "guidance_scale",
                reason,
            });
        }
        let is_masked = spec.init.as_ref().is_some_and(|init| init.mask.is_some());
        let scheduler = match is_masked {
            true => &model.for_masks,
            false => &model.scheduler,
        };
        let plan = Arc::new(scheduler.plan(spec.steps)?);
        (0..spec.n as u64)
            .map(|i| {
                let seed = spec.seed_of(i);
                let start = spec.steps - spec.steps_run();
                let mut row = Row {
                    model: Arc::clone(model),
                    latents: Vec::new(),
                    positive: Arc::clone(&positive),
                    negative: negative.clone(),
                    guidance: spec.guidance_scale,
                    sampler: Sampler::new(Arc::clone(&plan), start),
                    noise: Noise::new(seed),
                    kept: None,
                    home: None,
                    preview: Preview::Unwanted,
                    height: spec.height,
                    width: spec.width,
                    seed,
                };
                row.draw_first_latents(spec, &plan)?;
                Ok(row)
            })
            .collect()
    }

    fn draw_first_latents(&mut self, spec: &ImageSpec, plan: &Plan) -> Result<(), InferError> {
        let [channels, height, width] = self.latent_shape();
        let count = channels * height * width;
        let mut first = Vec::new();
        self.noise
            .next_draw(count, |fresh| first.extend_from_slice(fresh));
        self.latents = match &spec.init {
            None => first.iter().map(|x| x * plan.init_noise_sigma).collect(),
            Some(init) => {
                // The encoder's own sample comes from a source apart, so that the noise that
                // is mixed in stays the one this seed gives without a picture.
                let mut spread = Vec::new();
                Noise::new(!self.seed).next_draw(count, |x| spread.extend_from_slice(x));
                let clean = self.model.vae.encode(&init.pixels, &spread)?;
                let mut mixed = vec![0.0; count];
                // Where all of a masked picture is replaced, nothing of it shines through.
                match init.mask.is_some() && init.strength >= 1.0 {
                    true => mixed
                        .iter_mut()
                        .zip(&first)
                        .for_each(|(x, noise)| *x = noise * plan.init_noise_sigma),
                    false => self.sampler.add_noise(&clean, &first, &mut mixed),
                }
                self.kept = init.mask.as_ref().map(|mask| Kept {
                    original: Arc::clone(&init.pixels),
                    painted: Arc::clone(mask),
                    clean,
                    first_noise: first,
                    mask: mask.for_latents(self.model.vae.factor),
                });
                mixed
            }
        };
        Ok(())
    }

    /// Takes the sampler's step with the denoiser's output, then puts back what a mask keeps,
    /// at the noise level the next step expects.
    pub(super) fn advance(&mut self, output: &[f32]) -> Result<(), InferError> {
        if self.wants_preview() {
            self.saw(self.sampler.clean(&self.latents, output));
        }
        self.sampler
            .step(&mut self.latents, output, &mut self.noise)?;
        if let Some(kept) = &self.kept {
            let share = kept.share(&self.sampler);
            let mask = kept.mask.iter().cycle();
            for ((x, share), mask) in self.latents.iter_mut().zip(share).zip(mask) {
                *x = share + mask * *x;
            }
        }
        finite(&self.latents, "unet")
    }

    /// Replaces the first latents (already scaled by the plan's `init_noise_sigma`).
    #[cfg(test)]
    pub fn set_latents(&mut self, latents: &[f32]) {
        assert_eq!(self.latents.len(), latents.len());
        self.latents.copy_from_slice(latents);
    }

    /// Channels, height and width of the latents.
    pub fn latent_shape(&self) -> [usize; 3] {
        let factor = self.model.vae.factor;
        [
            self.model.vae.channels,
            self.height / factor,
            self.width / factor,
        ]
    }

    /// The latents as they stand, brought to the host where they are on the device.
    ///
    /// # Errors
    /// The device does not give them.
    pub fn look(&mut self) -> Result<&[f32], InferError> {
        if let (Some(home), Some(kernels)) = (&self.home, self.model.resident()) {
            self.latents = home.latents(kernels, self.latent_shape())?;
        }
        Ok(&self.latents)
    }

    /// The latents as they were when they last were on the host.
    pub fn latents(&self) -> &[f32] {
        &self.latents
    }

    /// Denoiser calls made so far.
    pub fn done(&self) -> usize {
        self.sampler.done()
    }

    /// Denoiser calls this picture takes in all.
    pub fn calls(&self) -> usize {
        self.sampler.calls()
    }

    /// Whether only decoding is left.
    pub fn is_finished(&self) -> bool {
        self.sampler.timestep().is_none()
    }

    /// Rows of the denoiser's batch this picture takes: two with guidance.
    pub fn slots(&self) -> usize {
        1 + usize::from(self.negative.is_some())
    }

    /// Pixels of the picture.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    /// Most rows like this one that the memory budget allows in a call.
    pub fn most_rows(&self) -> usize {
        self.model.most_rows(self.area() as u64)
    }

    /// What another row must have in common to share a call.
    pub fn batch_key(&self) -> BatchKey {
        BatchKey {
            model: Arc::as_ptr(&self.model) as usize,
            height: self.height,
            width: self.width,
            tokens: self.positive.tokens,
            timestep: match self.model.timestep_per_row {
                true => None,
                false => self.sampler.timestep().map(f32::to_bits),
            },
        }
    }

    /// Decodes the finished latents, and puts back what a mask keeps: over half a latent it fades into the rest.
    pub(super) fn decode(&self) -> Result<Pixels, InferError> {
        finite(&self.latents, "unet")?;
        let vae = &self.model.vae;
        let mut pixels = vae.decode(&self.latents, self.height, self.width, self.seed)?;
        if let Some(kept) = &self.kept {
            put_back(&mut pixels, &kept.original, &kept.painted, vae.factor / 2);
        }
        Ok(pixels)
    }

    /// Asks for a preview of the next step.
    pub fn want_preview(&mut self) {
        self.preview = Preview::Wanted;
    }

    /// Whether the next step is to be shown.
    pub(super) fn wants_preview(&self) -> bool {
        matches!(self.preview, Preview::Wanted)
    }

    /// The clean latents that a step aims at, where a mask does not keep what was there.
    pub(super) fn saw(&mut self, mut clean: Vec<f32>) {
        if let Some(kept) = &self.kept {
            let of = kept.clean.iter().zip(kept.mask.iter().cycle());
            for (x, (kept, painted)) in clean.iter_mut().zip(of) {
                *x = kept + painted * (*x - kept);
            }
        }
        self.preview = Preview::Seen(clean);
    }

    /// What the picture looks like so far, to be drawn; `None` when nobody asked.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        let Preview::Seen(clean) = std::mem::replace(&mut self.preview, Preview::Unwanted) else {
            return None;
        };
        Some(Draft {
            model: Arc::clone(&self.model),
            clean,
            shape: self.latent_shape(),
            seed: self.seed,
        })
    }

    /// SDXL: original size, crop corner and target size.
    pub(super) fn time_ids(&self) -> [f32; 6] {
        let (height, width) = (self.height as f32, self.width as f32);
        [height, width, 0.0, 0.0, height, width]
    }
}
