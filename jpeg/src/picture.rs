//! The whole file: scan after scan into coefficients, or, where one scan brings everything, row after row into pixels.

use crate::colour::{Colours, Upsampling, convert};
use crate::entropy::{Bits, Tables, quantisation};
use crate::header::Header;
use crate::metadata::Metadata;
use crate::scan::{Block, Reader, Scan, ZIGZAG};
use crate::segments::{Segments, be16};
use crate::{Error, header, idct, metadata};

/// A decoded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Samples of a pixel: 1 is grey, 3 is red, green and blue, 4 is how much there is of cyan, magenta, yellow and
    /// black ink.
    pub samples: usize,
    /// `width × height × samples` bytes, rows from the top.
    pub data: Vec<u8>,
    /// What the file says about showing it.
    pub metadata: Metadata,
}

/// Decodes a file.
///
/// # Errors
/// What [`header`] refuses, or [`Error::Damaged`].
pub fn decode(bytes: &[u8]) -> Result<Picture, Error> {
    let header = header(bytes)?;
    let metadata = metadata(bytes);
    let mut file = File::new(bytes, &header, Colours::of(&header, &metadata));
    let data = file.scans()?;
    Ok(Picture {
        width: header.width,
        height: header.height,
        samples: header.samples(),
        data,
        metadata,
    })
}

