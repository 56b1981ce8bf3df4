//! Bits and Huffman codes (T.81, annexes C and F.2.2) up to the next marker, and never past it.

use crate::Error;
use crate::segments::be16;

/// Codes up to this length are looked up at once.
const QUICK: u32 = 9;

/// A Huffman table, ready for decoding.
#[derive(Debug, Clone)]
pub struct Table {
    /// Length and value of the code that the next bits begin with; length 0 where it is longer.
    quick: Vec<(u8, u8)>,
    /// For each length: the first code beyond it, aligned to 16 bits, and what to add to a code for its value's place.
    longer: [(u32, i32); 17],
    values: Vec<u8>,
}

impl Table {
    /// Reads one table from a DHT segment's body: its class and number, itself, and what follows.
    pub fn read(body: &[u8]) -> Option<(u8, Self, &[u8])> {
        let (&name, rest) = body.split_first()?;
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        if total > 256 {
            return None;
        }
        let (values, rest) = rest.split_at_checked(total)?;
        let mut quick = vec![(0, 0); 1 << QUICK];
        let mut longer = [(0, 0); 17];
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            let slot = longer.get_mut(length as usize)?;
            let first = i32::try_from(place).ok()? - i32::try_from(code).ok()?;
            for _ in 0..count {
                if code >= 1 << length {
                    return None;
                }
                if length <= QUICK {
                    let entry = (u8::try_from(length).ok()?, *values.get(place)?);
                    let start = (code << (QUICK - length)) as usize;
                    let span = 1_usize << (QUICK - length);
                    quick.get_mut(start..start + span)?.fill(entry);
                }
                code += 1;
                place += 1;
            }
            *slot = (code << (16 - length), first);
            code <<= 1;
        }
        let table = Self {
            quick,
            longer,
            values: values.to_vec(),
        };
        Some((name, table, rest))
    }
}

/// The tables in force: for DC and for AC, four each.
#[derive(Debug, Default)]
pub struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

impl Tables {
    /// Takes over a DHT segment.
    pub fn define(&mut self, mut body: &[u8]) -> Result<(), Error> {
        while !body.is_empty() {
            let (name, table, rest) = Table::read(body).ok_or(Error::Damaged)?;
            let class = match name >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(Error::Damaged),
            };
            let slot = class.get_mut(usize::from(name & 15));
            *slot.ok_or(Error::Damaged)? = Some(table);
            body = rest;
        }
        Ok(())
    }

    /// The DC table of this number.
    pub fn dc(&self, number: u8) -> Result<&Table, Error> {
        let slot = self.dc.get(usize::from(number));
        slot.and_then(Option::as_ref).ok_or(Error::Damaged)
    }

    /// The AC table of this number.
    pub fn ac(&self, number: u8) -> Result<&Table, Error> {
        let slot = self.ac.get(usize::from(number));
        slot.and_then(Option::as_ref).ok_or(Error::Damaged)
    }
}

/// The bits of entropy-coded data.
#[derive(Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to take.
    at: usize,
    /// Bits taken and not yet used, at the top.
    word: u64,
    held: u32,
}

