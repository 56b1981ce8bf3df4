//! A budget of bytes on the device, and what of it models and calls take.
//!
//! With a budget, a graph's arena gives back what a call took when the call is over, so that what
//! is taken at any time is the weights of all models and the calls under way. What a call takes
//! is measured while a model is loaded, at rising sizes, and bounded from there: every tensor of
//! these graphs grows with the picture's area or, in attention, with its square, and all of them
//! with the rows. So between two sizes that were measured the line between them is a bound, and
//! beyond the largest one the square of the area is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an arena takes on top of the tensors it holds: it grows by powers of two, from 1 MiB.
fn in_arena(tensors: u64) -> u64 {
    tensors.saturating_mul(2).saturating_add(2 << 20)
}

/// Bytes that a call of one graph needs for its tensors, by the picture's pixels.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// Pixels and bytes, rising.
    points: Vec<(u64, u64)>,
    /// Rows of the calls that were measured.
    rows: u64,
}

impl Curve {
    /// Nothing measured yet, for calls of `rows` rows.
    pub fn new(rows: usize) -> Self {
        Self {
            points: Vec::new(),
            rows: rows.max(1) as u64,
        }
    }

    /// Adds a measurement at a larger size than those before.
    pub fn note(&mut self, pixels: u64, bytes: u64) {
        let before = self.points.last().map_or(0, |(_, bytes)| *bytes);
        self.points.push((pixels, bytes.max(before)));
    }

    /// The most that a call of `rows` rows of `pixels` each takes on the device.
    pub fn most(&self, pixels: u64, rows: u64) -> u64 {
        let times = rows.div_ceil(self.rows.max(1)).max(1);
        match self.points.is_empty() {
            true => 0,
            false => in_arena(self.tensors(pixels).saturating_mul(times)),
        }
    }

    fn tensors(&self, pixels: u64) -> u64 {
        let wide = |x: u64| u128::from(x);
        let narrow = |x: u128| u64::try_from(x).unwrap_or(u64::MAX);
        let above = self.points.iter().position(|(at, _)| *at >= pixels);
        match above.map(|i| (i.checked_sub(1), i)) {
            // As much as the smallest size measured.
            Some((None, i)) => self.points.get(i).map_or(0, |(_, bytes)| *bytes),
            Some((Some(low), high)) => match (self.points.get(low), self.points.get(high)) {
                (Some((from, less)), Some((to, more))) => {
                    let rise = wide(more - less) * wide(pixels - from);
                    less.saturating_add(narrow(rise.div_ceil(wide(to - from).max(1))))
                }
                _ => 0,
            },
            None => self.points.last().map_or(0, |(at, bytes)| {
                let square = wide(pixels) * wide(pixels);
                narrow((wide(*bytes) * square).div_ceil((wide(*at) * wide(*at)).max(1)))
            }),
        }
    }

    /// Most rows a call may have in `bytes`.
    pub fn rows_in(&self, bytes: u64, pixels: u64) -> usize {
        if self.points.is_empty() {
            return usize::MAX;
        }
        let tensors = bytes.saturating_sub(2 << 20) / 2;
        let times = tensors.checked_div(self.tensors(pixels));
        let times = times.unwrap_or(u64::MAX);
        usize::try_from(times.saturating_mul(self.rows)).unwrap_or(usize::MAX)
    }
}

/// What one model's calls take on the device.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// Encoding a prompt.
    pub text: u64,
    /// A denoiser call.
    pub denoise: Curve,
    /// Decoding a picture or a tile of one.
    pub decode: Curve,
    /// Reading a picture to start from, or a tile of one.
    pub read: Curve,
}

/// What the stages take at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need {
    /// Prompts and pictures to start from.
    pub before: u64,
    /// A denoiser call.
    pub call: u64,
    /// The picture's end.
    pub after: u64,
}

impl Need {
    /// The larger of both, stage by stage.
    pub fn max(self, other: Self) -> Self {
        Self {
            before: self.before.max(other.before),
            call: self.call.max(other.call),
            after: self.after.max(other.after),
        }
    }

