//! What a JPEG asks of its decoder, from its markers alone: how many coefficients it must hold at once, and how often it
//! goes over them.
//!
//! A scan of a progressive file may say "nothing new" of 32,767 blocks in three bytes (ITU-T T.81, G.1.2.2, EOBn), so the
//! size of a file says little about the work in it.

use memchr::memchr;

use super::UploadError;

/// Most scans of a file. libjpeg writes 10 for a picture in colour and 18 for four inks.
pub const MOST: u32 = 32;

/// Bytes of one block of 8×8 coefficients.
const BLOCK: u64 = 64 * 2;

const END: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scans {
    /// Components of the frame; 0 when there is none that can be read.
    pub components: u64,
    /// Bytes of all coefficients; 0 where each row is finished as it is read.
    pub held: u64,
    /// How often the scans go over the whole picture, in thousandths; 0 where they do so once, row by row.
    pub passes: u64,
}

#[derive(Debug)]
struct Component {
    id: u8,
    blocks: u64,
}

#[derive(Debug)]
struct Frame {
    progressive: bool,
    components: Vec<Component>,
}

/// Reads the markers up to the end of the picture. What cannot be read is left to the decoder, which refuses it.
///
/// # Errors
/// [`UploadError::TooManyScans`].
pub fn read(bytes: &[u8]) -> Result<Scans, UploadError> {
    let mut frame: Option<Frame> = None;
    let (mut count, mut first, mut visited) = (0, 0, 0);
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some((marker, after)) = next_marker(rest) {
        rest = after;
        if marker == END {
            break;
        }
        // No length that fits: what follows is looked at all the same.
        let Some((segment, after)) = segment(marker, rest) else {
            continue;
        };
        rest = after;
        match (marker, &frame) {
            (START_OF_SCAN, Some(frame)) => {
                count += 1;
                if count > MOST {
                    return Err(UploadError::TooManyScans { limit: MOST });
                }
                let listed = frame.listed(segment);
                visited += listed.clone().sum::<u64>();
                if count == 1 {
                    first = listed.count();
                }
            }
            (_, None) => frame = Frame::read(marker, segment),
            _ => {}
        }
    }
    let Some(frame) = frame else {
        return Ok(Scans::default());
    };
    let mut found = Scans {
        components: frame.components.len() as u64,
        ..Scans::default()
    };
    if frame.progressive || first < frame.components.len() {
        let blocks: u64 = frame.components.iter().map(|one| one.blocks).sum();
        found.held = blocks * BLOCK;
        found.passes = visited * 1_000 / blocks.max(1);
    }
    Ok(found)
}

/// The next marker that is neither stuffing, fill nor a restart, and what follows it.
fn next_marker(mut bytes: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let at = memchr(0xff, bytes)?;
        let marker = *bytes.get(at + 1)?;
        let skip = if marker == 0xff { 1 } else { 2 };
        bytes = bytes.get(at + skip..)?;
        if !matches!(marker, 0 | 0xff | 0xd0..=0xd8) {
            return Some((marker, bytes));
        }
    }
}

/// A marker's segment without its length, and what follows. Markers that T.81 reserves have none.
fn segment(marker: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).checked_sub(2)?;
    (marker >= 0xc0).then(|| rest.split_at_checked(length))?
}

