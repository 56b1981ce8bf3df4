//! Finished pictures, and their encoding as PNG, WebP or JPEG.

use super::error::InferError;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// A picture: 8-bit RGB, row by row, from one seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `3 x width x height` bytes.
    pub rgb: Vec<u8>,
    /// The seed it came from.
    pub seed: u64,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Pixels({}x{}, seed {})",
            self.width, self.height, self.seed
        )
    }
}

/// How a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lossless.
    #[default]
    Png,
    /// Lossless WebP.
    Webp,
    /// Quality 90.
    Jpeg,
}

impl Format {
    /// The format of that name (`png`, `webp`, `jpeg`, `jpg`).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "png" => Some(Self::Png),
            "webp" => Some(Self::Webp),
            "jpeg" | "jpg" => Some(Self::Jpeg),
            _ => None,
        }
    }

    /// The name requests and answers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Jpeg => "jpeg",
        }
    }

    /// The file ending in object keys.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Jpeg => "jpg",
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// Encodes a picture. Takes milliseconds of CPU: call it off the async threads.
pub fn encode(pixels: &Pixels, format: Format) -> Result<Vec<u8>, InferError> {
    let mut out = Vec::new();
    let side = |side: usize| u32::try_from(side).map_err(|e| InferError::Encode(e.to_string()));
    let (width, height) = (side(pixels.width)?, side(pixels.height)?);
    let (rgb, colour) = (&pixels.rgb, ExtendedColorType::Rgb8);
    match format {
        Format::Png => {
            PngEncoder::new_with_quality(&mut out, CompressionType::Default, FilterType::Adaptive)
                .write_image(rgb, width, height, colour)
        }
        Format::Webp => WebPEncoder::new_lossless(&mut out).write_image(rgb, width, height, colour),
        Format::Jpeg => {
            JpegEncoder::new_with_quality(&mut out, 90).write_image(rgb, width, height, colour)
        }
    }
    .map_err(|error| InferError::Encode(error.to_string()))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> Pixels {
        let rgb = (0..64 * 48)
            .flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 5) as u8, 90])
            .collect();
        Pixels {
            width: 64,
            height: 48,
            rgb,
            seed: 1,
        }
    }

    #[test]
    fn every_format_decodes_to_the_same_picture() {
        let pixels = gradient();
        for format in [Format::Png, Format::Webp, Format::Jpeg] {
            let bytes = encode(&pixels, format).unwrap();
            let guessed = image::guess_format(&bytes).unwrap();
            assert_eq!(guessed.to_mime_type(), format.content_type());
            let decoded = image::load_from_memory(&bytes).unwrap().to_rgb8();
            assert_eq!(decoded.dimensions(), (64, 48));
            let worst = decoded
                .as_raw()
                .iter()
                .zip(&pixels.rgb)
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            let allowed = if format == Format::Jpeg { 16 } else { 0 };
            assert!(worst.unwrap() <= allowed, "{format:?}: {worst:?}");
            assert_eq!(Format::parse(format.name()), Some(format));
        }
    }

    #[test]
    fn pixels_of_the_wrong_length_are_an_error() {
        let mut pixels = gradient();
        pixels.rgb.pop();
        assert!(
            std::panic::catch_unwind(|| encode(&pixels, Format::Png)).map_or(true, |r| r.is_err())
        );
    }
}
