//! The one thing wanted of an EXIF block: which way up the picture is.

use image::metadata::Orientation;

/// The orientation tag of the first directory (CIPA DC-008, 4.6.5: tag 0x0112). Written as SHORT, as the standard asks,
/// or as BYTE or LONG, as some programs do; the block begins with its TIFF header, or with `Exif` and two zeros before
/// it, as in JPEG.
pub fn orientation(block: &[u8]) -> Orientation {
    read(block).unwrap_or(Orientation::NoTransforms)
}

fn read(block: &[u8]) -> Option<Orientation> {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let count = usize::from(short(directory)?);
    let entries = (0..count).map(|number| directory.checked_add(2 + number * 12));
    for entry in entries {
        let entry = entry?;
        if short(entry)? != 0x0112 {
            continue;
        }
        let value = match short(entry + 2)? {
            1 => u32::from(*tiff.get(entry + 8)?),
            3 => u32::from(short(entry + 8)?),
            4 => long(entry + 8)?,
            _ => return None,
        };
        return Orientation::from_exif(u8::try_from(value).ok()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(little: bool, kind: u16, value: u32) -> Vec<u8> {
        let short = |value: u16| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let long = |value: u32| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let mut tiff = if little { b"II*\0" } else { b"MM\0*" }.to_vec();
        tiff.extend(long(8));
        tiff.extend(short(2));
        tiff.extend([short(0x010f), short(2)].concat());
        tiff.extend([long(1), [b'x', 0, 0, 0]].concat());
        tiff.extend([short(0x0112), short(kind)].concat());
        tiff.extend(long(1));
        match kind {
            1 => tiff.extend([value as u8, 0, 0, 0]),
            3 => tiff.extend([short(value as u16), [0, 0]].concat()),
            _ => tiff.extend(long(value)),
        }
        tiff
    }

    #[test]
    fn the_tag_is_read_in_every_order_and_type_with_and_without_a_prefix() {
        for little in [true, false] {
            for kind in [1, 3, 4] {
                for value in 1..=8 {
                    let bare = block(little, kind, value);
                    let wanted = Orientation::from_exif(value as u8).unwrap();
                    assert_eq!(orientation(&bare), wanted, "{little} {kind} {value}");
                    let with = [b"Exif\0\0".as_slice(), &bare].concat();
                    assert_eq!(orientation(&with), wanted);
                }
            }
        }
    }

    #[test]
    fn what_is_no_orientation_turns_nothing() {
        for (kind, value) in [(3, 0), (3, 9), (4, 65_537), (5, 6), (2, 6)] {
            let block = block(true, kind, value);
            assert_eq!(
                orientation(&block),
                Orientation::NoTransforms,
                "{kind} {value}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in prop::sample::select(vec![
            b"".to_vec(), b"II*\0".to_vec(), b"MM\0*\0\0\0\x08".to_vec(), b"Exif\0\0II*\0\xff\xff\xff\xff".to_vec(),
        ]), rest in prop::collection::vec(any::<u8>(), 0..80)) {
            orientation(&[start, rest].concat());
        }
    }
}
