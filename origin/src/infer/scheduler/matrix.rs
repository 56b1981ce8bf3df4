//! A step as a matrix, for latents that are kept elsewhere.
//!
//! Every solver here is linear in the latents, in what it remembers, in the denoiser's output and
//! in fresh noise. So the solver's own step, taken on unit vectors, tells all there is to know of
//! it, and whoever holds the real ones needs no second solver.

use super::SchedulerError;
use super::sampler::{Memory, Sampler};
use crate::infer::noise::Noise;

/// What one step makes of a picture. A plane is the latents or one thing the solver remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct StepMatrix {
    /// For each plane after the step, the latents first: how much of each plane before it, and
    /// last of the denoiser's output.
    pub planes: Vec<Vec<f32>>,
    /// How much of the fresh noise goes into each plane; nothing where the step draws none.
    pub noise: Option<Vec<f32>>,
}

impl StepMatrix {
    /// How much of plane `before`, or of the denoiser's output where that is `None`, goes into
    /// plane `after`.
    pub fn weight(&self, after: usize, before: Option<usize>) -> f32 {
        let weights = self
            .planes
            .get(after)
            .and_then(|weights| weights.split_last());
        let weight = weights.and_then(|(of_output, of_planes)| match before {
            None => Some(of_output),
            Some(plane) => of_planes.get(plane),
        });
        // A plane that nothing is remembered in.
        weight.copied().unwrap_or(0.0)
    }
}

impl Memory {
    /// Everything remembered, in an order that a step keeps.
    fn vectors(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let singles = [&mut self.sample, &mut self.sum].into_iter();
        self.outputs
            .iter_mut()
            .chain(singles.filter(|vector| !vector.is_empty()))
    }
}

fn unit(length: usize, place: usize) -> Vec<f32> {
    (0..length)
        .map(|i| f32::from(u8::from(i == place)))
        .collect()
}

impl Sampler {
    /// How much of the latents the denoiser gets to see.
    pub fn input_scale(&self) -> f32 {
        let mut seen = [1.0];
        self.model_input(&[1.0], &mut seen);
        let [scale] = seen;
        scale
    }

    /// What [`Sampler::clean`] takes of the latents and of the denoiser's output.
    pub fn clean_weights(&self) -> [f32; 2] {
        let clean = self.clean(&unit(2, 0), &unit(2, 1));
        [0, 1].map(|i| clean.get(i).copied().unwrap_or(0.0))
    }

    /// Takes the step and tells what it does. What the sampler remembers from here on are places,
    /// not values: such a sampler takes all its steps this way.
    ///
    /// # Errors
    /// A step beyond the end.
    pub fn step_matrix(&mut self) -> Result<StepMatrix, SchedulerError> {
        let known = 1 + self.memory.vectors().count();
        let length = known + 2;
        for (i, vector) in self.memory.vectors().enumerate() {
            *vector = unit(length, i + 1);
        }
        let (mut latents, output) = (unit(length, 0), unit(length, known));
        let mut noise = Noise::unit(known + 1);
        self.step(&mut latents, &output, &mut noise)?;
        let mut planes = vec![latents];
        planes.extend(self.memory.vectors().map(|vector| vector.clone()));
        let of_noise = planes.iter_mut().map(|plane| plane.pop().unwrap_or(0.0));
        let of_noise = of_noise.collect();
        Ok(StepMatrix {
            planes,
            noise: (noise.draws() > 0).then_some(of_noise),
        })
    }
}
