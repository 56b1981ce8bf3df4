//! What a file says about showing it, before its first scan.

use crate::segments::Segments;

/// What a file says about showing it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The EXIF block, from its TIFF header on.
    pub exif: Option<Vec<u8>>,
    /// The colour profile, put together from its parts; none where a part is missing.
    pub profile: Option<Vec<u8>>,
    /// The colour transform of Adobe's segment: 0 none, 1 YCbCr, 2 YCCK.
    pub(crate) adobe: Option<u8>,
    /// Whether there is a JFIF segment.
    pub(crate) jfif: bool,
}

/// Reads what stands before the first scan.
pub fn metadata(bytes: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    let mut parts: Vec<(u8, u8, &[u8])> = Vec::new();
    for segment in Segments::new(bytes, 2) {
        match (segment.marker, segment.body) {
            (0xd8..=0xda, _) => break,
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => found.jfif = true,
            (0xe1, [b'E', b'x', b'i', b'f', 0, _, tiff @ ..]) if found.exif.is_none() => {
                found.exif = Some(tiff.to_vec());
            }
            (0xe2, body) => {
                if let Some([number, count, part @ ..]) = body.strip_prefix(b"ICC_PROFILE\0") {
                    parts.push((*number, *count, part));
                }
            }
            (
                0xee,
                [
                    b'A',
                    b'd',
                    b'o',
                    b'b',
                    b'e',
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    transform,
                    ..,
                ],
            ) => {
                found.adobe = Some(*transform);
            }
            _ => {}
        }
    }
    parts.sort_by_key(|&(number, ..)| number);
    let whole = parts
        .iter()
        .zip(1..)
        .all(|(&(number, count, _), wanted)| number == wanted && usize::from(count) == parts.len());
    if whole && !parts.is_empty() {
        found.profile = Some(parts.iter().flat_map(|(.., part)| *part).copied().collect());
    }
    found
}
