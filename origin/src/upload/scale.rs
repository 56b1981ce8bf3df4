//! Scaling down to the longest side allowed.
//!
//! Lanczos over three lobes, on the stored (gamma-encoded) values as Pillow, libvips and browsers
//! do, and with opacity multiplied in, so that hidden colours do not bleed into visible ones.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, MulDiv, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// What scaling takes beside source and target, in bytes: a picture is made in bands of rows, for the scaler keeps what
/// it has scaled one way in memory before it scales the other.
pub const BAND_BYTES: u64 = 16 << 20;

use super::UploadError;
use super::pixels::{Layout, Pixels};

/// Scales a picture whose longer side exceeds `max_side`; another one stays as it is.
///
/// # Errors
/// [`UploadError::Internal`] when the scaler refuses sizes that were checked before.
pub fn fit(pixels: Pixels, max_side: u32) -> Result<Pixels, UploadError> {
    let (width, height) = fitted(pixels.width, pixels.height, max_side);
    if (width, height) == (pixels.width, pixels.height) {
        return Ok(pixels);
    }
    resize(pixels, width, height, in_bands)
        .map_err(|error| UploadError::Internal(error.to_string()))
}

/// The size that [`fit`] gives a picture.
pub fn fitted(width: u32, height: u32, max_side: u32) -> (u32, u32) {
    let long = width.max(height);
    if long <= max_side {
        return (width, height);
    }
    (
        shrink(width, max_side, long),
        shrink(height, max_side, long),
    )
}

/// Scales a picture to this very size, up or down; what does not fit the shape is cut off evenly on both sides.
///
/// # Errors
/// As [`fit`].
pub fn cover(pixels: Pixels, width: u32, height: u32) -> Result<Pixels, UploadError> {
    if (pixels.width, pixels.height) == (width, height) {
        return Ok(pixels);
    }
    let cut = |source: &Image<'_>, target: &mut Image<'_>, options: ResizeOptions| {
        let options = options.fit_into_destination(Some((0.5, 0.5)));
        Ok(Resizer::new().resize(source, target, &options)?)
    };
    resize(pixels, width, height, cut).map_err(|error| UploadError::Internal(error.to_string()))
}

/// `side × max / long`, rounded, at least 1.
fn shrink(side: u32, max: u32, long: u32) -> u32 {
    let scaled = (u64::from(side) * u64::from(max) + u64::from(long) / 2) / u64::from(long.max(1));
    u32::try_from(scaled).unwrap_or(max).clamp(1, max)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn resize(
    pixels: Pixels,
    width: u32,
    height: u32,
    draw: impl Fn(&Image<'_>, &mut Image<'_>, ResizeOptions) -> Result<(), Failure>,
) -> Result<Pixels, Failure> {
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
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .use_alpha(false);
    draw(&source, &mut target, options)?;
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

/// The whole source into the whole target, in bands of rows that take [`BAND_BYTES`] each.
fn in_bands(
    source: &Image<'_>,
    target: &mut Image<'_>,
    options: ResizeOptions,
) -> Result<(), Failure> {
    let (kind, width) = (target.pixel_type(), target.width());
    let stride = width as usize * kind.size();
    let row = u64::from(source.width()) * kind.size() as u64;
    let band = usize::try_from(BAND_BYTES / row.max(1)).unwrap_or(1).max(1);
    let (wide, high) = (f64::from(source.width()), f64::from(source.height()));
    let step = high / f64::from(target.height().max(1));
    let mut scaler = Resizer::new();
    let mut top = 0.0;
    for rows in target.buffer_mut().chunks_mut((stride * band).max(1)) {
        let count = u32::try_from(rows.len() / stride.max(1))?;
        let deep = (step * f64::from(count)).min(high - top);
        let mut part = Image::from_slice_u8(width, count, rows, kind)?;
        scaler.resize(source, &mut part, &options.crop(0.0, top, wide, deep))?;
        top += deep;
    }
    Ok(())
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
    fn no_seam_shows_between_bands() {
        let (width, height) = (9_000, 3_000);
        let data = (0..width * height * 3)
            .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8 / 4 + (at / 600_000) as u8)
            .collect();
        let noise = Pixels {
            width,
            height,
            layout: Layout::Rgb,
            data,
        };
        let (wide, high) = fitted(width, height, 4_096);
        // Several bands, the last of them a part of one.
        let band = BAND_BYTES / (u64::from(width) * 3);
        assert!((1..u64::from(high)).contains(&band) && u64::from(high) % band != 0);
        let whole = |source: &Image<'_>, target: &mut Image<'_>, options: ResizeOptions| {
            Ok(Resizer::new().resize(source, target, &options)?)
        };
        let wanted = resize(noise.clone(), wide, high, whole).unwrap();
        let made = fit(noise, 4_096).unwrap();
        let off = |(a, b): (&u8, &u8)| a.abs_diff(*b);
        let most = made.data.iter().zip(&wanted.data).map(off).max();
        assert!(most <= Some(1), "{most:?}");
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
