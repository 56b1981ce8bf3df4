//! The marker segments of a file (T.81, annex B.1), read as libjpeg reads them: bytes between segments that belong to
//! nothing are passed over.

/// A marker and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The second byte of the marker.
    pub marker: u8,
    /// What follows the length; empty where there is none.
    pub body: &'a [u8],
    /// Where the next segment or the entropy-coded data begin, in bytes from the file's start.
    pub end: usize,
}

/// The segments from a place on. Ends with the file; a segment that is cut ends it too.
#[derive(Debug)]
pub struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    /// From `at` bytes on; 2 is behind the start marker.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)?;
            // A marker may be preceded by any number of fill bytes.
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte != 0xff)?;
            let marker = *self.bytes.get(self.at)?;
            self.at += 1;
            let body: &[u8] = match marker {
                // A stuffed byte, TEM and restart markers that stand alone mean nothing here.
                0x00 | 0x01 | 0xd0..=0xd7 => continue,
                0xd8 | 0xd9 => &[],
                _ => {
                    let length = usize::from(be16(self.bytes, self.at)?);
                    let body = self.bytes.get(self.at + 2..self.at + length)?;
                    self.at += length;
                    body
                }
            };
            return Some(Segment {
                marker,
                body,
                end: self.at,
            });
        }
    }
}

/// Two bytes as a number, the more significant first.
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(word.try_into().ok()?))
}
