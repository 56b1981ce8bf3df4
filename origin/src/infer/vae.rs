//! Between pictures and latents: the decoder, and the encoder for a picture to start from. Above
//! a size both work in tiles, so that their memory does not grow with the picture.

use super::error::InferError;
use super::graph::Graph;
use super::model::finite;
use super::numbers::Feed;
use super::pixels::Pixels;
use super::scale::Scale;
use super::tiles::{Canvas, Place, starts};

/// Both ends of the latents.
pub struct Vae {
    /// From latents to pictures.
    pub decoder: Graph,
    /// From pictures to latents, where the export has it.
    pub encoder: Option<Graph>,
    /// From the decoder's latents to those that denoising sees, and back.
    pub scale: Scale,
    /// Channels of the latents.
    pub channels: usize,
    /// Pixels a latent is wide.
    pub factor: usize,
    /// Side in pixels of the tiles for pictures of more than its square; 0 for whole ones always.
    pub tile: usize,
}

impl Vae {
    /// Turns finished latents into a picture.
    pub fn decode(
        &self,
        latents: &[f32],
        height: usize,
        width: usize,
        seed: u64,
    ) -> Result<Pixels, InferError> {
        let (high, wide) = (height / self.factor, width / self.factor);
        let scaled = self.scale.for_decoder(latents, high * wide);
        let planes = match self.tile_of(&self.decoder, high, wide, 1) {
            None => self.decode_part(&scaled, high, wide)?,
            Some(tile) => {
                let mut canvas = Canvas::new(3, height, width);
                for place in places(high, wide, tile) {
                    let part = cut(&scaled, self.channels, high, wide, place);
                    let part = self.decode_part(&part, place.height, place.width)?;
                    canvas.lay(scaled_place(place, self.factor), &part);
                }
                canvas.finish()
            }
        };
        let (red, rest) = planes.split_at(height * width);
        let (green, blue) = rest.split_at(height * width);
        let byte = |x: &f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let pixels = red.iter().zip(green).zip(blue);
        let rgb = pixels
            .flat_map(|((r, g), b)| [byte(r), byte(g), byte(b)])
            .collect();
        Ok(Pixels {
            width,
            height,
            rgb,
            seed,
        })
    }

    /// Three planes from -1 to 1 of `high` by `wide` latents.
    fn decode_part(
        &self,
        latents: &[f32],
        high: usize,
        wide: usize,
    ) -> Result<Vec<f32>, InferError> {
        let shape = [1, self.channels, high, wide].map(|n| n as i64);
        let (height, width) = (high * self.factor, wide * self.factor);
        let decoder = &self.decoder;
        let input = decoder.inputs.first();
        let input = input.map_or("latent_sample", |port| port.name.as_str());
        let output = decoder.first_output()?.name.as_str();
        let feeds = [(input, shape.as_slice(), Feed::Floats(latents))];
        let mut planes = Vec::new();
        decoder.run(&feeds, &[output], |_, shape, data| {
            if shape != [1, 3, height as i64, width as i64] {
                let reason = format!("gave a picture of shape {shape:?} for {width}x{height}");
                return Err(InferError::broken(&decoder.file, reason));
            }
            finite(data, "vae_decoder")?;
            planes = data.to_vec();
            Ok(())
        })?;
        Ok(planes)
    }

    /// Turns a picture into latents; `noise` picks the sample where the encoder gives a spread.
    pub fn encode(&self, pixels: &Pixels, noise: &[f32]) -> Result<Vec<f32>, InferError> {
        let Some(encoder) = &self.encoder else {
            let reason = "is not taken by this model".to_owned();
            return Err(InferError::BadSpec {
                field: "init_image",
                reason,
            });
        };
        let channel = |c: usize| {
            let values = pixels.rgb.iter().skip(c).step_by(3);
            values.map(|b| f32::from(*b) / 255.0 * 2.0 - 1.0)
        };
        let planes: Vec<f32> = (0..3).flat_map(channel).collect();
        let (height, width) = (pixels.height, pixels.width);
        let (high, wide) = (height / self.factor, width / self.factor);
        let moments = match self.tile_of(encoder, high, wide, self.factor) {
            None => self.encode_part(encoder, &planes, high, wide)?,
            Some(tile) => {
                let mut canvas: Option<Canvas> = None;
                for place in places(high, wide, tile) {
                    let part = cut(&planes, 3, height, width, scaled_place(place, self.factor));
                    let part = self.encode_part(encoder, &part, place.height, place.width)?;
                    let channels = part.len() / (place.height * place.width).max(1);
                    canvas
                        .get_or_insert_with(|| Canvas::new(channels, high, wide))
                        .lay(place, &part);
                }
                canvas.map(Canvas::finish).unwrap_or_default()
            }
        };
        let mut latents = match moments.len() {
            n if n == noise.len() => moments,
            _ => {
                let (mean, log_variance) = moments.split_at(noise.len().min(moments.len()));
                let spread = log_variance
                    .iter()
                    .map(|v| (0.5 * v.clamp(-30.0, 20.0)).exp());
                let each = mean.iter().zip(spread).zip(noise);
                each.map(|((m, s), n)| m + s * n).collect()
            }
        };
        finite(&latents, "vae_encoder")?;
        self.scale.for_denoiser(&mut latents, high * wide);
        Ok(latents)
    }

