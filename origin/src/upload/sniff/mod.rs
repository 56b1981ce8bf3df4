//! What a file is and how large its picture, from its first bytes alone: nothing is decoded and
//! nothing allocated, so that a hostile file is refused before it costs anything.

mod jpeg;
mod webp;

use super::cost::Cost;
use super::{Limits, UploadError};

/// A format whose decoder we trust with strangers' bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Portable Network Graphics.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
    /// WebP, lossy or lossless.
    WebP,
    /// GIF, of which the first frame is taken.
    Gif,
}

/// Type and size of an image that keeps to the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    pub(super) kind: Kind,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) cost: Cost,
}

impl Admitted {
    /// Reads the header and holds it against the limits.
    ///
    /// # Errors
    /// One code for each rule: see [`UploadError`].
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, UploadError> {
        if bytes.is_empty() {
            return Err(UploadError::Empty);
        }
        if bytes.len() as u64 > limits.max_bytes {
            return Err(UploadError::TooLarge {
                limit: limits.max_bytes,
            });
        }
        let kind = kind(bytes)?;
        let (width, height) = match kind {
            Kind::Png => png(bytes),
            Kind::Jpeg => Some(jpeg::size(bytes)?),
            Kind::WebP => webp::size(bytes),
            Kind::Gif => gif(bytes),
        }
        .ok_or(UploadError::Header)?;
        check_size(width, height, limits)?;
        Ok(Self {
            kind,
            width,
            height,
            cost: Cost::of(kind, (width, height), bytes, limits)?,
        })
    }

    /// Pixels in a row, as the header says.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows, as the header says.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Memory that turning this image into ours may take, in bytes.
    pub fn memory(&self) -> u64 {
        self.cost.memory
    }

    /// The work in it, in units (docs/uploads.md).
    pub fn units(&self) -> u32 {
        self.cost.units
    }
}

/// The rules for a picture's size. Decoders' own words about it are checked again with this.
pub(super) fn check_size(width: u32, height: u32, limits: &Limits) -> Result<(), UploadError> {
    if width == 0 || height == 0 {
        return Err(UploadError::Header);
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(UploadError::TooManyPixels {
            limit: limits.max_pixels,
        });
    }
    let (long, short) = (u64::from(width.max(height)), u64::from(width.min(height)));
    if long > short * u64::from(limits.max_ratio) {
        return Err(UploadError::Ratio {
            limit: limits.max_ratio,
        });
    }
    Ok(())
}

fn kind(bytes: &[u8]) -> Result<Kind, UploadError> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(Kind::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Ok(Kind::Jpeg)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Ok(Kind::WebP)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Ok(Kind::Gif)
    } else if is_compressed(bytes) {
        Err(UploadError::Compressed)
    } else if let Some(tag) = markup(bytes) {
        Err(if is_page(tag) {
            UploadError::Html
        } else {
            UploadError::Svg
        })
    } else {
        Err(UploadError::Type)
    }
}

/// gzip and Zstandard: a picture that was compressed once more, or a compressed SVG.
fn is_compressed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd")
}

/// Text that opens with a tag, after a byte order mark and white space, in UTF-8 or UTF-16: from that tag on.
fn markup(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes
        .iter()
        .position(|byte| !matches!(byte, 0xef | 0xbb | 0xbf | 0xff | 0xfe | 0 | 9..=13 | b' '))?;
    bytes.get(at..).filter(|rest| rest.starts_with(b"<"))
}

/// Whether markup is a web page: its first tags are HTML's. Looks at the first kilobyte.
fn is_page(markup: &[u8]) -> bool {
    let text: Vec<u8> = markup
        .iter()
        .take(1024)
        .filter(|&&byte| byte != 0)
        .map(u8::to_ascii_lowercase)
        .collect();
    let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    let starts = [
        b"<!doctype html".as_slice(),
        b"<html",
        b"<head",
        b"<body",
        b"<script",
    ];
    starts.iter().any(|start| text.starts_with(start)) || (has(b"<html") && !has(b"<svg"))
}

fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.get(8..16) != Some(b"\x00\x00\x00\x0dIHDR") {
        return None;
    }
    Some((be32(bytes, 16)?, be32(bytes, 20)?))
}

/// The screen and the first frame must agree to the limits; the larger of both counts.
fn gif(bytes: &[u8]) -> Option<(u32, u32)> {
    Some((le16(bytes, 6)?, le16(bytes, 8)?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u32::from(u16::from_le_bytes(word.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Admitted, UploadError> {
        Admitted::read(bytes, &Limits::default())
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        [
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".as_slice(),
            &width.to_be_bytes(),
            &height.to_be_bytes(),
        ]
        .concat()
    }

    #[test]
    fn every_rule_has_its_code() {
        for (bytes, code) in [
            (b"".to_vec(), "empty_upload"),
            (vec![b'a'; (10 << 20) + 1], "body_too_large"),
            (
                b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
                "svg_refused",
            ),
            (
                b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>".to_vec(),
                "svg_refused",
            ),
            (b"\xff\xfe<\0s\0v\0g\0".to_vec(), "svg_refused"),
            (b"\x1f\x8b\x08svgz".to_vec(), "compressed_upload"),
            (b"\x28\xb5\x2f\xfdx".to_vec(), "compressed_upload"),
            (b"<!DOCTYPE html>".to_vec(), "html_refused"),
            (b"\xef\xbb\xbf\n<HTML><svg>".to_vec(), "html_refused"),
            (b"<!-- saved --><html lang='en'>".to_vec(), "html_refused"),
            (b"<?xml version='1.0'?><Error/>".to_vec(), "svg_refused"),
            (b"%PDF-1.7".to_vec(), "unsupported_image_type"),
            (b"BM\0\0".to_vec(), "unsupported_image_type"),
            (b"II*\0".to_vec(), "unsupported_image_type"),
            (b"\0\0\0\x20ftypavif".to_vec(), "unsupported_image_type"),
            (b"PK\x03\x04".to_vec(), "unsupported_image_type"),
            (b"RIFF\0\0\0\0WAVE".to_vec(), "unsupported_image_type"),
            (b"\x89PNG\r\n\x1a\n".to_vec(), "malformed_image_header"),
            (b"\xff\xd8\xff\xe0".to_vec(), "malformed_image_header"),
            (png(0, 5), "malformed_image_header"),
            (png(u32::MAX, u32::MAX), "too_many_pixels"),
            (png(8193, 8192), "too_many_pixels"),
            (png(31, 1), "extreme_aspect_ratio"),
            (png(1, 31), "extreme_aspect_ratio"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert_eq!(error.code(), code, "{:?}", bytes.get(..20.min(bytes.len())));
        }
    }

    #[test]
    fn an_image_at_the_limits_is_admitted() {
        assert_eq!(read(&png(8192, 8192)).unwrap().units(), 64);
        assert!(read(&png(30, 1)).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_header_parser_panic(
            start in prop::sample::select(vec![
                b"\x89PNG\r\n\x1a\n".to_vec(), b"\xff\xd8\xff".to_vec(),
                b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), b"RIFF\0\0\0\0WEBPVP8L".to_vec(),
                b"RIFF\0\0\0\0WEBPVP8X".to_vec(), b"GIF89a".to_vec(), b"".to_vec(),
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = [start, rest].concat();
            if let Ok(image) = read(&bytes) {
                prop_assert!(image.width > 0 && image.height > 0);
            }
        }
    }
}