    /// In all: side by side where the stages overlap, else one at a time.
    pub fn total(self, overlaps: bool) -> u64 {
        match overlaps {
            true => self
                .before
                .saturating_add(self.call)
                .saturating_add(self.after),
            false => self.before.max(self.call).max(self.after),
        }
    }
}

impl Footprint {
    /// What a picture of `pixels` takes in a call of `rows`, its ends in pieces of `piece` pixels.
    pub fn need(&self, pixels: u64, rows: u64, piece: u64) -> Need {
        Need {
            before: self.text.max(self.read.most(piece, 1)),
            call: self.denoise.most(pixels, rows),
            after: self.decode.most(piece, 1),
        }
    }
}

/// The budget of one device, and the weights that are on it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Bytes; `None` without a bound.
    pub budget: Option<u64>,
    weights: Arc<AtomicU64>,
    /// What goes on beside denoiser calls, where stages overlap.
    beside: Arc<AtomicU64>,
}

/// Weights on the device, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    bytes: u64,
    weights: Arc<AtomicU64>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.weights.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Ledger {
    /// A budget of so many MiB; 0 for none.
    pub fn new(mib: u64) -> Self {
        Self {
            budget: (mib > 0).then(|| mib.saturating_mul(1 << 20)),
            weights: Arc::default(),
            beside: Arc::default(),
        }
    }

    /// Sets aside what the stages beside denoiser calls take.
    pub fn set_aside(&self, bytes: u64) {
        self.beside.store(bytes, Ordering::Relaxed);
    }

    /// Writes down the weights of a model.
    pub fn lease(&self, bytes: u64) -> Lease {
        self.weights.fetch_add(bytes, Ordering::Relaxed);
        Lease {
            bytes,
            weights: Arc::clone(&self.weights),
        }
    }

    /// What is left for a denoiser call.
    pub fn left_for_a_call(&self) -> u64 {
        self.left()
            .saturating_sub(self.beside.load(Ordering::Relaxed))
    }

    /// What is left beside the weights.
    pub fn left(&self) -> u64 {
        let weights = self.weights.load(Ordering::Relaxed);
        self.budget
            .map_or(u64::MAX, |bytes| bytes.saturating_sub(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_are_on_the_ledger_until_their_model_is_gone() {
        let ledger = Ledger::new(3);
        let first = ledger.lease(1 << 20);
        let second = ledger.lease(1 << 20);
        assert_eq!(ledger.left(), 1 << 20);
        drop(first);
        assert_eq!(ledger.left(), 2 << 20);
        drop(second);
        assert_eq!(Ledger::new(0).left(), u64::MAX);
    }

    proptest! {
        /// Whatever mixture of convolutions and attention a graph is, and whichever of its
        /// moments is the largest: measured at three sizes, it never takes more than said.
        #[test]
        fn no_graph_takes_more_than_is_said_of_it(
            moments in proptest::collection::vec((0u64..1_000_000, 0u64..5_000, 0u64..300), 1..5),
            sizes in proptest::collection::btree_set(1u64..1_000, 1..4),
            pixels in 1u64..4_000, rows in 1u64..40,
        ) {
            let takes = |pixels: u64, rows: u64| {
                let each = moments.iter().map(|(fixed, linear, square)| {
                    fixed + rows * (linear * pixels + square * pixels * pixels)
                });
                each.max().unwrap()
            };
            let mut curve = Curve::new(1);
            sizes.iter().for_each(|size| curve.note(*size, takes(*size, 1)));
            let most = curve.most(pixels, rows);
            prop_assert!(most >= 2 * takes(pixels, rows), "{most}");
            // What is said to fit does, and one row more does not.
            let fit = curve.rows_in(most, pixels) as u64;
            prop_assert!(fit >= rows);
            prop_assert!(fit == u64::MAX || curve.most(pixels, fit) <= most);
            prop_assert!(fit == u64::MAX || curve.most(pixels, fit + 1) > most);
        }
    }
}
