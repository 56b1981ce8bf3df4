//! What a mask keeps of a picture, put back pixel by pixel: the decoder redraws all of it, kept parts too.

use super::pixels::Pixels;
use super::spec::Mask;

/// Puts every kept pixel of `original` back into `made`. Over the `rim` painted pixels next to a kept one the original
/// fades out, so that no seam shows; none of what is kept changes. All three have one size.
pub fn put_back(made: &mut Pixels, original: &Pixels, mask: &Mask, rim: usize) {
    let width = mask.width.max(1);
    let beside = in_rows(mask, rim);
    let beside: Vec<&[usize]> = beside.chunks(width).collect();
    let shares = shares(rim);
    let both = made
        .rgb
        .chunks_mut(3 * width)
        .zip(original.rgb.chunks(3 * width));
    for (y, (made, original)) in both.enumerate() {
        let near = y.saturating_sub(rim)..(y + rim + 1).min(beside.len());
        let both = made.chunks_mut(3).zip(original.chunks(3));
        for (x, (made, original)) in both.enumerate() {
            let squares = near.clone().filter_map(|row| {
                let across = *beside.get(row)?.get(x)?;
                Some(across.pow(2) + row.abs_diff(y).pow(2))
            });
            let share = squares.min().and_then(|square| shares.get(square));
            let Some(share) = share else { continue };
            for (made, original) in made.iter_mut().zip(original) {
                let (new, old) = (f32::from(*made), f32::from(*original));
                *made = (old + (new - old) * share).round() as u8;
            }
        }
    }
}

/// Pixels to the nearest kept one of the same row, by which more than `rim` are as good as none.
fn in_rows(mask: &Mask, rim: usize) -> Vec<usize> {
    let mut beside: Vec<usize> = (mask.values.iter())
        .map(|value| if mask.paints(*value) { rim + 1 } else { 0 })
        .collect();
    for row in beside.chunks_mut(mask.width.max(1)) {
        let mut last = rim + 1;
        row.iter_mut().for_each(|x| {
            last = (last + 1).min(*x);
            *x = last;
        });
        last = rim + 1;
        row.iter_mut().rev().for_each(|x| {
            last = (last + 1).min(*x);
            *x = last;
        });
    }
    beside
}

/// How much of what was made shows at the square of each distance below that at which all of it does.
fn shares(rim: usize) -> Vec<f32> {
    let whole = rim + 1;
    (0..whole * whole)
        .map(|square| (square as f32).sqrt() / whole as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, value: u8) -> Pixels {
        Pixels {
            width,
            height,
            rgb: vec![value; 3 * width * height],
            seed: 0,
        }
    }

    /// By definition: the distance to the nearest kept pixel over all of them.
    fn by_definition(mask: &Mask, rim: usize, x: usize, y: usize) -> f32 {
        let kept = (0..mask.values.len()).filter(|i| !mask.paints(mask.values[*i]));
        let distances = kept.map(|i| {
            let (dx, dy) = ((i % mask.width).abs_diff(x), (i / mask.width).abs_diff(y));
            ((dx * dx + dy * dy) as f32).sqrt() / (rim + 1) as f32
        });
        distances.fold(1.0, f32::min)
    }

    proptest::proptest! {
        #[test]
        fn kept_pixels_are_the_originals_and_the_rim_fades_by_distance(
            (width, height) in (1usize..14, 1usize..14), rim in 0usize..6, seed in 0u64..1000, kept in 1u64..40,
        ) {
            let painted = |i: u64| (i * 2_654_435_761 + seed * 97) % 40 >= kept;
            let values = (0..(width * height) as u64).map(|i| if painted(i) { 200 } else { 90 });
            let mask = Mask { width, height, values: values.collect() };
            let mut made = plain(width, height, 250);
            put_back(&mut made, &plain(width, height, 10), &mask, rim);
            for (i, pixel) in made.rgb.chunks(3).enumerate() {
                let share = by_definition(&mask, rim, i % width, i / width);
                let expected = (10.0 + 240.0 * share).round();
                proptest::prop_assert!((f32::from(pixel[0]) - expected).abs() <= 1.0, "{i}: {} for {expected}", pixel[0]);
                proptest::prop_assert!(mask.paints(mask.values[i]) || pixel == [10; 3]);
            }
        }
    }

    #[test]
    fn a_mask_that_keeps_nothing_leaves_the_picture_as_it_was_made() {
        let mask = Mask {
            width: 3,
            height: 2,
            values: vec![128; 6],
        };
        let mut made = plain(3, 2, 77);
        put_back(&mut made, &plain(3, 2, 1), &mask, 4);
        assert_eq!(made, plain(3, 2, 77));
    }
}
