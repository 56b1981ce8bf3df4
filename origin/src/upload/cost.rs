//! What turning a file into ours takes: memory, and work in units. Both are known from its header and its markers, before
//! a decoder is started.
//!
//! The numbers were measured: `upload_rate peak` on every kind below, from 1 to 64 megapixels. A decoder that is
//! exchanged, or one more copy of a picture anywhere on the path, changes them; `tests/upload/memory.rs` fails then.

use super::sniff::Kind;
use super::{Limits, UploadError, scale, scans};

/// What one file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of memory at most.
    pub memory: u64,
    /// Work. A unit is a megapixel (2^20 pixels) read once; see [`units`].
    pub units: u32,
}

/// For what is there besides pixels: profiles and their tables, compressors, rows.
const BASE: u64 = 32 << 20;

/// What holds while a file is decoded, in bytes for each four pixels beside what is `held` whatever the pixels are; and
/// the samples of a pixel that comes out.
#[derive(Debug, Clone, Copy)]
struct Peak {
    quarters: u64,
    held: u64,
    samples: u64,
}

/// The table. `bytes` begin with a header that was read before.
fn peak(kind: Kind, bytes: &[u8], scans: &scans::Scans) -> Peak {
    let peak = |quarters, samples| Peak {
        quarters,
        held: 0,
        samples,
    };
    match kind {
        // The colour type. Gray with opacity is widened beside itself: 2 + 4; so is gray with one transparent level.
        Kind::Png => match bytes.get(25) {
            Some(0 | 4) => peak(24, 4),
            _ => peak(16, 4),
        },
        // The screen, and beside it a first frame that does not fill it.
        Kind::Gif => peak(32, 4),
        // 1.5 for the planes of a lossy picture, 4 for a lossless one; opacity is a lossless picture of its own and a
        // plane; an animation has a canvas besides.
        Kind::WebP => match (bytes.get(12..16), bytes.get(20), bytes.get(24)) {
            (Some(b"VP8 "), ..) => peak(19, 3),
            // Bit 28 behind the signature byte says that opacity is used.
            (Some(b"VP8L"), _, Some(flags)) if flags & 0x10 != 0 => peak(18, 4),
            (Some(b"VP8L"), ..) => peak(29, 3),
            (_, Some(flags), _) if flags & 2 != 0 => peak(52, 4),
            (_, Some(flags), _) if flags & 0x10 != 0 => peak(43, 4),
            _ => peak(29, 4),
        },
        Kind::Jpeg => Peak {
            held: scans.held,
            ..match scans.components {
                1 => peak(4, 1),
                4 => peak(16, 4),
                _ => peak(12, 3),
            }
        },
    }
}

impl Cost {
    /// The cost of an image of this kind and size in pixels.
    ///
    /// # Errors
    /// [`UploadError::TooManyScans`].
    pub fn of(
        kind: Kind,
        (width, height): (u32, u32),
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Self, UploadError> {
        let scans = match kind {
            Kind::Jpeg => scans::read(bytes)?,
            _ => scans::Scans::default(),
        };
        let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        let pixels = area((width, height));
        let Peak {
            quarters,
            held,
            samples,
        } = peak(kind, bytes, &scans);
        let decoded = held + pixels * quarters / 4;
        let target = area(scale::fitted(width, height, limits.max_side));
        let scaled = if target == pixels {
            0
        } else {
            (pixels + target) * samples + scale::BAND_BYTES
        };
        // The rows of the result and what they are packed into; or the picture and the same turned.
        let written = 2 * target * samples;
        let most = decoded.max(scaled).max(written);
        // The file itself, and the copy that some decoders make.
        let file = 2 * bytes.len() as u64;
        Ok(Self {
            memory: most + most / 32 + file + BASE,
            units: units(kind, pixels, scans.passes),
        })
    }

    /// The most that one of our own files takes: a size in pixels, and bytes of the file.
    pub fn of_stored(width: u32, height: u32, bytes: u64) -> Self {
        let pixels = u64::from(width) * u64::from(height);
        // Scaled once more where less is allowed today than when it came.
        let most = 2 * pixels * 4 + scale::BAND_BYTES;
        Self {
            memory: most + most / 32 + 2 * bytes + BASE,
            units: units(Kind::Png, pixels, 0),
        }
    }
}

/// Work units: each 2^20 pixels are one, of a WebP two; a JPEG that keeps its coefficients for several scans pays an
/// eighth more each time they go over the picture. At least 1.
fn units(kind: Kind, pixels: u64, passes: u64) -> u32 {
    let thousandths = match kind {
        Kind::WebP => 2_000,
        _ => 1_000 + passes / 8,
    };
    let units = (pixels * thousandths).div_ceil(1_000 << 20).max(1);
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_megapixels_and_passes() {
        let sixty_four = 64 << 20;
        assert_eq!(units(Kind::Png, 1, 0), 1);
        assert_eq!(units(Kind::Png, sixty_four, 0), 64);
        assert_eq!(units(Kind::Png, sixty_four + 1, 0), 65);
        assert_eq!(units(Kind::WebP, sixty_four, 0), 128);
        assert_eq!(units(Kind::Jpeg, sixty_four, 0), 64);
        assert_eq!(units(Kind::Jpeg, sixty_four, 4_000), 96);
        assert_eq!(units(Kind::Jpeg, sixty_four, 32_000), 320);
    }
}
