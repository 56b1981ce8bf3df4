//! Only whole files become pictures, and no bytes at all a panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use jpeg::{Error, decode};
use proptest::prelude::*;

/// One picture: baseline, progressive, with restart markers, with a scan for each component; and one of inks.
const FILES: [(&str, &[u8]); 5] = [
    ("baseline", include_bytes!("inputs/61x47_2x2_b.jpg")),
    ("progressive", include_bytes!("inputs/61x47_2x2_p.jpg")),
    ("restarts", include_bytes!("inputs/61x47_2x2_r.jpg")),
    ("not interleaved", include_bytes!("inputs/61x47_2x2_n.jpg")),
    (
        "inks, progressive",
        include_bytes!("inputs/17x9_cmyk_p.jpg"),
    ),
];

fn verdict(file: &[u8]) -> Result<(), Error> {
    decode(file).map(|_| ())
}

#[test]
fn the_same_coefficients_give_the_same_picture_in_every_process() {
    let wanted = decode(FILES[0].1).unwrap();
    assert_eq!((wanted.width, wanted.height, wanted.samples), (61, 47, 3));
    for (name, file) in &FILES[1..4] {
        assert!(decode(file).unwrap().data == wanted.data, "{name}");
    }
}

#[test]
fn no_cut_file_is_a_picture_unless_only_its_end_or_late_detail_is_lost() {
    for (name, file) in FILES {
        let whole = decode(file).unwrap();
        let mut passed = 0;
        for length in 0..file.len() {
            match decode(&file[..length]) {
                Ok(picture) => {
                    assert_eq!(picture.data.len(), whole.data.len());
                    passed += 1;
                    if !name.contains("progressive") {
                        assert!(
                            picture.data == whole.data && length + 2 >= file.len(),
                            "{name} {length}"
                        );
                    }
                }
                Err(Error::Header | Error::Damaged) => {}
                Err(error) => panic!("{name} {length}: {error:?}"),
            }
        }
        assert!(passed > 0, "{name}: a missing end marker passes");
        // Cut with an end marker behind, as some programs mend a file.
        for length in (file.len() / 2)..(file.len() - 40) {
            let mended = [&file[..length], b"\xff\xd9"].concat();
            if !name.contains("progressive") {
                assert_eq!(verdict(&mended), Err(Error::Damaged), "{name} {length}");
            }
        }
    }
}

#[test]
fn no_file_of_zeros_is_a_picture() {
    for (name, file) in FILES {
        for from in (file.len() / 2)..(file.len() - 40) {
            let mut zeroed = file.to_vec();
            zeroed[from..].fill(0);
            if name.contains("progressive") {
                // The last scans may be lost as a whole.
                let _ = decode(&zeroed);
            } else {
                assert_eq!(verdict(&zeroed), Err(Error::Damaged), "{name} {from}");
            }
        }
    }
}

#[test]
fn a_second_frame_and_a_lying_size_are_damage() {
    let file = FILES[0].1;
    let frame = file.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let mut twice = file.to_vec();
    let header = file[frame..frame + 19].to_vec();
    twice.splice(frame..frame, header);
    assert_eq!(verdict(&twice), Err(Error::Damaged));
    let mut taller = file.to_vec();
    taller[frame + 5] = 4;
    assert_eq!(verdict(&taller), Err(Error::Damaged));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_change_makes_it_panic(
        file in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut file = FILES[file].1.to_vec();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if is_cut {
            file.truncate(length.index(file.len()));
        }
        // A size that was changed may be large: what it costs is its reader's matter.
        if let Ok(header) = jpeg::header(&file)
            && u64::from(header.width) * u64::from(header.height) < 1 << 20
            && let Ok(picture) = decode(&file)
        {
            prop_assert_eq!(
                picture.data.len(),
                picture.width as usize * picture.height as usize * picture.samples
            );
        }
    }
}
