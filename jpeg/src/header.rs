//! The frame header (T.81, B.2.2): what kind of JPEG it is, how large, and how its components are sampled.

use crate::segments::{Segments, be16};
use crate::{Error, Kind};

/// One component of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Component {
    /// The name that scans call it by.
    pub id: u8,
    /// Horizontal and vertical sampling factors, 1 to 4.
    pub h: usize,
    pub v: usize,
    /// Number of its quantisation table.
    pub table: usize,
}

/// What a frame header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// Whether the picture comes in scans of growing detail.
    pub progressive: bool,
    pub(crate) components: Vec<Component>,
}

/// Reads the frame header. Nothing is decoded, and no more is allocated than its components take.
///
/// # Errors
/// [`Error::Header`], or the kind of JPEG that is not supported.
pub fn header(bytes: &[u8]) -> Result<Header, Error> {
    if !bytes.starts_with(b"\xff\xd8") {
        return Err(Error::Header);
    }
    for segment in Segments::new(bytes, 2) {
        match segment.marker {
            // DHT, JPG and DAC are no frames.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf | 0xf7 => return frame(segment.marker, segment.body),
            // Pixels before any frame, a second start, or the end.
            0xd8..=0xda => return Err(Error::Header),
            _ => {}
        }
    }
    Err(Error::Header)
}

fn frame(marker: u8, body: &[u8]) -> Result<Header, Error> {
    let unsupported = |kind| Err(Error::Unsupported(kind));
    match marker {
        0xc3 | 0xf7 => return unsupported(Kind::Lossless),
        0xc5..=0xc7 => return unsupported(Kind::Hierarchical),
        0xc9..=0xcf => return unsupported(Kind::Arithmetic),
        _ => {}
    }
    let byte = |at: usize| body.get(at).copied().ok_or(Error::Header);
    let word = |at: usize| be16(body, at).map(u32::from).ok_or(Error::Header);
    if byte(0)? != 8 {
        return unsupported(Kind::Precision);
    }
    let (height, width, count) = (word(1)?, word(3)?, usize::from(byte(5)?));
    if width == 0 || height == 0 {
        return Err(Error::Header);
    }
    if !matches!(count, 1 | 3 | 4) {
        return unsupported(Kind::Components);
    }
    let mut components = Vec::with_capacity(count);
    for at in (6..).step_by(3).take(count) {
        let sampling = byte(at + 1)?;
        let component = Component {
            id: byte(at)?,
            h: usize::from(sampling >> 4),
            v: usize::from(sampling & 15),
            table: usize::from(byte(at + 2)?),
        };
        if !(1..=4).contains(&component.h) || !(1..=4).contains(&component.v) {
            return Err(Error::Header);
        }
        components.push(component);
    }
    if let [only] = components.as_mut_slice() {
        // A component alone is not interleaved, so its factors mean nothing (A.2.2).
        (only.h, only.v) = (1, 1);
    }
    let header = Header {
        width,
        height,
        progressive: marker == 0xc2,
        components,
    };
    let (h, v) = header.most();
    if header
        .components
        .iter()
        .any(|one| h % one.h != 0 || v % one.v != 0)
    {
        return unsupported(Kind::Sampling);
    }
    Ok(header)
}

impl Header {
    /// Samples of a pixel: 1 (grey), 3 or 4.
    pub fn samples(&self) -> usize {
        self.components.len()
    }

    /// Memory that decoding takes at most beside the file, in bytes: the picture; the coefficients of all components,
    /// two bytes each, where they come in several scans; and eight rows of blocks.
    pub fn memory(&self, buffered: bool) -> u64 {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let picture = width * height * self.samples() as u64;
        let (columns, rows) = self.units();
        let blocks: usize = self.components.iter().map(|one| one.h * one.v).sum();
        let coefficients = if buffered {
            (columns * rows * blocks) as u64 * 128
        } else {
            0
        };
        picture + coefficients + (columns * blocks) as u64 * 64 * 3 + (1 << 16)
    }

    /// Whether its coefficients must be kept until the last scan, as far as the header tells: a sequential file whose
    /// components come in scans of their own is known by its first scan header only.
    pub fn buffered(&self) -> bool {
        self.progressive
    }

    /// The largest sampling factors.
    pub(crate) fn most(&self) -> (usize, usize) {
        let h = self.components.iter().map(|one| one.h).max();
        let v = self.components.iter().map(|one| one.v).max();
        (h.unwrap_or(1), v.unwrap_or(1))
    }

    /// Interleaved units in a row, and rows of them.
    pub(crate) fn units(&self) -> (usize, usize) {
        let (h, v) = self.most();
        let (width, height) = (self.width as usize, self.height as usize);
        (width.div_ceil(8 * h), height.div_ceil(8 * v))
    }

    /// Samples in a row of a component, and rows of them.
    pub(crate) fn size_of(&self, component: &Component) -> (usize, usize) {
        let (h, v) = self.most();
        let (width, height) = (self.width as usize, self.height as usize);
        (
            (width * component.h).div_ceil(h),
            (height * component.v).div_ceil(v),
        )
    }
}
