//! Some 430 small pictures of every kind, against what libvips and Pillow with LittleCMS make of them: at most 3 levels
//! apart. tests/oracle/generate made them and says which of the two was believed where they disagree.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use origin::upload::{Limits, sanitise};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    name: String,
    oracle: String,
    size: (u32, u32),
    /// Start and length in pictures.bin.
    file: (usize, usize),
    tolerance: u8,
    /// Red, green, blue and opacity of pixels, spread evenly over all of them.
    pixels: String,
}

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle");
    std::fs::read(folder.join(name)).unwrap()
}

/// The first thing wrong with a picture.
fn fault(entry: &Entry, file: &[u8]) -> Option<String> {
    let image = match sanitise(file, &Limits::default()) {
        Ok(image) => image,
        Err(error) => return Some(error.to_string()),
    };
    if (image.width, image.height) != entry.size {
        return Some(format!("{}×{}", image.width, image.height));
    }
    let got = crate::support::pixels(&image);
    let wanted = STANDARD.decode(&entry.pixels).unwrap();
    let (count, last) = (wanted.len() / 4, got.as_raw().len() / 4 - 1);
    let mut worst = (0, String::new());
    for (number, wanted) in wanted.chunks_exact(4).enumerate() {
        // As numpy's linspace and round choose them, to a half.
        let at = number as f64 * last as f64 / (count.max(2) - 1) as f64;
        let at = at.round_ties_even() as u32;
        let seen = got.get_pixel(at % image.width, at / image.width).0;
        for (a, b) in wanted.iter().zip(seen) {
            if a.abs_diff(b) > worst.0 {
                worst = (a.abs_diff(b), format!("{seen:?}, not {wanted:?}, at {at}"));
            }
        }
    }
    (worst.0 > entry.tolerance).then_some(worst.1)
}

#[test]
fn every_kind_of_picture_looks_as_in_libvips_and_pillow() {
    let entries: Vec<Entry> = serde_json::from_slice(&read("pictures.json")).unwrap();
    let files = read("pictures.bin");
    assert!(entries.len() >= 400);
    let mut faults = Vec::new();
    for entry in &entries {
        let (start, length) = entry.file;
        if let Some(fault) = fault(entry, &files[start..start + length]) {
            faults.push(format!("{} ({}): {fault}", entry.name, entry.oracle));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        entries.len(),
        faults.join("\n")
    );
}
