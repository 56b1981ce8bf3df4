//! Files as people really send them, each reported to another project, and what must come of it.

use std::path::PathBuf;

use origin::upload::{Stored, UploadError, Wanted};
use serde::Deserialize;

use crate::support::{pixels, sanitise, uploads};

#[derive(Deserialize)]
struct Case {
    file: String,
    why: String,
    status: u16,
    code: Option<String>,
    size: Option<(u32, u32)>,
    #[serde(default)]
    pixels: Vec<Vec<u32>>,
    #[serde(default)]
    tolerance: u8,
}

pub fn case(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/upload/cases");
    std::fs::read(folder.join(name)).unwrap()
}

#[tokio::test]
async fn every_file_that_people_reported_comes_out_right() {
    let cases: Vec<Case> = serde_json::from_slice(&case("expect.json")).unwrap();
    assert!(cases.len() >= 15);
    for Case {
        file,
        why,
        status,
        code,
        size,
        pixels: wanted,
        tolerance,
    } in cases
    {
        if file.ends_with(".body") {
            // receive.rs sends it.
            continue;
        }
        let done = sanitise(case(&file)).await;
        let image = match done {
            Ok(image) => {
                assert_eq!(status, 200, "{file}: {why}");
                image
            }
            Err(error) => {
                assert_eq!(error.status(), status, "{file}: {error}: {why}");
                assert!(code.is_none_or(|code| code == error.code()), "{file}");
                continue;
            }
        };
        if let Some(size) = size {
            assert_eq!((image.width, image.height), size, "{file}: {why}");
        }
        let got = pixels(&image);
        for point in wanted {
            let seen = got.get_pixel(point[0], point[1]).0;
            for (a, b) in point[2..].iter().zip(seen) {
                let off = u8::try_from(*a).unwrap().abs_diff(b);
                assert!(off <= tolerance, "{file}: {seen:?}, not {point:?}: {why}");
            }
        }
    }
}

#[tokio::test]
async fn a_mask_with_one_pixel_of_alpha_254_paints_what_it_paints_without() {
    let size = Wanted {
        width: 64,
        height: 64,
    };
    let odd = case("mask_one_pixel_254.png");
    let mut solid = image::load_from_memory(&odd).unwrap().into_rgba8();
    assert!(solid.pixels().any(|pixel| pixel.0[3] == 254));
    solid.pixels_mut().for_each(|pixel| pixel.0[3] = 255);
    let (width, height) = solid.dimensions();
    let solid = crate::files::encode(solid, image::ImageFormat::Png);
    let mask = async |file: Vec<u8>| {
        let stored = Stored {
            width,
            height,
            bytes: file.len() as u64,
        };
        let read = std::future::ready(Ok::<_, UploadError>(file.into()));
        uploads().to_mask(stored, read, size).await.unwrap()
    };
    let (of_odd, of_solid) = (mask(odd).await, mask(solid).await);
    assert_eq!(of_odd, of_solid);
    assert!(of_odd.contains(&255) && of_odd.contains(&0));
}
