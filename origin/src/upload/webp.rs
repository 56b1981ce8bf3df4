//! WebP files whose first chunk says of the others what is not so. Other programs go by the chunks that are there; our
//! decoder believes the first, so it is given one that is right.

use std::borrow::Cow;

const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;
const ANIMATION: u8 = 0x02;

/// The file with flags for what it holds; the same bytes where they are right already, as nearly always.
pub fn with_true_flags(bytes: &[u8]) -> Cow<'_, [u8]> {
    match true_flags(bytes) {
        Some(flags) if bytes.get(20) != Some(&flags) => {
            let mut file = bytes.to_vec();
            if let Some(slot) = file.get_mut(20) {
                *slot = flags;
            }
            Cow::Owned(file)
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// The flags that the chunks of an extended file would have (WebP Container Specification, "Extended File Format").
fn true_flags(bytes: &[u8]) -> Option<u8> {
    if bytes.get(12..16)? != b"VP8X" {
        return None;
    }
    let mut flags = *bytes.get(20)?;
    let (mut at, mut exif, mut xmp, mut alpha, mut lossless) =
        (30_usize, false, false, false, None);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, size @ ..] = *head;
        let size = usize::try_from(u32::from_le_bytes(size)).ok()?;
        match &[a, b, c, d] {
            b"EXIF" => exif = true,
            b"XMP " => xmp = true,
            b"ALPH" => alpha = true,
            // The 28th bit of the header says whether there is opacity (WebP Lossless, "RIFF Header").
            b"VP8L" => lossless = bytes.get(at + 12).map(|byte| byte & 0x10 != 0),
            _ => {}
        }
        // Chunks are padded to whole words.
        at = at
            .checked_add(8)?
            .checked_add(size)?
            .checked_add(size & 1)?;
    }
    for (bit, is_there) in [(EXIF, exif), (XMP, xmp)] {
        if !is_there {
            flags &= !bit;
        }
    }
    // In an animation opacity is a matter of frames.
    if flags & ANIMATION == 0 {
        flags &= !ALPHA;
        if lossless.unwrap_or(alpha) {
            flags |= ALPHA;
        }
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(flags: u8, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0".to_vec();
        file.extend([flags, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        for (name, data) in chunks {
            file.extend_from_slice(*name);
            file.extend((data.len() as u32).to_le_bytes());
            file.extend_from_slice(data);
            file.resize(file.len() + data.len() % 2, 0);
        }
        file
    }

    #[test]
    fn flags_follow_the_chunks() {
        let lossy = (b"VP8 ", b"xyz".as_slice());
        let clear = (b"VP8L", b"\x2f\0\0\0\x10".as_slice());
        let solid = (b"VP8L", b"\x2f\0\0\0\x00".as_slice());
        let (alpha, exif) = ((b"ALPH", b"a".as_slice()), (b"EXIF", b"e".as_slice()));
        for (flags, chunks, wanted) in [
            (ALPHA, vec![lossy], 0),
            (ALPHA | EXIF | XMP, vec![lossy], 0),
            (ALPHA | EXIF, vec![alpha, lossy, exif], ALPHA | EXIF),
            (0, vec![alpha, lossy], ALPHA),
            (0, vec![clear], ALPHA),
            (ALPHA, vec![solid], 0),
            (ALPHA | ANIMATION, vec![], ALPHA | ANIMATION),
        ] {
            let file = file(flags, &chunks);
            assert_eq!(with_true_flags(&file).get(20), Some(&wanted), "{chunks:?}");
        }
        assert!(matches!(
            with_true_flags(&file(ALPHA, &[alpha, lossy])),
            Cow::Borrowed(_)
        ));
        assert!(matches!(
            with_true_flags(b"RIFF\0\0\0\0WEBPVP8 xx"),
            Cow::Borrowed(_)
        ));
    }

    proptest! {
        #[test]
        fn nothing_but_the_flags_changes(rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0".as_slice(), &rest].concat();
            let file = with_true_flags(&bytes);
            prop_assert_eq!(file.len(), bytes.len());
            for (at, (a, b)) in file.iter().zip(&bytes).enumerate() {
                prop_assert!(a == b || at == 20);
            }
        }
    }
}