struct File<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    colours: Colours,
    tables: Tables,
    steps: [Option<[u16; 64]>; 4],
    interval: usize,
    /// For each component: its steps since its first scan, in natural order, the coefficients that came, and itself.
    latched: Vec<Option<[u16; 64]>>,
    came: Vec<u64>,
    coefficients: Vec<Vec<Block>>,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8], header: &'a Header, colours: Colours) -> Self {
        let count = header.samples();
        Self {
            bytes,
            header,
            colours,
            tables: Tables::default(),
            steps: [None; 4],
            interval: 0,
            latched: vec![None; count],
            came: vec![0; count],
            coefficients: Vec::new(),
        }
    }

    fn scans(&mut self) -> Result<Vec<u8>, Error> {
        let mut segments = Segments::new(self.bytes, 2);
        let (mut frames, mut ended) = (0, false);
        while let Some(segment) = segments.next() {
            match segment.marker {
                0xc4 => self.tables.define(segment.body)?,
                0xc8 | 0xcc => {}
                0xc0..=0xcf => {
                    frames += 1;
                    if frames > 1 {
                        return Err(Error::Damaged);
                    }
                }
                0xdb => {
                    for (number, steps) in quantisation(segment.body)? {
                        *self.steps.get_mut(number).ok_or(Error::Damaged)? = Some(steps);
                    }
                }
                0xdd => {
                    let interval = be16(segment.body, 0).ok_or(Error::Damaged)?;
                    self.interval = usize::from(interval);
                }
                0xda => {
                    let scan = Scan::read(segment.body, self.header)?;
                    self.latch(&scan)?;
                    let all = scan.parts.len() == self.header.samples();
                    if all && !self.header.progressive && self.coefficients.is_empty() {
                        return self.at_once(&scan, segment.end);
                    }
                    let end = self.keep(&scan, segment.end)?;
                    segments = Segments::new(self.bytes, end);
                }
                // The end, or another picture behind a missing one.
                0xd9 | 0xd8 => {
                    ended = segment.marker == 0xd9;
                    break;
                }
                _ => {}
            }
        }
        // A file that ends in order may leave detail out; one that is cut has brought at least the first bits of all.
        let wanted = if ended { 1 } else { u64::MAX };
        if self.came.iter().any(|came| came & wanted != wanted) {
            return Err(Error::Damaged);
        }
        self.of_coefficients()
    }

    /// Takes each component's steps at its first scan, and notes what the scan brings.
    fn latch(&mut self, scan: &Scan) -> Result<(), Error> {
        for part in &scan.parts {
            let component = self.header.components.get(part.component);
            let latched = self.latched.get_mut(part.component);
            let came = self.came.get_mut(part.component);
            let (Some(component), Some(latched), Some(came)) = (component, latched, came) else {
                return Err(Error::Damaged);
            };
            if latched.is_none() {
                let steps = self.steps.get(component.table).copied().flatten();
                let mut natural = [0; 64];
                for (&at, step) in ZIGZAG.iter().zip(steps.ok_or(Error::Damaged)?) {
                    *natural.get_mut(usize::from(at)).ok_or(Error::Damaged)? = step;
                }
                *latched = Some(natural);
            }
            if !scan.refines {
                *came |= (u64::MAX >> (63 - scan.to)) & (u64::MAX << scan.from);
            }
        }
        Ok(())
    }

    fn reader<'b>(&'b self, scan: &'b Scan, at: usize) -> Reader<'b> {
        let bits = Bits::new(self.bytes, at);
        Reader::new(scan, &self.tables, self.header, bits, self.interval)
    }

    /// One scan that brings everything: its rows become pixels while they are read.
    fn at_once(&self, scan: &Scan, at: usize) -> Result<Vec<u8>, Error> {
        let mut reader = self.reader(scan, at);
        let mut canvas = Canvas::new(self.header, self.colours);
        let (columns, rows) = self.header.units();
        let mut block = [0; 64];
        for row in 0..rows {
            for column in 0..columns {
                reader.unit()?;
                for &part in &scan.parts {
                    let at = part.component;
                    let component = self.header.components.get(at).ok_or(Error::Damaged)?;
                    let steps = self.latched.get(at).and_then(Option::as_ref);
                    let steps = steps.ok_or(Error::Damaged)?;
                    for y in 0..component.v {
                        for x in 0..component.h {
                            block.fill(0);
                            reader.block(part, &mut block)?;
                            let place = (column * component.h + x, row * component.v + y);
                            canvas.put(at, place, &idct::samples(&block, steps));
                        }
                    }
                }
            }
            canvas.row_of_units(row);
        }
        reader.end()?;
        Ok(canvas.finish(rows))
    }

    /// One scan of several: what it brings is kept.
    fn keep(&mut self, scan: &Scan, at: usize) -> Result<usize, Error> {
        let (columns, rows) = self.header.units();
        if self.coefficients.is_empty() {
            let components = self.header.components.iter();
            let sizes = components.map(|one| columns * one.h * rows * one.v);
            self.coefficients = sizes.map(|size| vec![[0; 64]; size]).collect();
        }
        let mut coefficients = std::mem::take(&mut self.coefficients);
        let end = self.fill(scan, at, &mut coefficients);
        self.coefficients = coefficients;
        end
    }

    fn fill(&self, scan: &Scan, at: usize, kept: &mut [Vec<Block>]) -> Result<usize, Error> {
        let mut reader = self.reader(scan, at);
        let (columns, rows) = self.header.units();
        if let &[part] = scan.parts.as_slice() {
            // Alone, a component has only the blocks that hold its own samples (A.2.2).
            let component = self.header.components.get(part.component);
            let component = component.ok_or(Error::Damaged)?;
            let (width, height) = self.header.size_of(component);
            let stride = columns * component.h;
            let blocks = kept.get_mut(part.component).ok_or(Error::Damaged)?;
            for row in blocks.chunks_mut(stride).take(height.div_ceil(8)) {
                for block in row.iter_mut().take(width.div_ceil(8)) {
                    reader.unit()?;
                    reader.block(part, block)?;
                }
            }
            return reader.end();
        }
        for row in 0..rows {
            for column in 0..columns {
                reader.unit()?;
                for &part in &scan.parts {
                    let component = self.header.components.get(part.component);
                    let component = component.ok_or(Error::Damaged)?;
                    let blocks = kept.get_mut(part.component).ok_or(Error::Damaged)?;
                    for y in 0..component.v {
                        let line = (row * component.v + y) * columns * component.h;
                        for x in 0..component.h {
                            let block = blocks.get_mut(line + column * component.h + x);
                            reader.block(part, block.ok_or(Error::Damaged)?)?;
                        }
                    }
                }
            }
        }
        reader.end()
    }

    fn of_coefficients(&self) -> Result<Vec<u8>, Error> {
        let mut canvas = Canvas::new(self.header, self.colours);
        let (columns, rows) = self.header.units();
        for row in 0..rows {
            let all = self.header.components.iter().zip(&self.latched);
            for (at, (component, steps)) in all.enumerate() {
                let steps = steps.as_ref().ok_or(Error::Damaged)?;
                let blocks = self.coefficients.get(at).ok_or(Error::Damaged)?;
                let stride = columns * component.h;
                let lines = blocks.chunks(stride).enumerate();
                for (y, line) in lines.skip(row * component.v).take(component.v) {
                    for (x, block) in line.iter().enumerate() {
                        canvas.put(at, (x, y), &idct::samples(block, steps));
                    }
                }
            }
            canvas.row_of_units(row);
        }
        Ok(canvas.finish(rows))
    }
}

