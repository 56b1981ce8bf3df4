//! PNG's row filters, and the choice among them.
//!
//! Choosing the filter of each row by its smallest sum of differences, as libpng does, is rarely
//! best: one filter for the whole picture keeps long matches alive and is up to a tenth smaller
//! on pictures that were once JPEGs. So a sample of rows is packed in each way, fast, and the
//! smallest wins.

use libdeflater::{CompressionLvl, Compressor};

/// PNG's numbers of its filters.
const NONE: u8 = 0;
const SUB: u8 = 1;
const UP: u8 = 2;
const AVERAGE: u8 = 3;
const PAETH: u8 = 4;

/// A way to filter a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The same filter for all rows.
    All(u8),
    /// For each row the filter with the smallest sum of absolute differences.
    EachRow,
}

/// Paeth and average alone never won over the pictures this was tuned on.
const PLANS: [Plan; 4] = [
    Plan::EachRow,
    Plan::All(UP),
    Plan::All(SUB),
    Plan::All(NONE),
];

/// Bytes of rows that the choice is made on, taken from three places of the picture, and the
/// effort of packing them: less effort does not see the matches that decide.
const SAMPLE: usize = 256 << 10;
const PLACES: usize = 3;
const SAMPLE_LEVEL: i32 = 5;

/// Of a picture that packs to more than this share, hardly anything but noise is left: more
/// effort would only cost time.
const NOISE: f32 = 0.6;

/// What the sample showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texture {
    /// There is something to find.
    Structure,
    /// There is not.
    Noise,
}

/// Filters all rows in place. Each is `stride` bytes: one for the filter's number, then samples;
/// `step` is the distance to the pixel on the left.
pub fn apply(rows: &mut [u8], stride: usize, step: usize) -> Texture {
    let (plan, texture) = choose(rows, stride, step);
    filter(rows, stride, step, plan);
    texture
}

/// The plan whose sample packs smallest.
fn choose(rows: &[u8], stride: usize, step: usize) -> (Plan, Texture) {
    let height = rows.len() / stride;
    let band = (SAMPLE / PLACES / stride).clamp(1, height.div_ceil(PLACES)) * stride;
    let starts = (0..PLACES).map(|place| (height * place / PLACES) * stride);
    let bands: Vec<&[u8]> = starts
        .filter_map(|start| rows.get(start..(start + band).min(rows.len())))
        .filter(|band| !band.is_empty())
        .collect();
    let total: usize = bands.iter().map(|band| band.len()).sum();
    let mut best = (usize::MAX, Plan::EachRow);
    for plan in PLANS {
        let mut sample = Vec::with_capacity(total);
        for band in &bands {
            let start = sample.len();
            sample.extend_from_slice(band);
            filter(
                sample.get_mut(start..).unwrap_or_default(),
                stride,
                step,
                plan,
            );
        }
        let size = packed_size(&sample);
        if size < best.0 {
            best = (size, plan);
        }
    }
    let noisy = best.0 as f32 > total as f32 * NOISE;
    (
        best.1,
        if noisy {
            Texture::Noise
        } else {
            Texture::Structure
        },
    )
}

fn packed_size(sample: &[u8]) -> usize {
    let mut compressor = Compressor::new(CompressionLvl::new(SAMPLE_LEVEL).unwrap_or_default());
    let mut packed = vec![0; compressor.zlib_compress_bound(sample.len())];
    compressor
        .zlib_compress(sample, &mut packed)
        .unwrap_or(usize::MAX)
}

/// From the last row to the first, so that the row above is still unfiltered.
fn filter(rows: &mut [u8], stride: usize, step: usize, plan: Plan) {
    let mut candidates = Candidates::new(stride);
    let none_above = vec![0; stride];
    let mut rest = rows;
    while let Some(start) = rest.len().checked_sub(stride) {
        let (above, row) = rest.split_at_mut(start);
        let up = above
            .len()
            .checked_sub(stride)
            .and_then(|at| above.get(at..));
        candidates.filter(row, up.unwrap_or(&none_above), step, plan);
        rest = above;
    }
}

struct Candidates {
    best: Vec<u8>,
    other: Vec<u8>,
}

impl Candidates {
    fn new(stride: usize) -> Self {
        Self {
            best: vec![0; stride],
            other: vec![0; stride],
        }
    }

    fn filter(&mut self, row: &mut [u8], up: &[u8], step: usize, plan: Plan) {
        match plan {
            Plan::All(NONE) => return,
            Plan::All(number) => one(number, row, up, step, &mut self.best),
            Plan::EachRow => {
                let mut smallest = u64::MAX;
                for number in [NONE, SUB, UP, AVERAGE, PAETH] {
                    one(number, row, up, step, &mut self.other);
                    let sum = sum(&self.other);
                    if sum < smallest {
                        smallest = sum;
                        std::mem::swap(&mut self.best, &mut self.other);
                    }
                }
            }
        }
        row.copy_from_slice(&self.best);
    }
}

/// Sum of the filtered samples as signed differences.
fn sum(filtered: &[u8]) -> u64 {
    filtered
        .chunks(4096)
        .map(|part| {
            u64::from(
                part.iter()
                    .map(|&b| u32::from((b as i8).unsigned_abs()))
                    .sum::<u32>(),
            )
        })
        .sum()
}

/// Filters one row into `out`. The loops run over equal slices, so the compiler vectorises them.
fn one(number: u8, row: &[u8], up: &[u8], step: usize, out: &mut [u8]) {
    let (Some((kind, out)), Some((_, row)), Some((_, up))) =
        (out.split_first_mut(), row.split_first(), up.split_first())
    else {
        return;
    };
    *kind = number;
    let step = step.min(row.len());
    let (head, tail) = out.split_at_mut(step);
    let (row_head, row_tail) = row.split_at(step);
    let (up_head, up_tail) = up.split_at(step.min(up.len()));
    // The first pixel has no neighbour on the left: it counts as zero.
    for ((out, &here), &above) in head.iter_mut().zip(row_head).zip(up_head) {
        *out = match number {
            UP | PAETH => here.wrapping_sub(above),
            AVERAGE => here.wrapping_sub(above / 2),
            _ => here,
        };
    }
    let lefts = row.iter().zip(up);
    let all = tail.iter_mut().zip(row_tail.iter().zip(up_tail)).zip(lefts);
    match number {
        SUB => {
            for ((out, (here, _)), (left, _)) in all {
                *out = here.wrapping_sub(*left);
            }
        }
        UP => {
            for ((out, (here, above)), _) in all {
                *out = here.wrapping_sub(*above);
            }
        }
        AVERAGE => {
            for ((out, (here, above)), (left, _)) in all {
                *out = here.wrapping_sub(((u16::from(*left) + u16::from(*above)) / 2) as u8);
            }
        }
        PAETH => {
            for ((out, (here, above)), (left, corner)) in all {
                *out = here.wrapping_sub(paeth(*left, *above, *corner));
            }
        }
        _ => tail.copy_from_slice(row_tail),
    }
}

/// The neighbour nearest to left + above − corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (l, a, c) = (i16::from(left), i16::from(above), i16::from(corner));
    let (to_left, to_above, to_corner) = ((a - c).abs(), (l - c).abs(), (l + a - 2 * c).abs());
    let other = if to_above <= to_corner { above } else { corner };
    if to_left <= to_above && to_left <= to_corner {
        left
    } else {
        other
    }
}
