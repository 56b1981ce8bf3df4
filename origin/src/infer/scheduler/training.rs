//! The noise levels the model was trained on: betas and their cumulated alphas.

use super::config::{BetaSchedule, Kind, SchedulerConfig, SchedulerError};

/// `alphas_cumprod` of every training step, in single precision as the reference keeps it.
pub fn alphas_cumprod(config: &SchedulerConfig) -> Result<Vec<f32>, SchedulerError> {
    let count = config.num_train_timesteps;
    let mut betas = match &config.trained_betas {
        Some(betas) if betas.len() == count => betas.clone(),
        Some(_) => return Err(SchedulerError::Value("trained_betas")),
        None => match config.beta_schedule {
            BetaSchedule::Linear => linspace(config.beta_start, config.beta_end, count),
            BetaSchedule::ScaledLinear => {
                let (start, end) = (config.beta_start.sqrt(), config.beta_end.sqrt());
                linspace(start, end, count)
                    .into_iter()
                    .map(|root| root * root)
                    .collect()
            }
            BetaSchedule::SquaredcosCapV2 => cosine(count),
        },
    };
    if betas.iter().any(|beta| !(0.0..=1.0).contains(beta)) {
        return Err(SchedulerError::Value("beta_start or beta_end"));
    }
    if config.rescale_betas_zero_snr {
        betas = rescaled_to_zero_snr(&betas);
    }
    let mut alphas = cumulated(betas.iter().map(|beta| 1.0 - beta));
    let sigma_based = matches!(
        config.kind,
        Kind::Euler | Kind::EulerAncestral | Kind::DpmPlusPlus
    );
    if config.rescale_betas_zero_snr && sigma_based {
        // An alpha of zero would be a sigma of infinity; this is the reference's stand-in.
        if let Some(last) = alphas.last_mut() {
            *last = 2f32.powi(-24);
        }
    }
    Ok(alphas)
}

/// `torch.linspace` in single precision: counted from both ends towards the middle.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| match i < count / 2 {
            true => start + step * i as f32,
            false => end - step * (count - i - 1) as f32,
        })
        .collect()
}

fn cosine(count: usize) -> Vec<f32> {
    let bar = |t: f64| {
        ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
            .cos()
            .powi(2)
    };
    let at = |i: usize| bar(i as f64 / count as f64);
    (0..count)
        .map(|i| (1.0 - at(i + 1) / at(i)).min(0.999) as f32)
        .collect()
}

/// The running product is carried in double precision, each value kept in single.
fn cumulated(alphas: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut product = 1f64;
    alphas
        .map(|alpha| {
            product *= f64::from(alpha);
            product as f32
        })
        .collect()
}

/// Algorithm 1 of arXiv:2305.08891.
fn rescaled_to_zero_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulated(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let first = roots.first().copied().unwrap_or(1.0);
    let last = roots.last().copied().unwrap_or(0.0);
    let scale = first / (first - last);
    let bars = roots.into_iter().map(|root| {
        let root = (root - last) * scale;
        root * root
    });
    let mut before = 1.0;
    bars.map(|bar| {
        let alpha = bar / before;
        before = bar;
        1.0 - alpha
    })
    .collect()
}
