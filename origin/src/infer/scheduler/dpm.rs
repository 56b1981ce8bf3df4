//! DPM-Solver++ of first and second order (2M), deterministic or SDE (arXiv:2211.01095).

use super::config::{BetaSchedule, FinalSigma, SigmaShape};
use super::sampler::{Memory, Plan};
use super::{Prediction, SchedulerConfig, SchedulerError, Spacing, sampler, spacing};
use crate::infer::noise::Noise;

#[derive(Debug)]
pub struct Solver {
    levels: Vec<Level>,
    prediction: Prediction,
    order: usize,
    heun: bool,
    pub stochastic: bool,
    last_is_first_order: bool,
}

/// A noise level as the solver needs it: alpha, sigma and half the log signal-to-noise ratio.
#[derive(Debug, Clone, Copy)]
struct Level {
    alpha: f32,
    sigma: f32,
    lambda: f32,
}

impl Level {
    fn new(sigma: f32) -> Self {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        Self {
            alpha,
            sigma,
            lambda: alpha.ln() - sigma.ln(),
        }
    }
}

pub fn plan(
    config: &SchedulerConfig,
    alphas: &[f32],
    steps: usize,
) -> Result<Plan, SchedulerError> {
    let timesteps = timesteps(config, alphas, steps);
    let training = spacing::training_sigmas(alphas);
    let end = |sigma: Option<&f32>| sigma.map_or(0.0, |sigma| f64::from(*sigma));
    let ends = Some((end(training.last()), end(training.first())));
    let round = config.sigma_shape == SigmaShape::Karras
        && config.beta_schedule != BetaSchedule::SquaredcosCapV2;
    let (sigmas, timesteps) =
        spacing::sigmas_and_timesteps(config, alphas, timesteps, ends, round)?;
    let few = timesteps.len() < 15;
    Ok(Plan {
        timesteps: timesteps.into_iter().map(|t| t.trunc() as f32).collect(),
        init_noise_sigma: 1.0,
        prediction: config.prediction,
        solver: sampler::Solver::Dpm(Solver {
            levels: sigmas.into_iter().map(Level::new).collect(),
            prediction: config.prediction,
            order: config.solver_order,
            heun: config.solver_heun,
            stochastic: config.stochastic,
            last_is_first_order: config.euler_at_final
                || (config.lower_order_final && few)
                || config.final_sigma == FinalSigma::Zero,
        }),
    })
}

fn timesteps(config: &SchedulerConfig, alphas: &[f32], steps: usize) -> Vec<f64> {
    let total = config.num_train_timesteps;
    // Noise levels under the clipping bound are left out from the noisy end.
    let lambda = |alpha: f32| alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
    let clipped = alphas
        .iter()
        .rev()
        .take_while(|a| lambda(**a) < config.lambda_min_clipped)
        .count();
    let last = total - clipped;
    match config.spacing {
        Spacing::Linspace => spacing::linspace(last.saturating_sub(1) as f64, steps + 1)
            .into_iter()
            .skip(1)
            .rev()
            .map(f64::round_ties_even)
            .collect(),
        Spacing::Leading => {
            let stride = last / (steps + 1);
            (1..=steps)
                .rev()
                .map(|i| (i * stride) as f64 + config.steps_offset as f64)
                .collect()
        }
        Spacing::Trailing => spacing::arange_down(last as f64, total as f64 / steps as f64)
            .into_iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    }
}

impl Solver {
    pub fn step(
        &self,
        index: usize,
        done: usize,
        latents: &mut [f32],
        output: &[f32],
        memory: &mut Memory,
        noise: &mut Noise,
    ) -> Option<()> {
        let here = *self.levels.get(index)?;
        let next = *self.levels.get(index + 1)?;
        let clean: Vec<f32> = latents
            .iter()
            .zip(output)
            .map(|(x, out)| match self.prediction {
                Prediction::Epsilon => (x - here.sigma * out) / here.alpha,
                Prediction::Sample => *out,
                Prediction::Velocity => here.alpha * x - here.sigma * out,
            })
            .collect();
        let last = index + 2 == self.levels.len();
        let before = match (done, index.checked_sub(1)) {
            (0, _) | (_, None) => None,
            (_, Some(i)) => self.levels.get(i).copied(),
        };
        let first_order = self.order == 1 || (last && self.last_is_first_order);
        let h = next.lambda - here.lambda;
        let c = Coefficients::new(&here, &next, h, self.stochastic, self.heun);
        match (before.filter(|_| !first_order), memory.outputs.first()) {
            (Some(before), Some(earlier)) => {
                let ratio = 1.0 / ((here.lambda - before.lambda) / h);
                for ((x, m0), m1) in latents.iter_mut().zip(&clean).zip(earlier) {
                    *x = c.sample * *x + c.clean * m0 + c.slope * (ratio * (m0 - m1));
                }
            }
            _ => {
                for (x, m0) in latents.iter_mut().zip(&clean) {
                    *x = c.sample * *x + c.clean * m0;
                }
            }
        }
        if self.stochastic {
            noise.next_draw(latents.len(), |fresh| {
                for (x, fresh) in latents.iter_mut().zip(fresh) {
                    *x += c.noise * fresh;
                }
            });
        }
        memory.outputs.clear();
        memory.outputs.push(clean);
        Some(())
    }

    pub fn mix(&self, index: usize) -> Option<(f32, f32)> {
        self.levels
            .get(index)
            .map(|level| (level.alpha, level.sigma))
    }
}

struct Coefficients {
    sample: f32,
    clean: f32,
    slope: f32,
    noise: f32,
}

impl Coefficients {
    fn new(here: &Level, next: &Level, h: f32, stochastic: bool, heun: bool) -> Self {
        let decay = (-h).exp();
        if stochastic {
            let twice = (-2.0 * h).exp();
            let clean = next.alpha * (1.0 - twice);
            return Self {
                sample: next.sigma / here.sigma * decay,
                clean,
                slope: match heun {
                    true => next.alpha * ((1.0 - twice) / (-2.0 * h) + 1.0),
                    false => 0.5 * clean,
                },
                noise: next.sigma * (1.0 - twice).sqrt(),
            };
        }
        let clean = -(next.alpha * (decay - 1.0));
        Self {
            sample: next.sigma / here.sigma,
            clean,
            slope: match heun {
                true => next.alpha * ((decay - 1.0) / h + 1.0),
                false => 0.5 * clean,
            },
            noise: 0.0,
        }
    }
}
