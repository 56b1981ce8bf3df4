//! PNDM (arXiv:2202.09778): linear multistep, with Runge-Kutta warm-up or without.

use super::sampler::{Memory, Plan, alpha_at};
use super::{Prediction, SchedulerConfig, SchedulerError, Spacing, sampler, spacing};

#[derive(Debug)]
pub struct Solver {
    timesteps: Vec<i64>,
    alphas: Vec<f32>,
    last_alpha: f32,
    stride: i64,
    warm_up: usize,
    prediction: Prediction,
}

pub fn plan(
    config: &SchedulerConfig,
    alphas: &[f32],
    steps: usize,
) -> Result<Plan, SchedulerError> {
    let stride = config.num_train_timesteps / steps;
    let ascending: Vec<i64> = match config.spacing {
        Spacing::Linspace => spacing::linspace((config.num_train_timesteps - 1) as f64, steps)
            .into_iter()
            .map(|t| t.round_ties_even() as i64)
            .collect(),
        _ => spacing::timesteps(config, steps, true)
            .into_iter()
            .rev()
            .map(|t| t as i64)
            .collect(),
    };
    let (warm_up, multistep) = match config.skip_prk_steps {
        true => (Vec::new(), with_second_repeated(&ascending)),
        false => {
            let order = 4.min(ascending.len());
            let split = ascending.len() - order;
            let (_, tail) = ascending.split_at(split);
            let kept = ascending.len().saturating_sub(3);
            (
                runge_kutta(tail, (stride / 2) as i64),
                ascending.split_at(kept).0.iter().rev().copied().collect(),
            )
        }
    };
    let counted = warm_up.len();
    let timesteps: Vec<i64> = warm_up.into_iter().chain(multistep).collect();
    let last_alpha = if config.set_alpha_to_one {
        1.0
    } else {
        alphas.first().copied().unwrap_or(1.0)
    };
    for timestep in &timesteps {
        alpha_at(alphas, *timestep, last_alpha)?;
    }
    Ok(Plan {
        timesteps: timesteps.iter().map(|t| *t as f32).collect(),
        init_noise_sigma: 1.0,
        prediction: config.prediction,
        solver: sampler::Solver::Pndm(Solver {
            timesteps,
            alphas: alphas.to_vec(),
            last_alpha,
            stride: stride as i64,
            warm_up: counted,
            prediction: config.prediction,
        }),
    })
}

/// Noisy first; the second timestep is visited twice, its second visit corrects the first step.
fn with_second_repeated(ascending: &[i64]) -> Vec<i64> {
    let descending = ascending.iter().rev().copied();
    let second = ascending
        .len()
        .checked_sub(2)
        .and_then(|i| ascending.get(i))
        .copied();
    let mut out: Vec<i64> = descending.collect();
    if let Some(second) = second {
        out.insert(1, second);
    }
    out
}

/// Each of the four noisiest timesteps and the half step above it, arranged in fours.
fn runge_kutta(tail: &[i64], half: i64) -> Vec<i64> {
    let points: Vec<i64> = tail.iter().flat_map(|t| [*t, *t + half]).collect();
    let kept = points.split_last().map_or(&[] as &[i64], |(_, rest)| rest);
    let doubled: Vec<i64> = kept.iter().flat_map(|t| [*t, *t]).collect();
    let inner = doubled.len().saturating_sub(2);
    doubled.into_iter().skip(1).take(inner).rev().collect()
}

impl Solver {
    /// `done` counts calls made, as the reference's `counter` does.
    pub fn step(
        &self,
        index: usize,
        done: usize,
        latents: &mut [f32],
        output: &[f32],
        memory: &mut Memory,
    ) -> Option<()> {
        let timestep = *self.timesteps.get(index)?;
        match done < self.warm_up {
            true => self.warm_up_step(timestep, done, latents, output, memory),
            false => self.multistep(timestep, done, latents, output, memory),
        }
    }

    fn warm_up_step(
        &self,
        timestep: i64,
        done: usize,
        latents: &mut [f32],
        output: &[f32],
        memory: &mut Memory,
    ) -> Option<()> {
        let next = timestep - if done % 2 == 1 { 0 } else { self.stride / 2 };
        let from = *self.timesteps.get(done / 4 * 4)?;
        if memory.sum.is_empty() {
            memory.sum = vec![0.0; output.len()];
        }
        let weight = if matches!(done % 4, 0 | 3) {
            1.0 / 6.0
        } else {
            1.0 / 3.0
        };
        if done.is_multiple_of(4) {
            memory.outputs.push(output.to_vec());
            memory.sample = latents.to_vec();
        }
        for (sum, out) in memory.sum.iter_mut().zip(output) {
            *sum += weight * out;
        }
        let slope: Vec<f32> = match done % 4 {
            3 => std::mem::take(&mut memory.sum),
            _ => output.to_vec(),
        };
        latents.copy_from_slice(&memory.sample);
        self.advance(from, next, latents, &slope)
    }

    fn multistep(
        &self,
        timestep: i64,
        done: usize,
        latents: &mut [f32],
        output: &[f32],
        memory: &mut Memory,
    ) -> Option<()> {
        let (mut from, mut next) = (timestep, timestep - self.stride);
        if done != 1 {
            let extra = memory.outputs.len().saturating_sub(3);
            memory.outputs.drain(..extra);
            memory.outputs.push(output.to_vec());
        } else {
            (from, next) = (timestep + self.stride, timestep);
        }
        let slope: Vec<f32> = match memory.outputs.as_slice() {
            [first] if done == 1 => {
                latents.copy_from_slice(&memory.sample);
                output
                    .iter()
                    .zip(first)
                    .map(|(o, f)| (o + f) / 2.0)
                    .collect()
            }
            [_] => {
                memory.sample = latents.to_vec();
                output.to_vec()
            }
            [b, a] => a.iter().zip(b).map(|(a, b)| (3.0 * a - b) / 2.0).collect(),
            [c, b, a] => {
                let pairs = a.iter().zip(b).zip(c);
                pairs
                    .map(|((a, b), c)| (23.0 * a - 16.0 * b + 5.0 * c) / 12.0)
                    .collect()
            }
            [d, c, b, a] => {
                let rows = a.iter().zip(b).zip(c).zip(d);
                rows.map(|(((a, b), c), d)| 1.0 / 24.0 * (55.0 * a - 59.0 * b + 37.0 * c - 9.0 * d))
                    .collect()
            }
            _ => return None,
        };
        self.advance(from, next, latents, &slope)
    }

    /// Formula 9 of the paper.
    fn advance(&self, from: i64, to: i64, latents: &mut [f32], slope: &[f32]) -> Option<()> {
        let alpha = alpha_at(&self.alphas, from, self.last_alpha).ok()?;
        let next = alpha_at(&self.alphas, to, self.last_alpha).ok()?;
        let (beta, next_beta) = (1.0 - alpha, 1.0 - next);
        let keep = (next / alpha).sqrt();
        let divisor = alpha * next_beta.sqrt() + (alpha * beta * next).sqrt();
        for (x, out) in latents.iter_mut().zip(slope) {
            let noise = match self.prediction {
                Prediction::Velocity => alpha.sqrt() * out + beta.sqrt() * *x,
                _ => *out,
            };
            *x = keep * *x - (next - alpha) * noise / divisor;
        }
        Some(())
    }

    pub fn mix(&self, index: usize) -> Option<(f32, f32)> {
        let alpha = alpha_at(&self.alphas, *self.timesteps.get(index)?, self.last_alpha).ok()?;
        Some((alpha.sqrt(), (1.0 - alpha).sqrt()))
    }
}
