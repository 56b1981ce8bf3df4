//! From a file to pixels. Each decoder is pure Rust and gets the limits; only the first frame of
//! an animation is read.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError};
use png::{DecodingError, Transformations};

use super::colour::{self, Meaning};
use super::pixels::{Layout, Pixels};
use super::sniff::{Admitted, Kind, check_size};
use super::{Limits, UploadError, exif, webp};

/// A decoded file: its pixels as stored, and what it says about showing them.
#[derive(Debug)]
pub struct Decoded {
    pub pixels: Pixels,
    pub meaning: Meaning,
    /// Whether it stores brightness, alone or with opacity.
    pub is_gray: bool,
    pub orientation: Orientation,
}

/// Decodes what the header promised.
///
/// # Errors
/// [`UploadError::Damaged`], [`UploadError::Memory`], or a size that the decoder reads otherwise.
pub fn decode(bytes: &[u8], image: Admitted, limits: &Limits) -> Result<Decoded, UploadError> {
    match image.kind {
        Kind::Png => decode_png(bytes, image, limits),
        Kind::Jpeg => decode_jpeg(bytes, limits),
        Kind::WebP => {
            let file = webp::with_true_flags(bytes);
            with(WebPDecoder::new(Cursor::new(file)), image, limits)
        }
        Kind::Gif => with(GifDecoder::new(Cursor::new(bytes)), image, limits),
    }
}

/// Memory beside the file: the picture, four bytes a pixel of inks, and what `jpeg::Header::memory` says.
fn decode_jpeg(bytes: &[u8], limits: &Limits) -> Result<Decoded, UploadError> {
    let header = jpeg::header(bytes)?;
    check_size(header.width, header.height, limits)?;
    let jpeg::Picture {
        width,
        height,
        samples,
        data,
        metadata,
    } = jpeg::decode(bytes)?;
    let (layout, data, profile) = match samples {
        1 => (Layout::Gray, data, metadata.profile),
        3 => (Layout::Rgb, data, metadata.profile),
        _ => {
            let profile = metadata.profile.as_deref();
            let data = colour::inks_to_srgb(data, width as usize, profile);
            (Layout::Rgb, data, None)
        }
    };
    Ok(Decoded {
        pixels: pixels(width, height, layout, data)?,
        meaning: Meaning::of(profile),
        is_gray: samples == 1,
        orientation: metadata
            .exif
            .map_or(Orientation::NoTransforms, |block| exif::orientation(&block)),
    })
}

/// Not through `image`: 16-bit samples are halved while they are read, instead of filling memory.
fn decode_png(bytes: &[u8], image: Admitted, limits: &Limits) -> Result<Decoded, UploadError> {
    let memory = usize::try_from(image.memory()).unwrap_or(usize::MAX);
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: memory });
    // Text chunks may inflate to gigabytes, and nobody will read them.
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(png_error)?;
    check_size(reader.info().width, reader.info().height, limits)?;
    let mut data = vec![0; reader.output_buffer_size().ok_or(UploadError::Memory)?];
    let frame = reader.next_frame(&mut data).map_err(png_error)?;
    data.truncate(frame.buffer_size());
    let (layout, data) = match frame.color_type {
        png::ColorType::Grayscale => (Layout::Gray, data),
        png::ColorType::Rgb => (Layout::Rgb, data),
        png::ColorType::Rgba => (Layout::Rgba, data),
        png::ColorType::GrayscaleAlpha => (Layout::Rgba, widen(&data)),
        png::ColorType::Indexed => return Err(UploadError::Damaged),
    };
    let info = reader.info();
    Ok(Decoded {
        pixels: pixels(frame.width, frame.height, layout, data)?,
        meaning: Meaning::of_png(info),
        is_gray: matches!(
            frame.color_type,
            png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha
        ),
        orientation: info
            .exif_metadata
            .as_ref()
            .map_or(Orientation::NoTransforms, |block| exif::orientation(block)),
    })
}

fn with<D: ImageDecoder>(
    decoder: Result<D, ImageError>,
    image: Admitted,
    limits: &Limits,
) -> Result<Decoded, UploadError> {
    let mut decoder = decoder.map_err(image_error)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, limits)?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_image_width = Some(width);
    bounds.max_image_height = Some(height);
    bounds.max_alloc = Some(image.memory());
    decoder.set_limits(bounds).map_err(image_error)?;
    // A profile or orientation that cannot be read is as good as none.
    let profile = decoder.icc_profile().unwrap_or(None);
    let exif = decoder.exif_metadata().unwrap_or(None);
    let orientation = exif.map_or(Orientation::NoTransforms, |block| exif::orientation(&block));
    let colour = decoder.color_type();
    let length = decoder.total_bytes();
    if length > image.memory() {
        return Err(UploadError::Memory);
    }
    let mut data = vec![0; usize::try_from(length).map_err(|_| UploadError::Memory)?];
    decoder.read_image(&mut data).map_err(image_error)?;
    let (layout, data) = match colour {
        ColorType::L8 => (Layout::Gray, data),
        ColorType::La8 => (Layout::Rgba, widen(&data)),
        ColorType::Rgb8 => (Layout::Rgb, data),
        ColorType::Rgba8 => (Layout::Rgba, data),
        _ => return Err(UploadError::Damaged),
    };
    Ok(Decoded {
        pixels: pixels(width, height, layout, data)?,
        meaning: Meaning::of(profile),
        is_gray: matches!(colour, ColorType::L8 | ColorType::La8),
        orientation,
    })
}

/// Brightness and opacity to four samples.
fn widen(data: &[u8]) -> Vec<u8> {
    data.as_chunks::<2>()
        .0
        .iter()
        .flat_map(|&[gray, alpha]| [gray, gray, gray, alpha])
        .collect()
}

fn pixels(width: u32, height: u32, layout: Layout, data: Vec<u8>) -> Result<Pixels, UploadError> {
    let pixels = Pixels {
        width,
        height,
        layout,
        data,
    };
    if pixels.data.len() == pixels.stride() * height as usize {
        Ok(pixels)
    } else {
        Err(UploadError::Damaged)
    }
}

fn png_error(error: DecodingError) -> UploadError {
    match error {
        DecodingError::LimitsExceeded => UploadError::Memory,
        _ => UploadError::Damaged,
    }
}

fn image_error(error: ImageError) -> UploadError {
    match error {
        ImageError::Limits(_) => UploadError::Memory,
        _ => UploadError::Damaged,
    }
}