impl Frame {
    /// A frame header: C4, C8 and CC are other things.
    fn read(marker: u8, segment: &[u8]) -> Option<Self> {
        if !matches!(marker, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) {
            return None;
        }
        let &[_, h1, h0, w1, w0, count, ref listed @ ..] = segment else {
            return None;
        };
        let side = |high, low| u64::from(u16::from_be_bytes([high, low]));
        let (width, height) = (side(w1, w0), side(h1, h0));
        // Identifier, sampling factors across and down, table.
        let listed: Vec<[u8; 3]> = listed
            .as_chunks::<3>()
            .0
            .iter()
            .take(usize::from(count))
            .copied()
            .collect();
        let across = |factors: u8| u64::from(factors >> 4).clamp(1, 4);
        let down = |factors: u8| u64::from(factors & 15).clamp(1, 4);
        let most = |of: fn(u8) -> u64| listed.iter().map(|&[_, f, _]| of(f)).max().unwrap_or(1);
        let columns = width.div_ceil(8 * most(across));
        let rows = height.div_ceil(8 * most(down));
        Some(Self {
            progressive: matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce),
            components: listed
                .iter()
                .map(|&[id, factors, _]| Component {
                    id,
                    blocks: columns * across(factors) * rows * down(factors),
                })
                .collect(),
        })
    }

    /// Blocks of each component that a scan lists.
    fn listed<'a>(&'a self, scan: &'a [u8]) -> impl Iterator<Item = u64> + Clone + 'a {
        let count = scan.first().map_or(0, |&count| usize::from(count));
        let ids = scan.get(1..).unwrap_or_default().as_chunks::<2>().0.iter();
        ids.take(count).filter_map(|[id, _]| {
            let mut all = self.components.iter();
            all.find(|one| one.id == *id).map(|one| one.blocks)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(marker: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker], length.as_slice(), body].concat()
    }

    /// 512×256, luma with twice as many samples across and down as the others.
    fn file(marker: u8, scans: &[&[u8]]) -> Vec<u8> {
        let frame = [8, 1, 0, 2, 0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1];
        let mut file = [b"\xff\xd8".to_vec(), part(marker, &frame)].concat();
        for ids in scans {
            let listed: Vec<u8> = ids.iter().flat_map(|&id| [id, 0]).collect();
            let head = [
                &[u8::try_from(ids.len()).unwrap()],
                &listed[..],
                &[0, 63, 0],
            ]
            .concat();
            file.extend(part(START_OF_SCAN, &head));
            // Data with a stuffed byte and a restart marker in it.
            file.extend(b"\x12\xff\0\x34\xff\xd0\x56");
        }
        [file, b"\xff\xd9".to_vec()].concat()
    }

    #[test]
    fn a_file_of_one_interleaved_scan_holds_nothing() {
        let found = read(&file(0xc0, &[&[1, 2, 3]])).unwrap();
        assert_eq!((found.components, found.held, found.passes), (3, 0, 0));
    }

    #[test]
    fn a_progressive_file_holds_all_coefficients_and_counts_its_passes() {
        // Everything once, luma again, one of the others again: 6, 4 and 1 parts of 6.
        let found = read(&file(0xc2, &[&[1, 2, 3], &[1], &[3]])).unwrap();
        assert_eq!(found.held, 512 * 256 * 3 / 2 * 2);
        assert_eq!(found.passes, 11_000 / 6);
    }

    #[test]
    fn a_baseline_file_of_several_scans_holds_all_coefficients() {
        let found = read(&file(0xc0, &[&[1], &[2], &[3]])).unwrap();
        assert_eq!((found.held, found.passes), (512 * 256 * 3, 1_000));
    }

    #[test]
    fn more_scans_than_any_encoder_writes_are_refused() {
        let most: Vec<&[u8]> = vec![&[1]; MOST as usize];
        assert!(read(&file(0xc2, &most)).is_ok());
        let over = [most, vec![&[1]]].concat();
        let refused = read(&file(0xc2, &over)).unwrap_err();
        assert_eq!(refused.code(), "too_many_scans");
    }

    #[test]
    fn nothing_hides_a_scan() {
        // Reserved markers, fill bytes, a length that cannot be, an end inside a segment.
        let hidden = |between: &[u8]| {
            let mut file = file(0xc2, &[&[1]]);
            file.truncate(file.len() - 2);
            for _ in 0..MOST {
                file.extend_from_slice(between);
                file.extend(part(START_OF_SCAN, &[1, 1, 0, 0, 63, 0]));
            }
            read(&file)
        };
        for between in [
            b"".as_slice(),
            b"\xff\x02\xff\xff",
            b"\xff\xff\xff",
            b"\xff\xe1\0\x01",
            b"\xff\xfe\0\x04\xff\xd9",
            b"junk",
        ] {
            assert!(hidden(between).is_err(), "{between:?}");
        }
        // What follows the end is another file's.
        assert!(hidden(b"\xff\xd9").is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic(
            bytes in prop::collection::vec(
                prop::sample::select(vec![0xff, 0xd8, 0xda, 0xc2, 0xc0, 0xd9, 0, 1, 2, 3, 17, 34, 8]), 0..200
            ),
        ) {
            if let Ok(found) = read(&bytes) {
                prop_assert!(found.passes <= u64::from(MOST) * 256_000);
            }
        }
    }
}