    /// Latents, or their means and the logarithms of their variances, of `high` by `wide`.
    fn encode_part(
        &self,
        encoder: &Graph,
        planes: &[f32],
        high: usize,
        wide: usize,
    ) -> Result<Vec<f32>, InferError> {
        let shape = [1, 3, high * self.factor, wide * self.factor].map(|n| n as i64);
        let input = encoder.inputs.first();
        let input = input.map_or("sample", |port| port.name.as_str());
        let output = encoder.first_output()?.name.as_str();
        let count = self.channels * high * wide;
        let feeds = [(input, shape.as_slice(), Feed::Floats(planes))];
        let mut moments = Vec::new();
        encoder.run(&feeds, &[output], |_, shape, data| {
            if data.len() != count && data.len() != 2 * count {
                let reason = format!("gave latents of shape {shape:?}");
                return Err(InferError::broken(&encoder.file, reason));
            }
            moments = data.to_vec();
            Ok(())
        })?;
        Ok(moments)
    }

    /// Height and width in latents of the tiles a picture of `high` by `wide` latents needs. What
    /// the export fixed counts most; a latent is `unit` wide on the graph's input.
    fn tile_of(
        &self,
        graph: &Graph,
        high: usize,
        wide: usize,
        unit: usize,
    ) -> Option<(usize, usize)> {
        let port = graph.inputs.first();
        let fixed = |axis| {
            port.and_then(|port| port.fixed(axis))
                .map(|n| n / unit.max(1))
        };
        let side = self.tile / self.factor;
        let limit = match (fixed(2), fixed(3)) {
            (None, None) if side == 0 || high * wide <= side * side => return None,
            (tall, broad) => (tall.unwrap_or(side), broad.unwrap_or(side)),
        };
        // A picture smaller than a fixed tile goes to the graph as it is, which refuses it.
        let fits = high <= limit.0 && wide <= limit.1;
        (!fits).then_some(limit)
    }

    /// Seconds inside ONNX Runtime so far.
    pub fn seconds(&self) -> f64 {
        self.decoder.seconds() + self.encoder.as_ref().map_or(0.0, Graph::seconds)
    }
}

fn places(high: usize, wide: usize, tile: (usize, usize)) -> impl Iterator<Item = Place> {
    let (height, width) = (tile.0.clamp(1, high.max(1)), tile.1.clamp(1, wide.max(1)));
    let lefts = starts(wide, width);
    let tops = starts(high, height).into_iter();
    tops.flat_map(move |top| {
        let at = move |left| Place {
            top,
            left,
            height,
            width,
        };
        lefts.clone().into_iter().map(at)
    })
}

fn scaled_place(place: Place, factor: usize) -> Place {
    Place {
        top: place.top * factor,
        left: place.left * factor,
        height: place.height * factor,
        width: place.width * factor,
    }
}

/// The part of `planes`, each `height` by `width`, that lies at `place`.
fn cut(planes: &[f32], count: usize, height: usize, width: usize, place: Place) -> Vec<f32> {
    let mut part = Vec::with_capacity(count * place.height * place.width);
    for plane in 0..count {
        for y in place.top..place.top + place.height {
            let start = (plane * height + y) * width + place.left;
            let row = planes.get(start..start + place.width);
            part.extend_from_slice(row.unwrap_or_default());
        }
    }
    part
}
