//! Euler and Euler ancestral, over sigmas (algorithm 2 of arXiv:2206.00364 without churn).

use super::config::Kind;
use super::sampler::Plan;
use super::{Prediction, SchedulerConfig, SchedulerError, Spacing, sampler, spacing};
use crate::infer::noise::Noise;

#[derive(Debug)]
pub struct Solver {
    /// One more than there are steps; the last is where the run ends.
    sigmas: Vec<f32>,
    prediction: Prediction,
    pub ancestral: bool,
}

pub fn plan(
    config: &SchedulerConfig,
    alphas: &[f32],
    steps: usize,
) -> Result<Plan, SchedulerError> {
    let timesteps = spacing::timesteps(config, steps, false);
    // numpy hands these out in single precision before they are looked up.
    let timesteps = timesteps.into_iter().map(|t| f64::from(t as f32)).collect();
    let (sigmas, timesteps) =
        spacing::sigmas_and_timesteps(config, alphas, timesteps, None, false)?;
    let highest = sigmas.iter().copied().fold(0.0, f32::max);
    Ok(Plan {
        timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
        init_noise_sigma: match config.spacing {
            Spacing::Linspace | Spacing::Trailing => highest,
            Spacing::Leading => (highest * highest + 1.0).sqrt(),
        },
        prediction: config.prediction,
        solver: sampler::Solver::Euler(Solver {
            sigmas,
            prediction: config.prediction,
            ancestral: config.kind == Kind::EulerAncestral,
        }),
    })
}

impl Solver {
    pub fn model_input(&self, index: usize, latents: &[f32], out: &mut [f32]) {
        let sigma = self.sigmas.get(index).copied().unwrap_or(0.0);
        let scale = (sigma * sigma + 1.0).sqrt();
        for (out, x) in out.iter_mut().zip(latents) {
            *out = x / scale;
        }
    }

    pub fn step(
        &self,
        index: usize,
        latents: &mut [f32],
        output: &[f32],
        noise: &mut Noise,
    ) -> Option<()> {
        let sigma = *self.sigmas.get(index)?;
        let next = *self.sigmas.get(index + 1)?;
        let (up, down) = match self.ancestral {
            true => {
                let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
                (up, (next * next - up * up).sqrt())
            }
            false => (0.0, next),
        };
        let variance = sigma * sigma + 1.0;
        let from_output = -sigma / variance.sqrt();
        for (x, out) in latents.iter_mut().zip(output) {
            let clean = match self.prediction {
                Prediction::Epsilon => *x - sigma * out,
                Prediction::Sample => *out,
                Prediction::Velocity => out * from_output + *x / variance,
            };
            *x += (*x - clean) / sigma * (down - sigma);
        }
        if self.ancestral {
            noise.next_draw(latents.len(), |fresh| {
                for (x, fresh) in latents.iter_mut().zip(fresh) {
                    *x += fresh * up;
                }
            });
        }
        Some(())
    }

    pub fn mix(&self, index: usize) -> Option<(f32, f32)> {
        self.sigmas.get(index).map(|sigma| (1.0, *sigma))
    }
}
