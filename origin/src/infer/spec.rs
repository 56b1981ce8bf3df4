//! What can be asked of a model, and a request for pictures.

use super::error::InferError;
use super::pixels::Pixels;
use std::sync::Arc;

/// Steps a request may ask for.
pub const MAX_STEPS: usize = 100;
/// Pictures a request may ask for.
pub const MAX_IMAGES: usize = 4;
/// Characters a prompt may have.
pub const MAX_PROMPT: usize = 2000;

/// Largest seed of a request and of a picture: JavaScript clients can write no larger number exactly.
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// What a loaded model can do and does by default.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// What requests call it.
    pub name: String,
    /// Default width in pixels.
    pub width: usize,
    /// Default height in pixels.
    pub height: usize,
    /// Every side is a multiple of this many pixels.
    pub multiple: usize,
    /// Smallest side in pixels.
    pub min_side: usize,
    /// Largest side in pixels.
    pub max_side: usize,
    /// Default guidance scale; 1 switches guidance off.
    pub guidance_scale: f32,
    /// Default number of steps.
    pub steps: usize,
    /// Largest number of steps.
    pub max_steps: usize,
    /// Whether it can start from a picture.
    pub takes_image: bool,
    /// The scheduler's diffusers class name.
    pub scheduler: &'static str,
}

/// A request for pictures.
#[derive(Clone, PartialEq)]
pub struct ImageSpec {
    /// Name of a loaded model.
    pub model: String,
    /// What to show.
    pub prompt: String,
    /// What not to show; counts only with guidance.
    pub negative_prompt: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Steps.
    pub steps: usize,
    /// How strictly the prompt is followed; 1 skips guidance and halves the work.
    pub guidance_scale: f32,
    /// Seed of the first picture; [`ImageSpec::seed_of`] tells the others'.
    pub seed: u64,
    /// How many pictures.
    pub n: usize,
    /// A picture to start from.
    pub init: Option<InitImage>,
}

/// Prompts stay out of logs, so they stay out of Debug.
impl std::fmt::Debug for ImageSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageSpec")
            .field("model", &self.model)
            .field("prompt", &"REDACTED")
            .field("negative_prompt", &"REDACTED")
            .field("width", &self.width)
            .field("height", &self.height)
            .field("steps", &self.steps)
            .field("guidance_scale", &self.guidance_scale)
            .field("seed", &self.seed)
            .field("n", &self.n)
            .field("init", &self.init.is_some())
            .finish()
    }
}

/// A picture to start from, in the size asked for.
#[derive(Clone, PartialEq)]
pub struct InitImage {
    /// The picture.
    pub pixels: Arc<Pixels>,
    /// How much of it is replaced, over 0 and up to 1.
    pub strength: f32,
    /// Where it is replaced; everywhere without one.
    pub mask: Option<Arc<Mask>>,
}

/// Where a picture is painted anew, in the size asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// One byte a pixel, row by row: 128 and over is painted anew, under it is kept.
    pub values: Vec<u8>,
}

impl Mask {
    /// Whether a pixel of that value is painted anew.
    pub(super) fn paints(&self, value: u8) -> bool {
        value >= 128
    }

    /// 1 where a latent is painted anew, 0 where it is kept: each takes the pixel at its corner.
    pub(super) fn for_latents(&self, factor: usize) -> Vec<f32> {
        let rows = self
            .values
            .chunks_exact(self.width.max(1))
            .step_by(factor.max(1));
        let painted = |value: &u8| if self.paints(*value) { 1.0 } else { 0.0 };
        rows.flat_map(|row| row.iter().step_by(factor.max(1)).map(painted))
            .collect()
    }
}

impl ImageSpec {
    /// Cost in thousandths of a unit, rounded up: `n x steps run x (width x height / 512²)`,
    /// twice that with guidance.
    pub fn cost_milliunits(&self) -> u64 {
        let run = self.n as u64 * self.steps_run() as u64;
        let area = self.width as u64 * self.height as u64;
        (run * area * self.branches() as u64 * 1000).div_ceil(512 * 512)
    }

    /// The seed of picture `i`: `seed + i`, and 0 after the largest one, so that every picture's seed can be asked for.
    pub fn seed_of(&self, i: u64) -> u64 {
        match self.seed > MAX_SEED {
            // Only what is no request has such a seed.
            true => self.seed.wrapping_add(i),
            false => (self.seed + i) & MAX_SEED,
        }
    }

    /// Steps after leaving out those that a picture to start from replaces.
    pub fn steps_run(&self) -> usize {
        match &self.init {
            None => self.steps,
            Some(init) => ((self.steps as f32 * init.strength) as usize).min(self.steps),
        }
    }

    /// Denoiser rows a step: two with guidance.
    pub fn branches(&self) -> usize {
        if self.guidance_scale > 1.0 { 2 } else { 1 }
    }
}

impl ModelInfo {
    /// A request for one picture with this model's defaults.
    pub fn spec(&self, prompt: &str, seed: u64) -> ImageSpec {
        ImageSpec {
            model: self.name.clone(),
            prompt: prompt.to_owned(),
            negative_prompt: String::new(),
            width: self.width,
            height: self.height,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            seed,
            n: 1,
            init: None,
        }
    }