/// Samples of a component, three rows of units at a time: the one that is shown mixes in rows of its neighbours.
struct Plane {
    upsampling: Upsampling,
    stride: usize,
    /// Rows of samples in a row of units.
    rows: usize,
    data: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        let start = y % (self.rows * 3) * self.stride;
        self.data
            .get(start..start + self.stride)
            .unwrap_or_default()
    }
}

struct Canvas {
    width: usize,
    height: usize,
    /// Rows of pixels in a row of units.
    rows: usize,
    colours: Colours,
    planes: Vec<Plane>,
    /// A row of each component, at full width.
    lines: Vec<Vec<u8>>,
    out: Vec<u8>,
}

impl Canvas {
    fn new(header: &Header, colours: Colours) -> Self {
        let (h, v) = header.most();
        let (columns, _) = header.units();
        let plane = |component: &crate::header::Component| {
            let (width, height) = header.size_of(component);
            let (stride, rows) = (columns * component.h * 8, component.v * 8);
            Plane {
                upsampling: Upsampling {
                    wide: h / component.h,
                    high: v / component.v,
                    width,
                    height,
                },
                stride,
                rows,
                data: vec![0; stride * rows * 3],
            }
        };
        let (width, height) = (header.width as usize, header.height as usize);
        Self {
            width,
            height,
            rows: v * 8,
            colours,
            planes: header.components.iter().map(plane).collect(),
            lines: vec![vec![0; columns * h * 8]; header.samples()],
            out: vec![0; width * height * header.samples()],
        }
    }

    /// Puts a block of samples at its place among the component's blocks.
    fn put(&mut self, component: usize, (x, y): (usize, usize), samples: &[[u8; 8]; 8]) {
        let Some(plane) = self.planes.get_mut(component) else {
            return;
        };
        let start = (y * 8 % (plane.rows * 3)) * plane.stride + x * 8;
        let lines = plane
            .data
            .get_mut(start..)
            .unwrap_or_default()
            .chunks_mut(plane.stride);
        for (line, samples) in lines.zip(samples) {
            if let Some(slot) = line.first_chunk_mut::<8>() {
                *slot = *samples;
            }
        }
    }

    /// A row of units is whole: the one above it has all it is made of.
    fn row_of_units(&mut self, row: usize) {
        if let Some(above) = row.checked_sub(1) {
            self.show(above);
        }
    }

    fn finish(mut self, rows: usize) -> Vec<u8> {
        self.row_of_units(rows);
        self.out
    }

    fn show(&mut self, row: usize) {
        let stride = self.width * self.planes.len();
        let from = row * self.rows;
        for y in from..(from + self.rows).min(self.height) {
            for (line, plane) in self.lines.iter_mut().zip(&self.planes) {
                let (near, far) = plane.upsampling.rows(y);
                plane
                    .upsampling
                    .row(y, plane.row(near), plane.row(far), line);
            }
            if let Some(out) = self.out.get_mut(y * stride..(y + 1) * stride) {
                convert(self.colours, &self.lines, out);
            }
        }
    }
}
