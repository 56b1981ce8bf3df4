//! From the colours a profile means to those every screen shows: sRGB.

use moxcms::{ColorProfile, DataColorSpace, TransformOptions};

use super::pixels::{Layout, Pixels};

/// Converts by the profile that the file carries. A profile that cannot be read, or that is for
/// other samples than these (CMYK files are already converted by their decoder), is ignored, as
/// browsers do.
pub fn to_srgb(pixels: Pixels, profile: Option<&[u8]>) -> Pixels {
    let Some(profile) = profile.and_then(|bytes| ColorProfile::new_from_slice(bytes).ok()) else {
        return pixels;
    };
    match (pixels.layout, profile.color_space) {
        (Layout::Gray, DataColorSpace::Gray) => gray(pixels, &profile),
        (Layout::Rgb, DataColorSpace::Rgb) => in_place::<3>(pixels, &profile, moxcms::Layout::Rgb),
        (Layout::Rgba, DataColorSpace::Rgb) => {
            in_place::<4>(pixels, &profile, moxcms::Layout::Rgba)
        }
        _ => pixels,
    }
}

/// Row by row through one row's copy, so that no second picture is held.
fn in_place<const SAMPLES: usize>(
    mut pixels: Pixels,
    profile: &ColorProfile,
    layout: moxcms::Layout,
) -> Pixels {
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions::default();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, layout, options) else {
        return pixels;
    };
    let stride = pixels.stride();
    let mut row = vec![0; stride];
    for target in pixels.data.chunks_exact_mut(stride) {
        row.copy_from_slice(target);
        if transform.transform(&row, target).is_err() {
            target.copy_from_slice(&row);
        }
    }
    pixels
}

fn gray(pixels: Pixels, profile: &ColorProfile) -> Pixels {
    let srgb = ColorProfile::new_srgb();
    let Ok(transform) = profile.create_transform_8bit(
        moxcms::Layout::Gray,
        &srgb,
        moxcms::Layout::Rgb,
        TransformOptions::default(),
    ) else {
        return pixels;
    };
    // Only 256 inputs exist; a gray in sRGB has three equal samples, so one is kept.
    let levels: Vec<u8> = (0..=255).collect();
    let mut colours = vec![0; 256 * 3];
    if transform.transform(&levels, &mut colours).is_err() {
        return pixels;
    }
    let table: Vec<u8> = colours
        .as_chunks::<3>()
        .0
        .iter()
        .map(|&[_, green, _]| green)
        .collect();
    let map = |&level: &u8| table.get(usize::from(level)).copied().unwrap_or(level);
    Pixels {
        data: pixels.data.iter().map(map).collect(),
        ..pixels
    }
}
