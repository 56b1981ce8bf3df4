//! Noise schedulers, value for value as diffusers 0.39 computes them: DDIM, PNDM, Euler, Euler
//! ancestral, DPM-Solver++ and LCM, read from a `scheduler_config.json`.
//!
//! A [`Scheduler`] holds what training fixed, a [`Plan`] what a number of steps fixes, and a
//! [`Sampler`] where one picture stands on its plan. Coefficients are single precision and
//! combined in the reference's order, so that even the steps at zero signal-to-noise ratio,
//! where latents reach the thousands, agree to a few units in the last place.
//!
//! Sources: DDIM arXiv:2010.02502, PNDM 2202.09778, Euler and Karras 2206.00364, DPM-Solver++
//! 2211.01095, LCM 2310.04378, zero terminal SNR 2305.08891.

mod config;
mod ddim;
mod dpm;
mod euler;
mod file;
mod lcm;
mod matrix;
mod pndm;
mod sampler;
mod spacing;
mod training;

#[cfg(test)]
mod golden_tests;

pub use config::{Kind, SchedulerConfig, SchedulerError};
pub use file::SchedulerFile;
pub use matrix::StepMatrix;
pub use sampler::{Plan, Sampler};

use config::{Prediction, Spacing};
use std::sync::Arc;

/// A scheduler as a model folder describes it, ready to plan any number of steps.
#[derive(Debug, Clone)]
pub struct Scheduler {
    config: SchedulerConfig,
    alphas_cumprod: Arc<[f32]>,
}

impl Scheduler {
    /// Reads `scheduler_config.json` as the class that wrote it. Options that would change the
    /// picture and are not supported are refused by name, never ignored.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<Self, SchedulerError> {
        let file = SchedulerFile::parse(text)?;
        file.read_as(file.class())
    }

    fn new(config: SchedulerConfig) -> Result<Self, SchedulerError> {
        let alphas_cumprod = training::alphas_cumprod(&config)?.into();
        Ok(Self {
            config,
            alphas_cumprod,
        })
    }

    /// As the pipelines of Stable Diffusion 1 and 2 run any scheduler, whatever its file says: values
    /// are not clipped, and timesteps are one later.
    pub fn for_stable_diffusion(mut self) -> Self {
        self.config.clip_sample = None;
        self.config.steps_offset = 1;
        self
    }

    /// Without the Runge-Kutta warm-up of PNDM: so Stable Diffusion paints a part of a picture anew.
    pub fn without_warm_up(mut self) -> Self {
        self.config.skip_prk_steps = true;
        self
    }

    /// Which solver this is.
    pub fn kind(&self) -> Kind {
        self.config.kind
    }

    /// Whether steps are linear in the latents, so that a [`StepMatrix`] tells them whole: not where
    /// values are clipped.
    pub fn is_linear(&self) -> bool {
        match self.config.kind {
            Kind::Ddim | Kind::Lcm => self.config.clip_sample.is_none(),
            Kind::Euler | Kind::EulerAncestral | Kind::DpmPlusPlus | Kind::Pndm => true,
        }
    }

    /// The most planes a picture's latents and what the solver remembers of it take.
    pub fn planes(&self) -> usize {
        match self.config.kind {
            Kind::Ddim | Kind::Euler | Kind::EulerAncestral | Kind::Lcm => 1,
            Kind::DpmPlusPlus => 2,
            // Four outputs, the sample it returns to and the sum of its warm-up.
            Kind::Pndm => 7,
        }
    }

    /// Lays out `steps` steps (1 or more).
    ///
    /// # Errors
    /// More steps than the training had, or than an LCM schedule has.
    pub fn plan(&self, steps: usize) -> Result<Plan, SchedulerError> {
        let limit = self.config.num_train_timesteps;
        if steps == 0 || steps > limit {
            return Err(SchedulerError::Steps { steps, limit });
        }
        match self.config.kind {
            Kind::Ddim => ddim::plan(&self.config, &self.alphas_cumprod, steps),
            Kind::Pndm => pndm::plan(&self.config, &self.alphas_cumprod, steps),
            Kind::Euler | Kind::EulerAncestral => {
                euler::plan(&self.config, &self.alphas_cumprod, steps)
            }
            Kind::DpmPlusPlus => dpm::plan(&self.config, &self.alphas_cumprod, steps),
            Kind::Lcm => lcm::plan(&self.config, &self.alphas_cumprod, steps),
        }
    }
}
