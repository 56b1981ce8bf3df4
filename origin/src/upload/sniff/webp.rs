//! The size in a WebP's first chunk: lossy, lossless or extended.

use super::le16;

/// Width and height of the canvas.
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let chunk = bytes.get(20..)?;
    match bytes.get(12..16)? {
        b"VP8 " if chunk.get(3..6)? == [0x9d, 0x01, 0x2a] => {
            Some((le16(chunk, 6)? & 0x3fff, le16(chunk, 8)? & 0x3fff))
        }
        b"VP8L" if *chunk.first()? == 0x2f => {
            let bits = le16(chunk, 1)? | le16(chunk, 3)? << 16;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((le24(chunk, 4)? + 1, le24(chunk, 7)? + 1)),
        _ => None,
    }
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    Some(le16(bytes, at)? | u32::from(*bytes.get(at + 2)?) << 16)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn all_three_kinds_tell_their_size() {
        let file =
            |kind: &[u8], chunk: &[u8]| [b"RIFF\0\0\0\0WEBP", kind, b"\0\0\0\0", chunk].concat();
        let lossy = file(b"VP8 ", b"\0\0\0\x9d\x01\x2a\x10\x00\x20\x40");
        assert_eq!(size(&lossy), Some((16, 32)));
        let lossless = file(b"VP8L", b"\x2f\xff\xc1\x07\x00");
        assert_eq!(size(&lossless), Some((512, 32)));
        let extended = file(b"VP8X", b"\0\0\0\0\xff\x01\x00\x0f\x00\x00");
        assert_eq!(size(&extended), Some((512, 16)));
    }
}
