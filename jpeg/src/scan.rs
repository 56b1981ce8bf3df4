//! One scan (T.81, B.2.3, F.2 and G.2): which coefficients it brings, and reading them.

use crate::Error;
use crate::entropy::{Bits, Tables};
use crate::header::Header;

/// Where the coefficient of each place in zigzag order stands in a block.
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Coefficients of a block in natural order.
pub type Block = [i16; 64];

/// A component's part in a scan.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its place in the frame.
    pub component: usize,
    dc: u8,
    ac: u8,
}

/// A scan header.
#[derive(Debug)]
pub struct Scan {
    /// Its components.
    pub parts: Vec<Part>,
    /// First and last coefficient, in zigzag order.
    pub from: usize,
    pub to: usize,
    /// Whether it refines what an earlier scan brought.
    pub refines: bool,
    /// The bit that it brings.
    bit: u32,
}

impl Scan {
    /// Reads a scan header.
    pub fn read(body: &[u8], header: &Header) -> Result<Self, Error> {
        let (&count, rest) = body.split_first().ok_or(Error::Damaged)?;
        let (names, rest) = rest
            .split_at_checked(usize::from(count) * 2)
            .ok_or(Error::Damaged)?;
        let mut parts: Vec<Part> = Vec::new();
        for &[id, tables] in names.as_chunks::<2>().0 {
            // A component that shares its name with another is the first that the scan has not named yet.
            let mut all = header.components.iter().enumerate();
            let free = |at: usize| parts.iter().all(|part| part.component != at);
            let (component, _) = all
                .find(|&(at, one)| one.id == id && free(at))
                .ok_or(Error::Damaged)?;
            parts.push(Part {
                component,
                dc: tables >> 4,
                ac: tables & 15,
            });
        }
        let &[from, to, bits, ..] = rest else {
            return Err(Error::Damaged);
        };
        let scan = if header.progressive {
            Self {
                parts,
                from: usize::from(from),
                to: usize::from(to),
                refines: bits >> 4 != 0,
                bit: u32::from(bits & 15),
            }
        } else {
            Self {
                parts,
                from: 0,
                to: 63,
                refines: false,
                bit: 0,
            }
        };
        let range = scan.from <= scan.to && scan.to < 64 && scan.bit < 14;
        let kind = !header.progressive
            || (scan.from == 0 && scan.to == 0)
            || (scan.from > 0 && scan.parts.len() == 1);
        if scan.parts.is_empty() || !range || !kind {
            return Err(Error::Damaged);
        }
        Ok(scan)
    }
}

/// What decoding a scan remembers from block to block.
#[derive(Debug)]
pub struct Reader<'a> {
    scan: &'a Scan,
    tables: &'a Tables,
    progressive: bool,
    bits: Bits<'a>,
    /// Units between restart markers; 0 for none.
    interval: usize,
    left: usize,
    next: u8,
    last_dc: [i32; 4],
    /// Blocks that have nothing more in this band.
    run: u32,
}

impl<'a> Reader<'a> {
    /// From the first byte of the scan's data on.
    pub fn new(
        scan: &'a Scan,
        tables: &'a Tables,
        header: &Header,
        bits: Bits<'a>,
        interval: usize,
    ) -> Self {
        Self {
            scan,
            tables,
            progressive: header.progressive,
            bits,
            interval,
            left: interval,
            next: 0,
            last_dc: [0; 4],
            run: 0,
        }
    }

    /// Begins a unit: passes a restart marker where one is due.
    pub fn unit(&mut self) -> Result<(), Error> {
        if self.interval == 0 {
            return Ok(());
        }
        if self.left == 0 {
            self.bits.restart(self.next)?;
            self.next = (self.next + 1) % 8;
            self.left = self.interval;
            self.last_dc = [0; 4];
            self.run = 0;
        }
        self.left -= 1;
        Ok(())
    }

    /// Ends the scan: where the next segment begins.
    pub fn end(mut self) -> Result<usize, Error> {
        self.bits.end()
    }

