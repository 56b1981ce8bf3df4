//! The size in a JPEG's frame header.

use super::be16;

/// Walks the segments up to the first frame header.
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        if bytes.get(at) != Some(&0xff) {
            return None;
        }
        let marker = *bytes.get(at + 1)?;
        match marker {
            // A marker may be preceded by any number of fill bytes.
            0xff => at += 1,
            // Frame headers; C4, C8 and CC are other things.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((be16(bytes, at + 7)?, be16(bytes, at + 5)?));
            }
            // No length follows these: restart markers and TEM.
            0xd0..=0xd7 | 0x01 => at += 2,
            // A second start, the end, or pixels before any frame header.
            0xd8..=0xda | 0x00 => return None,
            _ => {
                let length = be16(bytes, at + 2)? as usize;
                if length < 2 {
                    return None;
                }
                at += 2 + length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn the_first_frame_header_tells_the_size() {
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\x02\x03\x04\x03";
        assert_eq!(size(jpeg), Some((0x0304, 0x0102)));
    }

    #[test]
    fn a_chain_of_segments_that_ends_early_has_no_size() {
        for jpeg in [
            b"\xff\xd8\xff".as_slice(),
            b"\xff\xd8\xff\xe0\0\x01",
            b"\xff\xd8\xff\xe0\xff\xff",
            b"\xff\xd8\xff\xda\0\x02",
            b"\xff\xd8\xff\xd9",
            b"\xff\xd8\xff\xe0\0\x02x",
        ] {
            assert_eq!(size(jpeg), None, "{jpeg:?}");
        }
    }
}
