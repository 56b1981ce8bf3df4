//! Turning a picture upright, as its orientation tag says.

use image::metadata::Orientation;

use super::pixels::Pixels;

/// Applies the orientation. Half turns and mirrors work in place.
pub fn upright(mut pixels: Pixels, orientation: Orientation) -> Pixels {
    let samples = pixels.layout.samples();
    match orientation {
        Orientation::NoTransforms => pixels,
        Orientation::FlipHorizontal => {
            mirror_rows(&mut pixels);
            pixels
        }
        Orientation::FlipVertical => {
            mirror_rows(&mut pixels);
            reverse(&mut pixels.data, samples);
            pixels
        }
        Orientation::Rotate180 => {
            reverse(&mut pixels.data, samples);
            pixels
        }
        Orientation::Rotate90FlipH => transpose(&pixels),
        Orientation::Rotate90 => {
            let mut turned = transpose(&pixels);
            mirror_rows(&mut turned);
            turned
        }
        Orientation::Rotate270 => {
            reverse(&mut pixels.data, samples);
            upright(pixels, Orientation::Rotate90)
        }
        Orientation::Rotate270FlipH => {
            reverse(&mut pixels.data, samples);
            transpose(&pixels)
        }
    }
}

/// Reverses the order of pixels, not of their samples.
fn reverse(data: &mut [u8], samples: usize) {
    match samples {
        4 => data.as_chunks_mut::<4>().0.reverse(),
        3 => data.as_chunks_mut::<3>().0.reverse(),
        _ => data.reverse(),
    }
}

fn mirror_rows(pixels: &mut Pixels) {
    let (stride, samples) = (pixels.stride(), pixels.layout.samples());
    for row in pixels.data.chunks_exact_mut(stride) {
        reverse(row, samples);
    }
}

/// Rows become columns. Goes in square tiles, so that both sides stay in the cache.
fn transpose(pixels: &Pixels) -> Pixels {
    const TILE: usize = 32;
    let samples = pixels.layout.samples();
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let mut data = vec![0; pixels.data.len()];
    for (band, rows) in pixels.data.chunks(pixels.stride() * TILE).enumerate() {
        for left in (0..width).step_by(TILE) {
            for x in left..(left + TILE).min(width) {
                let target = data.get_mut((x * height + band * TILE) * samples..);
                let column = rows.get(x * samples..).unwrap_or_default();
                let source = column.chunks(width * samples);
                for (to, from) in target
                    .unwrap_or_default()
                    .chunks_exact_mut(samples)
                    .zip(source)
                {
                    if let Some(pixel) = from.get(..samples) {
                        to.copy_from_slice(pixel);
                    }
                }
            }
        }
    }
    Pixels {
        width: pixels.height,
        height: pixels.width,
        layout: pixels.layout,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pixels::Layout;
    use super::*;

    /// The same by image's own functions, which are slower and copy.
    fn expected(pixels: &Pixels, orientation: Orientation) -> Pixels {
        let buffer =
            image::RgbImage::from_raw(pixels.width, pixels.height, pixels.data.clone()).unwrap();
        let mut image = image::DynamicImage::ImageRgb8(buffer);
        image.apply_orientation(orientation);
        Pixels {
            width: image.width(),
            height: image.height(),
            layout: Layout::Rgb,
            data: image.into_rgb8().into_raw(),
        }
    }

    #[test]
    fn all_eight_orientations_come_out_upright() {
        for (width, height) in [(1, 1), (3, 2), (33, 70), (64, 32)] {
            let data = (0..width * height * 3)
                .map(|i| (i * 7 % 251) as u8)
                .collect();
            let pixels = Pixels {
                width,
                height,
                layout: Layout::Rgb,
                data,
            };
            for tag in 1..=8 {
                let orientation = Orientation::from_exif(tag).unwrap();
                let wanted = expected(&pixels, orientation);
                let turned = upright(pixels.clone(), orientation);
                assert!(turned == wanted, "tag {tag} at {width}×{height}");
            }
        }
    }
}
