//! Pixels in memory, eight bits a sample.

/// What the samples of a pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One: brightness.
    Gray,
    /// Three: red, green, blue.
    Rgb,
    /// Four: red, green, blue, and opacity that is not multiplied in.
    Rgba,
}

impl Layout {
    /// Samples, and bytes, in a pixel.
    pub fn samples(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// A picture: rows from the top, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// What a pixel is.
    pub layout: Layout,
    /// `width × height × samples` bytes.
    pub data: Vec<u8>,
}

impl Pixels {
    /// Bytes in a row.
    pub fn stride(&self) -> usize {
        self.width as usize * self.layout.samples()
    }

    /// Clears the colours of pixels that nobody can see: they may hold what someone cut out.
    pub fn clear_hidden_colours(&mut self) {
        if self.layout != Layout::Rgba {
            return;
        }
        for pixel in self.data.as_chunks_mut::<4>().0 {
            if let [_, _, _, 0] = pixel {
                *pixel = [0; 4];
            }
        }
    }
}
