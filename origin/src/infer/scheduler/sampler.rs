//! Where one picture stands on its plan.

use super::{Prediction, SchedulerError, ddim, dpm, euler, lcm, pndm};
use crate::infer::noise::Noise;
use std::sync::Arc;

/// The steps of one run: a timestep for each call of the denoiser, and the solver's numbers.
#[derive(Debug)]
pub struct Plan {
    /// What the denoiser is told, one value a call, noisy first.
    pub timesteps: Vec<f32>,
    /// How strong the first noise is.
    pub init_noise_sigma: f32,
    pub(super) prediction: Prediction,
    pub(super) solver: Solver,
}

#[derive(Debug)]
pub(super) enum Solver {
    Ddim(ddim::Solver),
    Euler(euler::Solver),
    Pndm(pndm::Solver),
    Dpm(dpm::Solver),
    Lcm(lcm::Solver),
}

impl Plan {
    /// Calls of the denoiser a whole run takes (PNDM takes more than it was asked steps).
    pub fn calls(&self) -> usize {
        self.timesteps.len()
    }
}

/// One picture's way through a [`Plan`]: its position and what multistep solvers remember.
#[derive(Debug, Clone)]
pub struct Sampler {
    plan: Arc<Plan>,
    index: usize,
    start: usize,
    pub(super) memory: Memory,
}

/// Earlier model outputs, oldest first, and the sample PNDM returns to.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub outputs: Vec<Vec<f32>>,
    pub sample: Vec<f32>,
    pub sum: Vec<f32>,
}

impl Sampler {
    /// Starts at the noisy end, or `start` calls later (image to image).
    pub fn new(plan: Arc<Plan>, start: usize) -> Self {
        Self {
            plan,
            index: start,
            start,
            memory: Memory::default(),
        }
    }

    /// Calls made so far.
    pub fn done(&self) -> usize {
        self.index - self.start
    }

    /// Calls this run takes in all.
    pub fn calls(&self) -> usize {
        self.plan.calls().saturating_sub(self.start)
    }

    /// The timestep for the next call, or `None` at the end.
    pub fn timestep(&self) -> Option<f32> {
        self.plan.timesteps.get(self.index).copied()
    }

    /// Writes what the denoiser gets to see of `latents`.
    pub fn model_input(&self, latents: &[f32], out: &mut [f32]) {
        match &self.plan.solver {
            Solver::Euler(solver) => solver.model_input(self.index, latents, out),
            _ => out.copy_from_slice(latents),
        }
    }

    /// Takes one step: `latents` become the next ones, given the denoiser's `output` for them.
    ///
    /// # Errors
    /// A step beyond the end, or an output of another length.
    pub fn step(
        &mut self,
        latents: &mut [f32],
        output: &[f32],
        noise: &mut Noise,
    ) -> Result<(), SchedulerError> {
        if latents.len() != output.len() || self.timestep().is_none() {
            return Err(SchedulerError::Value("the denoiser's output"));
        }
        let (index, done) = (self.index, self.index - self.start);
        let memory = &mut self.memory;
        let stepped = match &self.plan.solver {
            Solver::Ddim(solver) => solver.step(index, latents, output),
            Solver::Euler(solver) => solver.step(index, latents, output, noise),
            Solver::Pndm(solver) => solver.step(index, done, latents, output, memory),
            Solver::Dpm(solver) => solver.step(index, done, latents, output, memory, noise),
            Solver::Lcm(solver) => solver.step(index, latents, output, noise),
        };
        stepped.ok_or(SchedulerError::Value("the position on the schedule"))?;
        self.index += 1;
        Ok(())
    }

    /// How much clean latents and unit noise count for in the latents here.
    fn mix(&self) -> Option<(f32, f32)> {
        match &self.plan.solver {
            Solver::Ddim(solver) => solver.mix(self.index),
            Solver::Euler(solver) => solver.mix(self.index),
            Solver::Pndm(solver) => solver.mix(self.index),
            Solver::Dpm(solver) => solver.mix(self.index),
            Solver::Lcm(solver) => solver.mix(self.index),
        }
    }

    /// What the denoiser's `output` for `latents` says they are when clean: for previews.
    pub fn clean(&self, latents: &[f32], output: &[f32]) -> Vec<f32> {
        let (keep, add) = self.mix().unwrap_or((1.0, 0.0));
        let total = keep * keep + add * add;
        let both = latents.iter().zip(output);
        match self.plan.prediction {
            Prediction::Sample => output.to_vec(),
            Prediction::Epsilon => both.map(|(x, out)| (x - add * out) / keep).collect(),
            Prediction::Velocity => both
                .map(|(x, out)| keep * x / total - add * out / total.sqrt())
                .collect(),
        }
    }

    /// Mixes clean latents with noise to where this sampler starts (image to image).
    pub fn add_noise(&self, clean: &[f32], noise: &[f32], out: &mut [f32]) {
        let (keep, add) = self.mix().unwrap_or((1.0, 0.0));
        for ((out, clean), noise) in out.iter_mut().zip(clean).zip(noise) {
            *out = keep * clean + add * noise;
        }
    }
}

/// `alphas_cumprod` at a timestep; below zero the schedule's final alpha.
pub(super) fn alpha_at(alphas: &[f32], timestep: i64, last: f32) -> Result<f32, SchedulerError> {
    match usize::try_from(timestep) {
        Err(_) => Ok(last),
        Ok(t) => alphas
            .get(t)
            .copied()
            .ok_or(SchedulerError::Value("steps_offset")),
    }
}