    /// Checks a request against what this model can do.
    ///
    /// # Errors
    /// `BadSpec` with the first field at fault and what it may be.
    pub fn validate(&self, spec: &ImageSpec) -> Result<(), InferError> {
        let bad = |field, reason: String| Err(InferError::BadSpec { field, reason });
        for (field, text) in [
            ("prompt", &spec.prompt),
            ("negative_prompt", &spec.negative_prompt),
        ] {
            if text.chars().count() > MAX_PROMPT {
                return bad(field, format!("must have at most {MAX_PROMPT} characters"));
            }
        }
        for (field, side) in [("width", spec.width), ("height", spec.height)] {
            let (low, high) = (self.min_side, self.max_side);
            if side % self.multiple != 0 || !(low..=high).contains(&side) {
                let multiple = self.multiple;
                return bad(
                    field,
                    format!("must be a multiple of {multiple} from {low} to {high}"),
                );
            }
        }
        if !(1..=self.max_steps).contains(&spec.steps) {
            return bad("steps", format!("must be from 1 to {}", self.max_steps));
        }
        if !(1..=MAX_IMAGES).contains(&spec.n) {
            return bad("n", format!("must be from 1 to {MAX_IMAGES}"));
        }
        if !(0.0..=50.0).contains(&spec.guidance_scale) {
            return bad("guidance_scale", "must be from 0 to 50".to_owned());
        }
        if let Some(init) = &spec.init {
            if !self.takes_image {
                return bad("init_image", "is not taken by this model".to_owned());
            }
            if !(init.strength > 0.0 && init.strength <= 1.0) {
                return bad("strength", "must be over 0 and at most 1".to_owned());
            }
            if spec.steps_run() == 0 {
                return bad("strength", "leaves no step to run".to_owned());
            }
            if (init.pixels.width, init.pixels.height) != (spec.width, spec.height) {
                return bad("init_image", "must have the size asked for".to_owned());
            }
            let wrong = |mask: &Mask| {
                (mask.width, mask.height) != (spec.width, spec.height)
                    || mask.values.len() != mask.width * mask.height
            };
            if init.mask.as_deref().is_some_and(wrong) {
                return bad("mask", "must have the size asked for".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ModelInfo {
        ModelInfo {
            name: "demo".into(),
            width: 128,
            height: 128,
            multiple: 32,
            min_side: 64,
            max_side: 256,
            guidance_scale: 7.5,
            steps: 20,
            max_steps: 100,
            takes_image: false,
            scheduler: "DDIMScheduler",
        }
    }

    #[test]
    fn cost_is_the_contracts_formula_rounded_up() {
        let mut spec = info().spec("x", 1);
        // 1 x 20 x (128 x 128 / 512²) x 2 = 2.5 units
        assert_eq!(spec.cost_milliunits(), 2500);
        spec.guidance_scale = 1.0;
        assert_eq!(spec.cost_milliunits(), 1250);
        (spec.steps, spec.width, spec.height) = (1, 64, 96);
        // 6144 / 262144 = 23.4375 thousandths
        assert_eq!(spec.cost_milliunits(), 24);
        spec.n = 4;
        assert_eq!(spec.cost_milliunits(), 94);
    }

    #[test]
    fn after_the_largest_seed_comes_the_smallest() {
        let seeds = |seed| [0, 1, 2, 3].map(|i| info().spec("x", seed).seed_of(i));
        assert_eq!(seeds(7), [7, 8, 9, 10]);
        assert_eq!(seeds(MAX_SEED), [MAX_SEED, 0, 1, 2]);
        assert_eq!(
            seeds(MAX_SEED - 2),
            [MAX_SEED - 2, MAX_SEED - 1, MAX_SEED, 0]
        );
        // In this process alone, without a request.
        assert_eq!(seeds(u64::MAX), [u64::MAX, 0, 1, 2]);
    }

    #[test]
    fn each_field_out_of_range_is_named() {
        let info = info();
        let base = info.spec("x", 1);
        assert!(info.validate(&base).is_ok());
        type Change = fn(&mut ImageSpec);
        let cases: [(&str, Change); 9] = [
            ("prompt", |s| s.prompt = "é".repeat(2001)),
            ("negative_prompt", |s| s.negative_prompt = "x".repeat(2001)),
            ("width", |s| s.width = 100),
            ("width", |s| s.width = 288),
            ("height", |s| s.height = 0),
            ("steps", |s| s.steps = 101),
            ("n", |s| s.n = 0),
            ("guidance_scale", |s| s.guidance_scale = f32::NAN),
            ("guidance_scale", |s| s.guidance_scale = -1.0),
        ];
        for (field, change) in cases {
            let mut spec = base.clone();
            change(&mut spec);
            match info.validate(&spec) {
                Err(InferError::BadSpec { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn debug_output_holds_no_prompt() {
        let text = format!("{:?}", info().spec("a secret wish", 1));
        assert!(!text.contains("secret"), "{text}");
    }
}
