//! How an autoencoder's latents are scaled for denoising.

use super::error::InferError;
use super::folder::VaeConfig;
use std::path::Path;

/// One for each channel of the latents.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Channel {
    mean: f32,
    deviation: f32,
}

/// The scaling factor, with a mean and a deviation for each channel.
#[derive(Debug)]
pub struct Scale {
    factor: f32,
    channels: Vec<Channel>,
}

impl Scale {
    /// Reads what `file` says of latents of so many channels. As in diffusers, `latents_mean` and `latents_std` count
    /// together or not at all.
    ///
    /// # Errors
    /// `ModelBroken` naming the field: another number of values than channels, values that are not finite, or a scale
    /// that is not above zero.
    pub fn read(config: &VaeConfig, file: &Path, channels: usize) -> Result<Self, InferError> {
        let is_scale = |x: f32| x.is_finite() && x > 0.0;
        let factor = config.scaling_factor.unwrap_or(0.18215);
        if !is_scale(factor) {
            return Err(InferError::broken(file, "scaling_factor is no scale"));
        }
        let shift = config.shift_factor.unwrap_or(0.0);
        if !shift.is_finite() {
            return Err(InferError::broken(file, "shift_factor is not finite"));
        }
        let (Some(means), Some(deviations)) = (&config.latents_mean, &config.latents_std) else {
            let plain = Channel {
                mean: shift,
                deviation: 1.0,
            };
            return Ok(Self {
                factor,
                channels: vec![plain; channels],
            });
        };
        for (field, values) in [("latents_mean", means), ("latents_std", deviations)] {
            if values.len() != channels {
                let count = values.len();
                let reason = format!("{field} has {count} values for {channels} channels");
                return Err(InferError::broken(file, reason));
            }
        }
        if !means.iter().all(|x| x.is_finite()) {
            return Err(InferError::broken(file, "latents_mean is not finite"));
        }
        if !deviations.iter().all(|x| is_scale(*x)) {
            return Err(InferError::broken(file, "latents_std is no scale"));
        }
        let each = means.iter().zip(deviations);
        let channels = each.map(|(mean, deviation)| Channel {
            mean: mean + shift,
            deviation: *deviation,
        });
        Ok(Self {
            factor,
            channels: channels.collect(),
        })
    }

    /// The decoder's latents of those that were denoised; a channel has `size` of them.
    pub fn for_decoder(&self, latents: &[f32], size: usize) -> Vec<f32> {
        let planes = latents.chunks(size.max(1)).zip(&self.channels);
        let scaled = |x: &f32, of: &Channel| x * of.deviation / self.factor + of.mean;
        planes
            .flat_map(|(plane, of)| plane.iter().map(move |x| scaled(x, of)))
            .collect()
    }

    /// The encoder's latents as denoising sees them; a channel has `size` of them.
    pub fn for_denoiser(&self, latents: &mut [f32], size: usize) {
        for (plane, of) in latents.chunks_mut(size.max(1)).zip(&self.channels) {
            for x in plane {
                *x = (*x - of.mean) * self.factor / of.deviation;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Scale, InferError> {
        let config = serde_json::from_str(json).unwrap();
        Scale::read(&config, Path::new("vae/config.json"), 2)
    }

    #[test]
    fn each_channel_has_its_mean_and_its_deviation_and_one_alone_does_not_count() {
        let scale = read(
            r#"{"scaling_factor": 0.5, "latents_mean": [1.0, -2.0], "latents_std": [4.0, 0.5]}"#,
        );
        let scale = scale.unwrap();
        let mut latents = [5.0, 1.0, -2.0, -1.0];
        scale.for_denoiser(&mut latents, 2);
        assert_eq!(latents, [0.5, 0.0, 0.0, 1.0]);
        assert_eq!(scale.for_decoder(&latents, 2), [5.0, 1.0, -2.0, -1.0]);
        let plain = read(r#"{"scaling_factor": 0.5, "shift_factor": 1.0, "latents_std": [4, 4]}"#);
        let mut latents = [5.0, 1.0, 3.0, -1.0];
        plain.unwrap().for_denoiser(&mut latents, 2);
        assert_eq!(latents, [2.0, 0.0, 1.0, -1.0]);
    }

    #[test]
    fn a_scale_that_is_none_is_refused_and_its_field_named() {
        for (field, json) in [
            ("scaling_factor", r#"{"scaling_factor": 0}"#),
            (
                "latents_mean",
                r#"{"latents_mean": [1], "latents_std": [1, 1]}"#,
            ),
            (
                "latents_std",
                r#"{"latents_mean": [1, 1], "latents_std": []}"#,
            ),
            (
                "latents_std",
                r#"{"latents_mean": [1, 1], "latents_std": [1, 0]}"#,
            ),
            (
                "latents_mean",
                r#"{"latents_mean": [1, 1e39], "latents_std": [1, 1]}"#,
            ),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(
                error.contains(field) && error.contains("vae/config.json"),
                "{error}"
            );
        }
    }
}
