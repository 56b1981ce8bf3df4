//! DDIM without added noise (eta 0), equation 12 of arXiv:2010.02502.

use super::sampler::{Plan, alpha_at};
use super::{Prediction, SchedulerConfig, SchedulerError, sampler, spacing};

#[derive(Debug)]
pub struct Solver {
    steps: Vec<Step>,
    prediction: Prediction,
    clip: Option<f32>,
}

/// Square roots of alpha and 1 - alpha, here and after the step.
#[derive(Debug, Clone, Copy)]
struct Step {
    signal: f32,
    noise: f32,
    next_signal: f32,
    next_noise: f32,
}

pub fn plan(
    config: &SchedulerConfig,
    alphas: &[f32],
    steps: usize,
) -> Result<Plan, SchedulerError> {
    let timesteps = spacing::timesteps(config, steps, true);
    let stride = (config.num_train_timesteps / steps) as i64;
    let last = if config.set_alpha_to_one {
        1.0
    } else {
        alphas.first().copied().unwrap_or(1.0)
    };
    let steps = timesteps
        .iter()
        .map(|t| {
            let alpha = alpha_at(alphas, *t as i64, last)?;
            let next = alpha_at(alphas, *t as i64 - stride, last)?;
            Ok(Step {
                signal: alpha.sqrt(),
                noise: (1.0 - alpha).sqrt(),
                next_signal: next.sqrt(),
                next_noise: (1.0 - next).sqrt(),
            })
        })
        .collect::<Result<_, SchedulerError>>()?;
    Ok(Plan {
        timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
        init_noise_sigma: 1.0,
        prediction: config.prediction,
        solver: sampler::Solver::Ddim(Solver {
            steps,
            prediction: config.prediction,
            clip: config.clip_sample,
        }),
    })
}

impl Solver {
    pub fn step(&self, index: usize, latents: &mut [f32], output: &[f32]) -> Option<()> {
        let s = *self.steps.get(index)?;
        for (x, out) in latents.iter_mut().zip(output) {
            let (clean, noise) = match self.prediction {
                Prediction::Epsilon => ((*x - s.noise * out) / s.signal, *out),
                Prediction::Sample => (*out, (*x - s.signal * out) / s.noise),
                Prediction::Velocity => {
                    (s.signal * *x - s.noise * out, s.signal * out + s.noise * *x)
                }
            };
            let clean = self.clip.map_or(clean, |range| clean.clamp(-range, range));
            *x = s.next_signal * clean + s.next_noise * noise;
        }
        Some(())
    }

    pub fn mix(&self, index: usize) -> Option<(f32, f32)> {
        self.steps.get(index).map(|s| (s.signal, s.noise))
    }
}
