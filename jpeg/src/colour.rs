//! From rows of components to rows of pixels: bringing subsampled ones to full size and converting colours, both as
//! libjpeg does ("fancy upsampling", JFIF's YCbCr).

use crate::header::Header;
use crate::metadata::Metadata;

/// What the components of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Brightness, or red, green and blue.
    Plain,
    /// Brightness and two differences.
    YCbCr,
    /// Inks, stored inverted as Adobe began to.
    Cmyk,
    /// The same as three of YCbCr and black.
    Ycck,
}

impl Colours {
    /// By libjpeg's rules: the JFIF segment, then Adobe's, then the components' names.
    pub fn of(header: &Header, metadata: &Metadata) -> Self {
        let names: Vec<u8> = header.components.iter().map(|one| one.id).collect();
        match (header.samples(), metadata.adobe) {
            (3, _) if metadata.jfif => Self::YCbCr,
            (3, Some(0)) => Self::Plain,
            (3, None) if names == *b"RGB" => Self::Plain,
            (3, _) => Self::YCbCr,
            (4, Some(0) | None) => Self::Cmyk,
            (4, _) => Self::Ycck,
            _ => Self::Plain,
        }
    }
}

/// How a component's rows become the picture's.
#[derive(Debug, Clone, Copy)]
pub struct Upsampling {
    /// How many pixels a sample is wide and high.
    pub wide: usize,
    pub high: usize,
    /// Samples in a row, and rows.
    pub width: usize,
    pub height: usize,
}

impl Upsampling {
    /// Whether a row is mixed of two.
    fn mixes(self) -> bool {
        self.high == 2 && (self.wide == 1 || (self.wide == 2 && self.width > 2))
    }

    /// The component's rows that a row of the picture is made of: the nearer, and the farther one.
    pub fn rows(self, y: usize) -> (usize, usize) {
        let near = (y / self.high).min(self.height.saturating_sub(1));
        if !self.mixes() {
            return (near, near);
        }
        let far = if y.is_multiple_of(2) {
            near.saturating_sub(1)
        } else {
            (near + 1).min(self.height.saturating_sub(1))
        };
        (near, far)
    }

    /// One row of the picture's width or more.
    pub fn row(self, y: usize, near: &[u8], far: &[u8], out: &mut [u8]) {
        let near = near.get(..self.width).unwrap_or(near);
        let far = far.get(..self.width).unwrap_or(far);
        match (self.wide, self.high) {
            (1, 2) => {
                let round = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((slot, &near), &far) in out.iter_mut().zip(near).zip(far) {
                    *slot = ((u32::from(near) * 3 + u32::from(far) + round) >> 2) as u8;
                }
            }
            (2, 1) if self.width > 2 => {
                let ends = widen(near.iter().map(|&value| u32::from(value)), out, (1, 2, 2));
                // The outermost are taken as they are.
                if let (Some(&first), Some(&last)) = (near.first(), near.last()) {
                    set(out, 0, first);
                    set(out, ends, last);
                }
            }
            (2, 2) if self.width > 2 => {
                let sums = near.iter().zip(far);
                let mut sums = sums.map(|(&near, &far)| u32::from(near) * 3 + u32::from(far));
                let ends = widen(sums.clone(), out, (8, 7, 4));
                if let (Some(first), Some(last)) = (sums.clone().next(), sums.next_back()) {
                    set(out, 0, ((first * 4 + 8) >> 4) as u8);
                    set(out, ends, ((last * 4 + 7) >> 4) as u8);
                }
            }
            (1, _) => {
                for (slot, &value) in out.iter_mut().zip(near) {
                    *slot = value;
                }
            }
            _ => {
                for (slots, &value) in out.chunks_mut(self.wide).zip(near) {
                    slots.fill(value);
                }
            }
        }
    }
}

fn set(out: &mut [u8], at: usize, value: u8) {
    if let Some(slot) = out.get_mut(at) {
        *slot = value;
    }
}

/// Two of each: three parts of itself and one of its neighbour, with what is added before shifting, for the left and
/// the right one. Returns the place of the last.
fn widen(
    values: impl Iterator<Item = u32> + Clone,
    out: &mut [u8],
    (left, right, shift): (u32, u32, u32),
) -> usize {
    let before = values.clone();
    let mut count = 0;
    // The place to the right of each value and to the left of the next.
    let pairs = out.get_mut(1..).unwrap_or_default().chunks_mut(2);
    for ((slots, value), next) in pairs.zip(before).zip(values.skip(1)) {
        if let Some(slot) = slots.first_mut() {
            *slot = ((value * 3 + next + right) >> shift) as u8;
        }
        if let Some(slot) = slots.get_mut(1) {
            *slot = ((next * 3 + value + left) >> shift) as u8;
        }
        count += 1;
    }
    count * 2 + 1
}

/// Puts rows of components together.
pub fn convert(colours: Colours, rows: &[Vec<u8>], out: &mut [u8]) {
    match (colours, rows) {
        (_, [only]) => {
            let whole = only.get(..out.len()).unwrap_or_default();
            if whole.len() == out.len() {
                out.copy_from_slice(whole);
            }
        }
        (Colours::YCbCr, [y, cb, cr]) => {
            let pixels = out.as_chunks_mut::<3>().0.iter_mut();
            for (((pixel, &y), &cb), &cr) in pixels.zip(y).zip(cb).zip(cr) {
                *pixel = rgb(y, cb, cr);
            }
        }
        (_, [red, green, blue]) => {
            let pixels = out.as_chunks_mut::<3>().0.iter_mut();
            for (((pixel, &red), &green), &blue) in pixels.zip(red).zip(green).zip(blue) {
                *pixel = [red, green, blue];
            }
        }
        (_, [c, m, y, k]) => {
            let pixels = out.as_chunks_mut::<4>().0.iter_mut();
            for ((((pixel, &c), &m), &y), &k) in pixels.zip(c).zip(m).zip(y).zip(k) {
                let [c, m, y] = if colours == Colours::Ycck {
                    rgb(c, m, y)
                } else {
                    [255 - c, 255 - m, 255 - y]
                };
                *pixel = [c, m, y, 255 - k];
            }
        }
        _ => {}
    }
}

/// JFIF's conversion, in 16 bits behind the point.
#[inline]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    [
        y + ((91_881 * cr + half) >> 16),
        y + ((-22_554 * cb - 46_802 * cr + half) >> 16),
        y + ((116_130 * cb + half) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}
