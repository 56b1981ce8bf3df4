//! The smallest PNG form that holds a picture exactly: no opacity that is always full, no colour
//! where all is gray, a palette for up to 256 colours.

use crate::upload::pixels::{Layout, Pixels};

/// How pixels are written.
#[derive(Debug)]
pub enum Form {
    Gray,
    Rgb,
    Rgba,
    /// Indices into a table of red, green, blue and opacity; not fully opaque ones come first.
    Palette {
        colours: Vec<[u8; 4]>,
        depth: u8,
    },
}

impl Form {
    /// PNG's colour type and bit depth.
    pub fn header(&self) -> (u8, u8) {
        match self {
            Self::Gray => (0, 8),
            Self::Rgb => (2, 8),
            Self::Rgba => (6, 8),
            Self::Palette { depth, .. } => (3, *depth),
        }
    }

    /// Distance in bytes to the pixel on the left.
    pub fn pixel_bytes(&self) -> usize {
        match self {
            Self::Gray | Self::Palette { .. } => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Neighbouring indices are no neighbouring colours: filters only harm them.
    pub fn filters(&self) -> bool {
        !matches!(self, Self::Palette { .. })
    }
}

/// Rows as PNG wants them: one byte for the filter (0 so far), then `stride - 1` bytes.
#[derive(Debug)]
pub struct Reduced {
    pub form: Form,
    pub rows: Vec<u8>,
    pub stride: usize,
}

/// Chooses the form and lays out the rows; the pixels are given up.
pub fn reduce(pixels: Pixels) -> Reduced {
    if let Some(palette) = Palette::of(&pixels) {
        let depth = palette.depth();
        // A gray picture needs no table unless the table makes its pixels smaller than a byte.
        if depth < 8 || !palette.is_gray() {
            return palette.write(&pixels, depth);
        }
    }
    let (opaque, gray) = match pixels.layout {
        Layout::Gray => (true, true),
        Layout::Rgb => (
            true,
            pixels
                .data
                .as_chunks()
                .0
                .iter()
                .all(|&[r, g, b]| r == g && g == b),
        ),
        Layout::Rgba => {
            let all = pixels.data.as_chunks().0;
            let opaque = all.iter().all(|&[_, _, _, a]| a == 255);
            (
                opaque,
                opaque && all.iter().all(|&[r, g, b, _]| r == g && g == b),
            )
        }
    };
    let (layout, width) = (pixels.layout, pixels.width as usize);
    let data = pixels.data;
    match (layout, opaque, gray) {
        (Layout::Gray, ..) => rows(&data, width, Form::Gray, |&[v]: &[u8; 1]| [v]),
        (Layout::Rgb, _, true) => rows(&data, width, Form::Gray, |&[v, _, _]: &[u8; 3]| [v]),
        (Layout::Rgb, _, false) => rows(&data, width, Form::Rgb, |p: &[u8; 3]| *p),
        (Layout::Rgba, _, true) => rows(&data, width, Form::Gray, |&[v, _, _, _]: &[u8; 4]| [v]),
        (Layout::Rgba, true, false) => {
            rows(&data, width, Form::Rgb, |&[r, g, b, _]: &[u8; 4]| [r, g, b])
        }
        (Layout::Rgba, false, false) => rows(&data, width, Form::Rgba, |p: &[u8; 4]| *p),
    }
}

fn rows<const IN: usize, const OUT: usize>(
    data: &[u8],
    width: usize,
    form: Form,
    convert: impl Fn(&[u8; IN]) -> [u8; OUT],
) -> Reduced {
    let stride = 1 + width * OUT;
    let height = data.len() / (width * IN).max(1);
    let mut rows = vec![0; stride * height];
    for (to, from) in rows
        .chunks_exact_mut(stride)
        .zip(data.chunks_exact((width * IN).max(1)))
    {
        let pixels = to.get_mut(1..).unwrap_or_default().as_chunks_mut::<OUT>().0;
        for (target, source) in pixels.iter_mut().zip(from.as_chunks::<IN>().0) {
            *target = convert(source);
        }
    }
    Reduced { form, rows, stride }
}

/// Slots of the table that finds a colour's index: a power of two well above 256.
const SLOTS: usize = 1024;

struct Palette {
    colours: Vec<[u8; 4]>,
    slots: Box<[Option<(u32, u8)>; SLOTS]>,
}

impl Palette {
    /// The picture's colours, unless there are more than 256 (which most photographs show in
    /// their first rows).
    fn of(pixels: &Pixels) -> Option<Self> {
        let mut palette = Self {
            colours: Vec::new(),
            slots: Box::new([None; SLOTS]),
        };
        let mut last = None;
        for colour in colours(pixels) {
            if last != Some(colour) {
                palette.insert(colour)?;
                last = Some(colour);
            }
        }
        // Opaque colours last: then the table of opacities is short, or not there.
        let mut colours = std::mem::take(&mut palette.colours);
        colours.sort_unstable_by_key(|&[r, g, b, a]| (a == 255, r, g, b, a));
        palette.slots.fill(None);
        for colour in colours {
            palette.insert(colour)?;
        }
        Some(palette)
    }

    fn insert(&mut self, colour: [u8; 4]) -> Option<u8> {
        let word = u32::from_le_bytes(colour);
        let mut slot = slot_of(word);
        loop {
            match self.slots.get_mut(slot)? {
                Some((known, index)) if *known == word => return Some(*index),
                Some(_) => slot = (slot + 1) % SLOTS,
                free => {
                    let index = u8::try_from(self.colours.len()).ok()?;
                    *free = Some((word, index));
                    self.colours.push(colour);
                    return Some(index);
                }
            }
        }
    }

    fn depth(&self) -> u8 {
        match self.colours.len() {
            0..=2 => 1,
            3..=4 => 2,
            5..=16 => 4,
            _ => 8,
        }
    }

    fn is_gray(&self) -> bool {
        self.colours
            .iter()
            .all(|&[r, g, b, a]| r == g && g == b && a == 255)
    }

    fn write(mut self, pixels: &Pixels, depth: u8) -> Reduced {
        let width = pixels.width as usize;
        let stride = 1 + (width * usize::from(depth)).div_ceil(8);
        let mut rows = Vec::with_capacity(stride * pixels.height as usize);
        let (mut last, mut index) = (None, 0);
        let (mut byte, mut bits) = (0u8, 0);
        for (at, colour) in colours(pixels).enumerate() {
            if at % width == 0 {
                rows.push(0);
            }
            if last != Some(colour) {
                index = self.insert(colour).unwrap_or_default();
                last = Some(colour);
            }
            byte |= index << (8 - depth - bits);
            bits += depth;
            if bits == 8 || at % width == width - 1 {
                rows.push(byte);
                (byte, bits) = (0, 0);
            }
        }
        Reduced {
            form: Form::Palette {
                colours: self.colours,
                depth,
            },
            rows,
            stride,
        }
    }
}

fn slot_of(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> 22) as usize % SLOTS
}

fn colours(pixels: &Pixels) -> Box<dyn Iterator<Item = [u8; 4]> + '_> {
    match pixels.layout {
        Layout::Gray => Box::new(pixels.data.iter().map(|&v| [v, v, v, 255])),
        Layout::Rgb => Box::new(
            pixels
                .data
                .as_chunks()
                .0
                .iter()
                .map(|&[r, g, b]| [r, g, b, 255]),
        ),
        Layout::Rgba => Box::new(pixels.data.as_chunks().0.iter().copied()),
    }
}
