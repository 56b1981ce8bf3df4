//! What a call of the denoiser is made of, row by row, on the host.

use crate::infer::batch::guidance_embedding;
use crate::infer::error::InferError;
use crate::infer::model::{Conditioning, Model};
use crate::infer::row::Row;
use std::sync::Arc;

/// What sets one prepared call apart from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the call.
    pub rows: usize,
    /// Of the latents.
    pub channels: usize,
    /// Of the latents.
    pub height: usize,
    /// Of the latents.
    pub width: usize,
    /// Of a prompt.
    pub tokens: usize,
}

impl Shape {
    /// Of the latents that the denoiser takes and gives.
    pub fn sample(self) -> [i64; 4] {
        [self.rows, self.channels, self.height, self.width].map(|n| n as i64)
    }
}

/// One row of a call: what the denoiser is told besides latents and timestep.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its prompt.
    pub text: Arc<Conditioning>,
    /// LCM: the guidance embedding, by the scale's bits.
    pub guidance: u32,
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) && self.guidance == other.guidance
    }
}

/// The rows of a call, in the call's order.
#[derive(Debug)]
pub struct Rows {
    /// How many, and of what size.
    pub shape: Shape,
    /// SDXL: the same for all, since their sizes are.
    time_ids: [f32; 6],
    /// Where each one's latents lie in the state.
    pub places: Vec<i64>,
    /// What they are multiplied with before the denoiser sees them.
    pub scales: Vec<f32>,
    /// Timesteps.
    pub times: Vec<f32>,
    /// What the denoiser is told.
    pub told: Vec<Told>,
}

impl Rows {
    /// Repeats the first row until there are `count`: for exports with a fixed number.
    fn fill_up(&mut self, count: usize) {
        fn repeat<T: Clone>(values: &mut Vec<T>, count: usize) {
            if let Some(first) = values.first().cloned() {
                values.resize(count.max(values.len()), first);
            }
        }
        repeat(&mut self.places, count);
        repeat(&mut self.scales, count);
        repeat(&mut self.times, count);
        repeat(&mut self.told, count);
        self.shape.rows = self.places.len();
    }
}

/// The rows of a denoiser's call, unguided before guided, and where in it each picture's two lie.
pub fn lay_out(model: &Model, rows: &[&mut Row]) -> Result<(Rows, Vec<[i64; 2]>), InferError> {
    let [channels, height, width] = rows.first().map_or([0; 3], |row| row.latent_shape());
    let mut call = Rows {
        shape: Shape {
            rows: 0,
            channels,
            height,
            width,
            tokens: rows.first().map_or(0, |row| row.positive.tokens),
        },
        time_ids: rows.first().map_or([0.0; 6], |row| row.time_ids()),
        places: Vec::new(),
        scales: Vec::new(),
        times: Vec::new(),
        told: Vec::new(),
    };
    let mut pairs = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let time = row.sampler.timestep().ok_or(InferError::BadSpec {
            field: "steps",
            reason: "are all taken already".to_owned(),
        })?;
        let first = call.places.len() as i64;
        for text in row.negative.iter().chain([&row.positive]) {
            call.places.push(place as i64);
            call.scales.push(row.sampler.input_scale());
            call.times.push(time);
            call.told.push(Told {
                text: Arc::clone(text),
                guidance: row.guidance.to_bits(),
            });
        }
        pairs.push([first, call.places.len() as i64 - 1]);
    }
    call.fill_up(model.fixed_rows.unwrap_or(0));
    Ok((call, pairs))
}

/// What an input takes, beyond `told`: the numbers of all rows one after the other.
pub type Numbers = (&'static str, Vec<i64>, Vec<f32>);

impl Rows {
    /// All inputs of the denoiser but latents and timestep.
    pub fn others(&self, model: &Model) -> Vec<Numbers> {
        let shape = self.shape;
        let rows = shape.rows as i64;
        let mut hidden = Vec::new();
        let mut pooled = Vec::new();
        let mut ids = Vec::new();
        let mut guidance = Vec::new();
        for row in &self.told {
            hidden.extend_from_slice(&row.text.hidden);
            pooled.extend_from_slice(&row.text.pooled);
            ids.extend_from_slice(&self.time_ids);
            if let Some(size) = model.guidance_embedding {
                let scale = f32::from_bits(row.guidance) - 1.0;
                guidance_embedding(scale, size, &mut guidance);
            }
        }
        let wide = |numbers: &Vec<f32>, parts: i64| numbers.len() as i64 / parts.max(1);
        let tokens = shape.tokens as i64;
        let all = [
            (
                "encoder_hidden_states",
                vec![rows, tokens, wide(&hidden, rows * tokens)],
                hidden,
            ),
            ("text_embeds", vec![rows, wide(&pooled, rows)], pooled),
            ("time_ids", vec![rows, 6], ids),
            ("timestep_cond", vec![rows, wide(&guidance, rows)], guidance),
        ];
        let mut all = Vec::from(all);
        all.retain(|(name, ..)| model.unet.input(name).is_some());
        all
    }
}
