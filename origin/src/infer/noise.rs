//! Noise from a seed: the same on every machine, and of one picture alone.
//!
//! Normal number `i` of draw `d` comes from Philox4x32-10 (Salmon et al., SC 2011) with the
//! seed as key (low word first) and the counter `(i / 4 low, i / 4 high, d, 0)`. The four words
//! of a block become `u = (word + 0.5) / 2^32` in double precision, and each pair of them two
//! normals by Box-Muller: `sqrt(-2 ln u0)` times the cosine, then the sine, of `2 pi u1`,
//! rounded to single precision. Draw 0 makes the first latents, draw `k` the noise that the
//! `k`-th noisy step adds. `tests/goldens/schedulers/noise.py` is the same in Python.

use std::f64::consts::TAU;

/// One picture's source of noise.
#[derive(Debug, Clone)]
pub struct Noise {
    source: Source,
    draw: u32,
    buffer: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Seed(u64),
    Unit(usize),
}

impl Noise {
    /// The source for a seed, before its first draw.
    pub fn new(seed: u64) -> Self {
        Self::from(Source::Seed(seed))
    }

    /// No noise: every draw is 1 at `place` and 0 elsewhere. Shows what a step does with noise.
    pub fn unit(place: usize) -> Self {
        Self::from(Source::Unit(place))
    }

    fn from(source: Source) -> Self {
        Self {
            source,
            draw: 0,
            buffer: Vec::new(),
        }
    }

    /// Draws so far.
    pub fn draws(&self) -> u32 {
        self.draw
    }

    /// Hands the next `count` standard normal numbers to `use_them`.
    pub fn next_draw(&mut self, count: usize, use_them: impl FnOnce(&[f32])) {
        self.buffer.clear();
        match self.source {
            Source::Unit(place) => self
                .buffer
                .extend((0..count).map(|i| f32::from(u8::from(i == place)))),
            Source::Seed(seed) => {
                for block in 0..count.div_ceil(4) as u64 {
                    let words = philox(
                        [block as u32, (block >> 32) as u32, self.draw, 0],
                        [seed as u32, (seed >> 32) as u32],
                    );
                    self.buffer.extend(normals(words));
                }
                self.buffer.truncate(count);
            }
        }
        self.draw += 1;
        use_them(&self.buffer);
        // Its room is kept, and a copy of this source is small.
        self.buffer.clear();
    }
}

fn normals([a, b, c, d]: [u32; 4]) -> [f32; 4] {
    let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
    let pair = |u0: f64, u1: f64| {
        let radius = (-2.0 * u0.ln()).sqrt();
        let (sine, cosine) = (TAU * u1).sin_cos();
        ((radius * cosine) as f32, (radius * sine) as f32)
    };
    let (first, second) = (pair(unit(a), unit(b)), pair(unit(c), unit(d)));
    [first.0, first.1, second.0, second.1]
}

/// Ten rounds of Philox on four 32-bit words.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [
                key[0].wrapping_add(0x9E37_79B9),
                key[1].wrapping_add(0xBB67_AE85),
            ];
        }
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 publishes for philox4x32 with ten rounds.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn draws_are_normal_and_differ_between_seeds_and_draws() {
        let mut noise = Noise::new(7);
        let mut first = Vec::new();
        noise.next_draw(40_000, |values| first.extend_from_slice(values));
        let mean = first.iter().sum::<f32>() / first.len() as f32;
        let variance = first.iter().map(|v| v * v).sum::<f32>() / first.len() as f32;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
        let mut second = Vec::new();
        noise.next_draw(40_000, |values| second.extend_from_slice(values));
        assert_ne!(first, second);
        let mut again = Vec::new();
        Noise::new(7).next_draw(10, |values| again.extend_from_slice(values));
        assert_eq!(again, first[..10]);
        Noise::new(8).next_draw(10, |values| assert_ne!(values, &first[..10]));
    }
}