impl<'a> Bits<'a> {
    /// From `at` bytes on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            word: 0,
            held: 0,
        }
    }

    #[inline]
    fn fill(&mut self) {
        // Four bytes without 0xff at once, as most are.
        if let Some(next) = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<8>())
            && self.held <= 32
        {
            let next = (u64::from_be_bytes(*next) >> 32) as u32;
            // No byte of the four is 0xff: none of their complements is zero.
            if (!next).wrapping_sub(0x0101_0101) & next & 0x8080_8080 == 0 {
                self.word |= u64::from(next) << (32 - self.held);
                self.held += 32;
                self.at += 4;
                return;
            }
        }
        while self.held <= 56 {
            let Some(byte) = self.byte() else { return };
            self.word |= u64::from(byte) << (56 - self.held);
            self.held += 8;
        }
    }

    /// The next byte of data; none at a marker or the file's end.
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        if byte != 0xff {
            self.at += 1;
            return Some(byte);
        }
        let rest = self.bytes.get(self.at..)?;
        // Fill bytes count for nothing, before a marker as before a stuffed zero.
        let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
        if rest.get(fill) == Some(&0) {
            self.at += fill + 1;
            Some(0xff)
        } else {
            None
        }
    }

    /// So many bits as a number, at most 16.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the data end before them.
    #[inline]
    pub fn take(&mut self, count: u32) -> Result<u32, Error> {
        if self.held < count {
            self.fill();
            if self.held < count {
                return Err(Error::Damaged);
            }
        }
        if count == 0 {
            return Ok(0);
        }
        let value = (self.word >> (64 - count)) as u32;
        self.word <<= count;
        self.held -= count;
        Ok(value)
    }

    /// The value of the next code.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the data end within it or no code begins so.
    #[inline]
    pub fn symbol(&mut self, table: &Table) -> Result<u8, Error> {
        if self.held < 16 {
            self.fill();
        }
        let ahead = (self.word >> 48) as u32;
        let quick = table.quick.get((ahead >> (16 - QUICK)) as usize);
        let (length, value) = match quick {
            Some(&(length, value)) if length > 0 => (u32::from(length), value),
            _ => longer(table, ahead).ok_or(Error::Damaged)?,
        };
        if length > self.held {
            return Err(Error::Damaged);
        }
        self.word <<= length;
        self.held -= length;
        Ok(value)
    }

    /// A number of so many bits, of which the upper half is positive (F.2.2.1).
    #[inline]
    pub fn signed(&mut self, count: u32) -> Result<i32, Error> {
        let value = self.take(count)? as i32;
        Ok(if count > 0 && value < 1 << (count - 1) {
            value - (1 << count) + 1
        } else {
            value
        })
    }

    /// Ends an interval: where its marker stands, when little enough lies between. Whole bytes that nothing asked for
    /// mean that blocks were lost, so only a few of them pass, which some encoders pad with.
    ///
    /// # Errors
    /// [`Error::Damaged`] where more is left over.
    pub fn end(&mut self) -> Result<usize, Error> {
        const SLACK: usize = 64;
        let mut left = (self.held / 8) as usize;
        while self.byte().is_some() {
            left += 1;
        }
        // At the file's end nothing says that these bytes were the last: they may be zeros over what was there.
        let is_open = self.at >= self.bytes.len();
        let slack = if is_open { 1 } else { SLACK };
        if is_open && self.bytes.ends_with(&[0; 8]) {
            return Err(Error::Damaged);
        }
        if left > slack {
            return Err(Error::Damaged);
        }
        (self.word, self.held) = (0, 0);
        Ok(self.at)
    }

    /// Ends an interval with the restart marker of this number, and begins the next.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the marker is another or too far away.
    pub fn restart(&mut self, number: u8) -> Result<(), Error> {
        let at = self.end()?;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
        if fill == 0 || rest.get(fill) != Some(&(0xd0 + number)) {
            return Err(Error::Damaged);
        }
        self.at = at + fill + 1;
        Ok(())
    }
}

#[cold]
fn longer(table: &Table, ahead: u32) -> Option<(u32, u8)> {
    let codes = (0_u32..).zip(&table.longer).skip(QUICK as usize + 1);
    let (length, &(_, add)) = codes.into_iter().find(|(_, (beyond, _))| ahead < *beyond)?;
    let place = i32::try_from(ahead >> (16 - length)).ok()? + add;
    let value = *table.values.get(usize::try_from(place).ok()?)?;
    Some((length, value))
}

/// A DQT segment's tables: number and 64 steps in zigzag order.
pub fn quantisation(mut body: &[u8]) -> Result<Vec<(usize, [u16; 64])>, Error> {
    let mut found = Vec::new();
    while let Some((&name, rest)) = body.split_first() {
        let wide = name >> 4 != 0;
        let mut steps = [0; 64];
        let (bytes, rest) = rest
            .split_at_checked(if wide { 128 } else { 64 })
            .ok_or(Error::Damaged)?;
        for (place, step) in steps.iter_mut().enumerate() {
            let read = if wide {
                be16(bytes, place * 2)
            } else {
                bytes.get(place).map(|&byte| u16::from(byte))
            };
            *step = read.ok_or(Error::Damaged)?;
        }
        found.push((usize::from(name & 15), steps));
        body = rest;
    }
    Ok(found)
}
