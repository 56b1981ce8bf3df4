//! The size in a JPEG's frame header.

use super::UploadError;

/// Width and height; a kind that is not decoded is refused with its name.
pub fn size(bytes: &[u8]) -> Result<(u32, u32), UploadError> {
    let header = jpeg::header(bytes)?;
    Ok((header.width, header.height))
}

#[cfg(test)]
mod tests {
    use super::super::super::JpegKind;
    use super::*;

    #[test]
    fn the_first_frame_header_tells_the_size() {
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\x02\x03\x04\x03\x01\x22\0\x02\x11\0\x03\x11\0";
        assert_eq!(size(jpeg), Ok((0x0304, 0x0102)));
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
            assert_eq!(size(jpeg), Err(UploadError::Header), "{jpeg:?}");
        }
    }

    #[test]
    fn bytes_that_belong_to_nothing_are_passed_over() {
        let frame = b"\xff\xc0\0\x0b\x08\0\x10\0\x20\x01\x01\x11\0";
        for between in [
            b"".as_slice(),
            b"\0\0",
            b"junk",
            b"\xff\0",
            b"\xff\xff",
            b"\xff\xd0x",
        ] {
            let file = [b"\xff\xd8\xff\xe0\0\x04ab".as_slice(), between, frame].concat();
            assert_eq!(size(&file), Ok((32, 16)), "{between:?}");
        }
    }

    #[test]
    fn kinds_that_are_not_decoded_are_named() {
        let file = |marker: u8, bits: u8| {
            let head = [0xff, 0xd8, 0xff, marker, 0, 11, bits];
            [head.as_slice(), b"\0\x10\0\x10\x01\x01\x11\0"].concat()
        };
        for (marker, bits, kind) in [
            (0xc1, 12, JpegKind::Precision),
            (0xc3, 8, JpegKind::Lossless),
            (0xf7, 8, JpegKind::Lossless),
            (0xc5, 8, JpegKind::Hierarchical),
            (0xc9, 8, JpegKind::Arithmetic),
            (0xca, 8, JpegKind::Arithmetic),
        ] {
            let error = UploadError::UnsupportedJpeg(kind);
            assert_eq!(size(&file(marker, bits)), Err(error));
        }
    }
}
