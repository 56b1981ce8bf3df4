//! Working on a picture in overlapping tiles: where they lie, and blending them into one.
//!
//! Pure. Over its overlap with a neighbour a tile's weight rises linearly, and what is laid down
//! is divided by the sum of weights: where only one tile lies, its values stand unchanged.

/// Of a tile's side, so much overlaps each neighbour: a quarter.
const OVERLAP: usize = 4;

/// Where tiles of side `tile` begin on an axis of `length`, evenly spread. One that is as long as
/// the axis where that is shorter.
pub fn starts(length: usize, tile: usize) -> Vec<usize> {
    let tile = tile.max(1);
    if length <= tile {
        return vec![0];
    }
    let stride = tile - tile / OVERLAP;
    let gaps = (length - tile).div_ceil(stride.max(1));
    (0..=gaps).map(|i| i * (length - tile) / gaps).collect()
}

/// Planes that tiles are laid on.
pub struct Canvas {
    planes: usize,
    height: usize,
    width: usize,
    sums: Vec<f32>,
    weights: Vec<f32>,
}

/// A tile's place on a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its upper edge.
    pub top: usize,
    /// Its left edge.
    pub left: usize,
    /// Its height.
    pub height: usize,
    /// Its width.
    pub width: usize,
}

impl Canvas {
    /// An empty one.
    pub fn new(planes: usize, height: usize, width: usize) -> Self {
        Self {
            planes,
            height,
            width,
            sums: vec![0.0; planes * height * width],
            weights: vec![0.0; height * width],
        }
    }

    /// Lays a tile down: its planes one after the other, row by row.
    pub fn lay(&mut self, place: Place, tile: &[f32]) {
        let Place {
            top,
            left,
            height,
            width,
        } = place;
        let down = ramp(top, height, self.height);
        let across = ramp(left, width, self.width);
        let whole = self.height * self.width;
        for (y, of_row) in down.iter().enumerate() {
            let start = (top + y) * self.width + left;
            let weights = self.weights.get_mut(start..start + width);
            for (sum, weight) in weights.into_iter().flatten().zip(&across) {
                *sum += of_row * weight;
            }
            for plane in 0..self.planes {
                let from = (plane * height + y) * width;
                let values = tile.get(from..from + width).unwrap_or_default();
                let start = plane * whole + start;
                let sums = self.sums.get_mut(start..start + width);
                for ((sum, value), weight) in sums.into_iter().flatten().zip(values).zip(&across) {
                    *sum += of_row * weight * value;
                }
            }
        }
    }

    /// The blended planes.
    pub fn finish(mut self) -> Vec<f32> {
        for plane in self
            .sums
            .chunks_exact_mut((self.height * self.width).max(1))
        {
            for (sum, weight) in plane.iter_mut().zip(&self.weights) {
                *sum /= weight;
            }
        }
        self.sums
    }
}

/// Weights along one axis: rising from an edge inside the canvas, full at the canvas's own edge.
fn ramp(start: usize, length: usize, canvas: usize) -> Vec<f32> {
    let overlap = (length / OVERLAP).max(1) as f32;
    let rise = |distance: usize| ((distance as f32 + 0.5) / overlap).min(1.0);
    let weight = |i: usize| {
        let from_start = if start == 0 { 1.0 } else { rise(i) };
        let is_last = start + length >= canvas;
        let to_end = if is_last { 1.0 } else { rise(length - 1 - i) };
        f32::min(from_start, to_end)
    };
    (0..length).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_an_axis_and_neighbours_overlap(length in 1usize..400, tile in 1usize..100) {
            let starts = starts(length, tile);
            let tile = tile.min(length);
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts[starts.len() - 1] + tile, length);
            for pair in starts.windows(2) {
                prop_assert!(pair[0] < pair[1]);
                prop_assert!(pair[1] + tile / OVERLAP <= pair[0] + tile);
            }
        }

        /// Pieces of one picture, cut out and laid down again, give that picture.
        #[test]
        fn pieces_of_a_picture_blend_into_it(
            (height, width) in (1usize..60, 1usize..60), tile in 1usize..30, seed in 0u32..100,
        ) {
            let value = |plane: usize, y: usize, x: usize| {
                ((plane * 7919 + y * 104_729 + x * 1_299_709) as u32 ^ seed) as f32 % 255.0
            };
            let mut canvas = Canvas::new(2, height, width);
            for top in starts(height, tile) {
                for left in starts(width, tile) {
                    let place = Place { top, left, height: tile.min(height), width: tile.min(width) };
                    let mut piece = Vec::new();
                    for plane in 0..2 {
                        for y in 0..place.height {
                            piece.extend((0..place.width).map(|x| value(plane, top + y, left + x)));
                        }
                    }
                    canvas.lay(place, &piece);
                }
            }
            for (i, got) in canvas.finish().into_iter().enumerate() {
                let (plane, rest) = (i / (height * width), i % (height * width));
                let wanted = value(plane, rest / width, rest % width);
                prop_assert!((got - wanted).abs() < 1e-2, "{got} for {wanted} at {i}");
            }
        }
    }
}