    /// Reads what the scan brings for one block.
    pub fn block(&mut self, part: Part, block: &mut Block) -> Result<(), Error> {
        if !self.progressive {
            self.dc(part, block)?;
            return self.ac(part, block);
        }
        match (self.scan.from, self.scan.refines) {
            (0, false) => self.dc(part, block),
            (0, true) => {
                if self.bits.take(1)? == 1 {
                    block[0] |= 1 << self.scan.bit;
                }
                Ok(())
            }
            (_, false) => self.band(part, block),
            (_, true) => self.refine(part, block),
        }
    }

    fn dc(&mut self, part: Part, block: &mut Block) -> Result<(), Error> {
        let count = u32::from(self.bits.symbol(self.tables.dc(part.dc)?)?);
        if count > 15 {
            return Err(Error::Damaged);
        }
        let difference = self.bits.signed(count)?;
        let last = self.last_dc.get_mut(part.component).ok_or(Error::Damaged)?;
        *last = last.wrapping_add(difference);
        block[0] = (*last << self.scan.bit) as i16;
        Ok(())
    }

    fn ac(&mut self, part: Part, block: &mut Block) -> Result<(), Error> {
        let table = self.tables.ac(part.ac)?;
        let mut place = 1;
        while place < 64 {
            let symbol = self.bits.symbol(table)?;
            let (zeros, count) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if count == 0 {
                if zeros < 15 {
                    break;
                }
                place += 16;
                continue;
            }
            place += zeros;
            let value = self.bits.signed(count)?;
            *coefficient(block, place)? = value as i16;
            place += 1;
        }
        Ok(())
    }

    fn band(&mut self, part: Part, block: &mut Block) -> Result<(), Error> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let table = self.tables.ac(part.ac)?;
        let mut place = self.scan.from;
        while place <= self.scan.to {
            let symbol = self.bits.symbol(table)?;
            let (zeros, count) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if count == 0 {
                if zeros < 15 {
                    self.run = (1 << zeros) + self.bits.take(zeros)? - 1;
                    break;
                }
                place += 16;
                continue;
            }
            place += zeros as usize;
            let value = self.bits.signed(count)?;
            *coefficient(block, place)? = (value << self.scan.bit) as i16;
            place += 1;
        }
        Ok(())
    }

    /// G.1.2.3: each coefficient that has a value gets a bit; between them, new ones come with a sign.
    fn refine(&mut self, part: Part, block: &mut Block) -> Result<(), Error> {
        let one = 1_i16 << self.scan.bit;
        let mut place = self.scan.from;
        if self.run == 0 {
            let table = self.tables.ac(part.ac)?;
            while place <= self.scan.to {
                let symbol = self.bits.symbol(table)?;
                let (mut zeros, count) = (u32::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                if count == 0 {
                    if zeros < 15 {
                        self.run = (1 << zeros) + self.bits.take(zeros)?;
                        break;
                    }
                } else if count == 1 {
                    new = if self.bits.take(1)? == 1 { one } else { -one };
                } else {
                    return Err(Error::Damaged);
                }
                while place <= self.scan.to {
                    let value = coefficient(block, place)?;
                    if *value != 0 {
                        correct(&mut self.bits, value, one)?;
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    place += 1;
                }
                if new != 0 {
                    if place > self.scan.to {
                        return Err(Error::Damaged);
                    }
                    *coefficient(block, place)? = new;
                }
                place += 1;
            }
        }
        if self.run > 0 {
            for place in place..=self.scan.to {
                let value = coefficient(block, place)?;
                if *value != 0 {
                    correct(&mut self.bits, value, one)?;
                }
            }
            self.run -= 1;
        }
        Ok(())
    }
}

#[inline]
fn correct(bits: &mut Bits<'_>, value: &mut i16, one: i16) -> Result<(), Error> {
    if bits.take(1)? == 1 && *value & one == 0 {
        *value = value.wrapping_add(if *value < 0 { -one } else { one });
    }
    Ok(())
}

#[inline]
fn coefficient(block: &mut Block, place: usize) -> Result<&mut i16, Error> {
    let at = ZIGZAG.get(place).ok_or(Error::Damaged)?;
    block.get_mut(usize::from(*at)).ok_or(Error::Damaged)
}
