//! THE PATH of an upload: a stranger's file goes in, a picture of our own making comes out.

use bytes::Bytes;

use super::sniff::Admitted;
use super::{Limits, UploadError, colour, decode, png, scale, turn};

/// A picture that holds pixels and nothing else: PNG, sRGB, upright, no metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanitisedImage {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The file.
    pub png: Bytes,
}

/// Turns a file into a picture. Runs on this thread, takes as much memory as
/// [`Admitted::memory`] says, and may in theory panic inside a decoder: services call it through
/// [`super::Uploads`].
///
/// # Errors
/// The first rule that the file breaks.
pub fn sanitise(bytes: &[u8], limits: &Limits) -> Result<SanitisedImage, UploadError> {
    let admitted = Admitted::read(bytes, limits)?;
    let decoded = decode::decode(bytes, admitted, limits)?;
    let scaled = scale::fit(decoded.pixels, limits.max_side)?;
    let srgb = colour::to_srgb(scaled, decoded.meaning, decoded.is_gray);
    let mut pixels = turn::upright(srgb, decoded.orientation);
    pixels.clear_hidden_colours();
    let (width, height) = (pixels.width, pixels.height);
    let png = png::encode(pixels, limits.png_level)?.into();
    Ok(SanitisedImage { width, height, png })
}
