//! Scaling down to the longest side allowed.
//!
//! Lanczos over three lobes, on the stored (gamma-encoded) values as Pillow, libvips and browsers
//! do, and with opacity multiplied in, so that hidden colours do not bleed into visible ones.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, MulDiv, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::UploadError;
use super::pixels::{Layout, Pixels};

/// Scales a picture whose longer side exceeds `max_side`; another one stays as it is.
///
/// # Errors
/// [`UploadError::Internal`] when the scaler refuses sizes that were checked before.
pub fn fit(pixels: Pixels, max_side: u32) -> Result<Pixels, UploadError> {
    let long = pixels.width.max(pixels.height);
    if long <= max_side {
        return Ok(pixels);
    }
    let (width, height) = (
        shrink(pixels.width, max_side, long),
        shrink(pixels.height, max_side, long),
    );
    resize(pixels, width, height, ResizeOptions::new())
        .map_err(|error| UploadError::Internal(error.to_string()))
}

/// Scales a picture to this very size, up or down; what does not fit the shape is cut off evenly on both sides.
///
/// # Errors
/// As [`fit`].
pub fn cover(pixels: Pixels, width: u32, height: u32) -> Result<Pixels, UploadError> {
    if (pixels.width, pixels.height) == (width, height) {
        return Ok(pixels);
    }
    let options = ResizeOptions::new().fit_into_destination(Some((0.5, 0.5)));
    resize(pixels, width, height, options).map_err(|error| UploadError::Internal(error.to_string()))
}

/// `side × max / long`, rounded, at least 1.
fn shrink(side: u32, max: u32, long: u32) -> u32 {
    let scaled = (u64::from(side) * u64::from(max) + u64::from(long) / 2) / u64::from(long.max(1));
    u32::try_from(scaled).unwrap_or(max).clamp(1, max)
}

fn resize(
    pixels: Pixels,
    width: u32,
    height: u32,
    options: ResizeOptions,
) -> Result<Pixels, Box<dyn std::error::Error + Send + Sync>> {
    let kind = match pixels.layout {
        Layout::Gray => PixelType::U8,
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba => PixelType::U8x4,
    };
    let has_alpha = pixels.layout == Layout::Rgba;
    let mut source = Image::from_vec_u8(pixels.width, pixels.height, pixels.data, kind)?;
    let mut target = Image::new(width, height, kind);
    let alpha = MulDiv::new();
    if has_alpha {
        // Here and not by the scaler, which would copy the whole source.
        alpha.multiply_alpha_inplace(&mut source)?;
    }
    let options = options
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options)?;
    drop(source);
    if has_alpha {
        alpha.divide_alpha_inplace(&mut target)?;
    }
    Ok(Pixels {
        width,
        height,
        layout: pixels.layout,
        data: target.into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: u32, height: u32, layout: Layout, pixel: &[u8]) -> Pixels {
        Pixels {
            width,
            height,
            layout,
            data: pixel.repeat((width * height) as usize),
        }
    }

    #[test]
    fn the_longer_side_becomes_the_limit_and_the_ratio_stays() {
        let scaled = fit(flat(400, 300, Layout::Rgb, &[9, 8, 7]), 100).unwrap();
        assert_eq!((scaled.width, scaled.height), (100, 75));
        assert_eq!(scaled.data, [9, 8, 7].repeat(7500));
        let thin = fit(flat(3000, 100, Layout::Gray, &[5]), 10).unwrap();
        assert_eq!((thin.width, thin.height), (10, 1));
    }

    #[test]
    fn a_small_picture_is_left_alone() {
        let small = flat(10, 100, Layout::Rgb, &[1, 2, 3]);
        assert_eq!(fit(small.clone(), 100).unwrap(), small);
    }

    #[test]
    fn hidden_colours_do_not_bleed() {
        // Left half red and solid, right half green and invisible.
        let row: Vec<u8> = [[255, 0, 0, 255].repeat(50), [0, 255, 0, 0].repeat(50)].concat();
        let pixels = Pixels {
            width: 100,
            height: 100,
            layout: Layout::Rgba,
            data: row.repeat(100),
        };
        let scaled = fit(pixels, 10).unwrap();
        for pixel in scaled.data.chunks_exact(4) {
            assert!(pixel[1] <= 2 || pixel[3] == 0, "green shows in {pixel:?}");
        }
    }
}
