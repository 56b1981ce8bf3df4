//! Latent consistency sampling (arXiv:2310.04378).

use super::sampler::{Plan, alpha_at};
use super::{Prediction, SchedulerConfig, SchedulerError, sampler};
use crate::infer::noise::Noise;

#[derive(Debug)]
pub struct Solver {
    steps: Vec<Step>,
    prediction: Prediction,
    clip: Option<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    signal: f32,
    noise: f32,
    next_signal: f32,
    next_noise: f32,
    keep: f32,
    take: f32,
}

/// The data's standard deviation in the boundary condition.
const SIGMA_DATA: f32 = 0.5;

pub fn plan(
    config: &SchedulerConfig,
    alphas: &[f32],
    steps: usize,
) -> Result<Plan, SchedulerError> {
    let original = config.original_inference_steps;
    if steps > original || original > config.num_train_timesteps {
        return Err(SchedulerError::Steps {
            steps,
            limit: original,
        });
    }
    let stride = config.num_train_timesteps / original;
    // Evenly spread picks out of the schedule the model was distilled on, noisy first.
    let pick = original as f64 / steps as f64;
    let timesteps: Vec<i64> = (0..steps)
        .map(|i| (i as f64 * pick).floor() as usize)
        .map(|i| ((original - i) * stride) as i64 - 1)
        .collect();
    let last = if config.set_alpha_to_one {
        1.0
    } else {
        alphas.first().copied().unwrap_or(1.0)
    };
    let levels = timesteps
        .iter()
        .zip(timesteps.iter().skip(1).chain(timesteps.last()));
    let steps = levels
        .map(|(t, next)| {
            let alpha = alpha_at(alphas, *t, last)?;
            let next = alpha_at(alphas, *next, last)?;
            let scaled = *t as f32 * config.timestep_scaling;
            let divisor = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            Ok(Step {
                signal: alpha.sqrt(),
                noise: (1.0 - alpha).sqrt(),
                next_signal: next.sqrt(),
                next_noise: (1.0 - next).sqrt(),
                keep: SIGMA_DATA * SIGMA_DATA / divisor,
                take: scaled / divisor.sqrt(),
            })
        })
        .collect::<Result<_, SchedulerError>>()?;
    Ok(Plan {
        timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
        init_noise_sigma: 1.0,
        prediction: config.prediction,
        solver: sampler::Solver::Lcm(Solver {
            steps,
            prediction: config.prediction,
            clip: config.clip_sample,
        }),
    })
}

impl Solver {
    pub fn step(
        &self,
        index: usize,
        latents: &mut [f32],
        output: &[f32],
        noise: &mut Noise,
    ) -> Option<()> {
        let s = *self.steps.get(index)?;
        for (x, out) in latents.iter_mut().zip(output) {
            let clean = match self.prediction {
                Prediction::Epsilon => (*x - s.noise * out) / s.signal,
                Prediction::Sample => *out,
                Prediction::Velocity => s.signal * *x - s.noise * out,
            };
            let clean = self.clip.map_or(clean, |range| clean.clamp(-range, range));
            *x = s.take * clean + s.keep * *x;
        }
        if index + 1 < self.steps.len() {
            noise.next_draw(latents.len(), |fresh| {
                for (x, fresh) in latents.iter_mut().zip(fresh) {
                    *x = s.next_signal * *x + s.next_noise * fresh;
                }
            });
        }
        Some(())
    }

    pub fn mix(&self, index: usize) -> Option<(f32, f32)> {
        self.steps.get(index).map(|s| (s.signal, s.noise))
    }
}
