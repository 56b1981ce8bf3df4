//! Which training steps are visited, and the sigmas at them: numpy's arithmetic, kept exactly.

use super::config::{FinalSigma, SchedulerConfig, SigmaShape};
use super::{SchedulerError, Spacing};

/// `numpy.linspace(0, stop, count)`.
pub fn linspace(stop: f64, count: usize) -> Vec<f64> {
    let step = if count > 1 {
        stop / (count - 1) as f64
    } else {
        0.0
    };
    (0..count)
        .map(|i| {
            if i > 0 && i + 1 == count {
                stop
            } else {
                i as f64 * step
            }
        })
        .collect()
}

/// `numpy.arange(start, 0, -step)` for a fractional step.
pub fn arange_down(start: f64, step: f64) -> Vec<f64> {
    let delta = (start - step) - start;
    (0..(start / step).ceil() as usize)
        .map(|i| start + i as f64 * delta)
        .collect()
}

/// Timesteps from noisy to clean, rounded to whole ones where `round` is set.
pub fn timesteps(config: &SchedulerConfig, steps: usize, round: bool) -> Vec<f64> {
    let total = config.num_train_timesteps;
    let rounded = |value: f64| {
        if round {
            value.round_ties_even()
        } else {
            value
        }
    };
    match config.spacing {
        Spacing::Linspace => linspace((total - 1) as f64, steps)
            .into_iter()
            .rev()
            .map(rounded)
            .collect(),
        Spacing::Leading => {
            let ratio = total / steps;
            (0..steps)
                .rev()
                .map(|i| (i * ratio) as f64 + config.steps_offset as f64)
                .collect()
        }
        Spacing::Trailing => arange_down(total as f64, total as f64 / steps as f64)
            .into_iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    }
}

/// `sqrt((1 - a) / a)` of every training step.
pub fn training_sigmas(alphas_cumprod: &[f32]) -> Vec<f32> {
    alphas_cumprod
        .iter()
        .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
        .collect()
}

/// `numpy.interp` over whole-numbered positions.
fn interpolated(sigmas: &[f32], at: f64) -> Result<f64, SchedulerError> {
    let last = sigmas.len().saturating_sub(1);
    let low = at.clamp(0.0, last as f64) as usize;
    let value = |i: usize| {
        sigmas
            .get(i)
            .map(|s| f64::from(*s))
            .ok_or(SchedulerError::Value("timesteps"))
    };
    let (a, b) = (value(low)?, value((low + 1).min(last))?);
    Ok(if low >= last {
        a
    } else {
        (b - a) * (at.max(0.0) - low as f64) + a
    })
}

/// Sigmas of a schedule, ended by the final one, and the timesteps that belong to them.
///
/// `round_reshaped` rounds the timesteps of Karras and exponential sigmas to whole ones.
pub fn sigmas_and_timesteps(
    config: &SchedulerConfig,
    alphas_cumprod: &[f32],
    timesteps: Vec<f64>,
    ends: Option<(f64, f64)>,
    round_reshaped: bool,
) -> Result<(Vec<f32>, Vec<f64>), SchedulerError> {
    let training = training_sigmas(alphas_cumprod);
    let steps = timesteps.len();
    let visited = timesteps
        .iter()
        .map(|t| interpolated(&training, *t))
        .collect::<Result<Vec<_>, _>>()?;
    let (high, low) = match ends {
        Some(ends) => ends,
        None => (
            visited.first().copied().unwrap_or(0.0),
            visited.last().copied().unwrap_or(0.0),
        ),
    };
    let (high, low) = (
        config.sigma_max.unwrap_or(high),
        config.sigma_min.unwrap_or(low),
    );
    let (sigmas, timesteps) = match config.sigma_shape {
        SigmaShape::Interpolated => (visited, timesteps),
        shape => {
            let sigmas = match shape {
                SigmaShape::Karras => karras(high, low, steps),
                _ => exponential(high, low, steps),
            };
            let logs: Vec<f32> = training.iter().map(|sigma| sigma.ln()).collect();
            let times = sigmas.iter().map(|sigma| timestep_of(*sigma, &logs));
            let times = times.map(|t| {
                if round_reshaped {
                    t.round_ties_even()
                } else {
                    t
                }
            });
            let times = times.collect();
            (sigmas, times)
        }
    };
    let last = match config.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => training.first().copied().unwrap_or(0.0),
    };
    let sigmas = sigmas
        .into_iter()
        .map(|sigma| sigma as f32)
        .chain([last])
        .collect();
    Ok((sigmas, timesteps))
}

/// Equation 5 of arXiv:2206.00364 with rho 7.
fn karras(high: f64, low: f64, steps: usize) -> Vec<f64> {
    let (high, low) = (high.powf(1.0 / 7.0), low.powf(1.0 / 7.0));
    linspace(1.0, steps)
        .into_iter()
        .map(|ramp| (high + ramp * (low - high)).powf(7.0))
        .collect()
}

fn exponential(high: f64, low: f64, steps: usize) -> Vec<f64> {
    let (high, low) = (high.ln(), low.ln());
    linspace(1.0, steps)
        .into_iter()
        .map(|ramp| (high + ramp * (low - high)).exp())
        .collect()
}

/// The (fractional) timestep whose log sigma this is; `logs` ascend.
fn timestep_of(sigma: f64, logs: &[f32]) -> f64 {
    let log = sigma.max(1e-10).ln();
    let below = logs.iter().rposition(|l| log >= f64::from(*l)).unwrap_or(0);
    let below = below.min(logs.len().saturating_sub(2));
    let (Some(low), Some(high)) = (logs.get(below), logs.get(below + 1)) else {
        return 0.0;
    };
    let weight = ((f64::from(*low) - log) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f64 + weight * (below + 1) as f64
}
