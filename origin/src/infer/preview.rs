//! What a picture under way looks like: taken off its row at a step, drawn later by anyone.

use super::model::Model;
use super::pixels::Pixels;
use std::sync::Arc;

/// Where a row stands with its preview.
pub(super) enum Preview {
    Unwanted,
    Wanted,
    /// The clean latents that the last step aimed at.
    Seen(Vec<f32>),
}

/// A preview that is still to be drawn. Its row goes on meanwhile.
pub struct Draft {
    pub(super) model: Arc<Model>,
    pub(super) clean: Vec<f32>,
    /// Channels, height and width of the latents.
    pub(super) shape: [usize; 3],
    pub(super) seed: u64,
}

impl Draft {
    /// The picture at half its size; `None` when the decoder's size is fixed.
    pub(super) fn draw(&self) -> Option<Pixels> {
        let [channels, height, width] = self.shape;
        let (half_height, half_width) = (height / 2, width / 2);
        let at = |c: usize, y: usize, x: usize| {
            let at = (c * height + y) * width + x;
            self.clean.get(at).copied().unwrap_or(0.0)
        };
        let mut small = Vec::with_capacity(channels * half_height * half_width);
        for c in 0..channels {
            for y in 0..half_height {
                for x in 0..half_width {
                    let (y, x) = (2 * y, 2 * x);
                    let sum = at(c, y, x) + at(c, y, x + 1) + at(c, y + 1, x) + at(c, y + 1, x + 1);
                    small.push(sum / 4.0);
                }
            }
        }
        // A preview that fails is a preview less, nothing else.
        let vae = &self.model.vae;
        let (height, width) = (half_height * vae.factor, half_width * vae.factor);
        vae.decode(&small, height, width, self.seed).ok()
    }
}
