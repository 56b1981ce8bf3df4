//! From the colours a file means to those every screen shows: sRGB.
//!
//! What a file means is its profile; in a PNG also its chunks cICP, sRGB, gAMA and cHRM, in the order of PNG's third
//! edition: cICP, then iCCP, then sRGB, then the other two. Each says sRGB where it says nothing usable, as in browsers.

use moxcms::{
    Chromaticity, CicpColorPrimaries, ColorPrimaries, ColorProfile, DataColorSpace, ToneReprCurve,
    TransferCharacteristics, TransformOptions,
};

use super::pixels::{Layout, Pixels};

/// What the samples of a file mean.
#[derive(Debug, Default)]
pub enum Meaning {
    /// sRGB, or nothing said.
    #[default]
    Srgb,
    /// What this ICC profile says.
    Profile(Vec<u8>),
    /// What chunks of a PNG say.
    Chunks(Box<ColorProfile>),
}

impl Meaning {
    /// From a profile, if there is one.
    pub fn of(profile: Option<Vec<u8>>) -> Self {
        profile.map_or(Self::Srgb, Self::Profile)
    }

    /// From a PNG's chunks.
    pub fn of_png(info: &png::Info<'_>) -> Self {
        let code_points = info.coding_independent_code_points.as_ref();
        if let Some(profile) = code_points.and_then(from_code_points) {
            return Self::Chunks(Box::new(profile));
        }
        if let Some(profile) = &info.icc_profile {
            return Self::Profile(profile.to_vec());
        }
        if info.srgb.is_some() {
            return Self::Srgb;
        }
        let gamma = info.gama_chunk.map(png::ScaledFloat::into_value);
        let primaries = info.chrm_chunk.as_ref();
        from_gamma(gamma, primaries).map_or(Self::Srgb, |profile| Self::Chunks(Box::new(profile)))
    }

    /// A profile that cannot be read is ignored, as browsers do.
    fn profile(self) -> Option<ColorProfile> {
        match self {
            Self::Srgb => None,
            Self::Profile(bytes) => ColorProfile::new_from_slice(&bytes).ok(),
            Self::Chunks(profile) => Some(*profile),
        }
    }
}

/// The white of reference in light of PQ (10,000 cd/m²) and in scene light of HLG: 203 cd/m², which is 75 % of the HLG
/// signal (ITU-R BT.2408-7, table 1). What is brighter is white here.
const PQ_WHITE: f64 = 203.0 / 10_000.0;
const HLG_WHITE: f64 = 0.264_96;

/// cICP: code points of ITU-T H.273. RGB of full range is all that PNG stores.
fn from_code_points(points: &png::CodingIndependentCodePoints) -> Option<ColorProfile> {
    if points.matrix_coefficients != 0 || !points.is_video_full_range_image {
        return None;
    }
    let primaries = CicpColorPrimaries::try_from(points.color_primaries).ok()?;
    // H.273, table 2: illuminants C and E, the white of cinemas, and else D65.
    let (x, y) = match points.color_primaries {
        4 | 8 => (0.310, 0.316),
        10 => (1.0 / 3.0, 1.0 / 3.0),
        11 => (0.314, 0.351),
        _ => (0.3127, 0.329),
    };
    let white = Chromaticity { x, y };
    let primaries = ColorPrimaries::try_from(primaries).ok()?;
    let transfer = TransferCharacteristics::try_from(points.transfer_function).ok()?;
    let curve = match transfer {
        TransferCharacteristics::Reserved | TransferCharacteristics::Unspecified => return None,
        TransferCharacteristics::Smpte2084 => sampled(|v| pq(v) / PQ_WHITE),
        TransferCharacteristics::Hlg => sampled(|v| hlg(v) / HLG_WHITE),
        other => sampled(|v| other.linearize(v)),
    };
    with_primaries(white, primaries, curve)
}

/// gAMA and cHRM, of which each may miss. Gamma and colours of sRGB as good as equal are sRGB: 1/2.2 is how the
/// programs of the nineties wrote it.
fn from_gamma(
    gamma: Option<f32>,
    chunk: Option<&png::SourceChromaticities>,
) -> Option<ColorProfile> {
    let gamma = gamma.filter(|gamma| (0.1..=10.0).contains(gamma));
    let usual = gamma.is_none_or(|gamma| (gamma * 2.2 - 1.0).abs() < 0.05);
    let srgb = ColorProfile::new_srgb();
    let curve = match gamma {
        Some(gamma) if !usual => ToneReprCurve::Parametric(vec![1.0 / gamma]),
        _ => srgb.red_trc?,
    };
    let point = |(x, y): (png::ScaledFloat, png::ScaledFloat)| Chromaticity {
        x: x.into_value(),
        y: y.into_value(),
    };
    let usual_points = [(0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)];
    let points = match chunk {
        Some(chunk) => [chunk.white, chunk.red, chunk.green, chunk.blue].map(point),
        None => usual_points.map(|(x, y)| Chromaticity { x, y }),
    };
    let near = |(point, (x, y)): (&Chromaticity, (f32, f32))| {
        (point.x - x).abs() < 0.002 && (point.y - y).abs() < 0.002
    };
    if usual && points.iter().zip(usual_points).all(near) {
        return None;
    }
    let [white, red, green, blue] = points;
    // Points on the edge of the plane have no colour, and three on a line span none.
    let across = |a: Chromaticity, b: Chromaticity| {
        (a.x - red.x) * (b.y - red.y) - (a.y - red.y) * (b.x - red.x)
    };
    if points.iter().any(|point| point.y < 0.001) || across(green, blue).abs() < 0.001 {
        return None;
    }
    with_primaries(white, ColorPrimaries { red, green, blue }, curve)
}

fn with_primaries(
    white: Chromaticity,
    primaries: ColorPrimaries,
    curve: ToneReprCurve,
) -> Option<ColorProfile> {
    let mut profile = ColorProfile::new_srgb();
    profile.update_rgb_colorimetry(white.to_xyyb(), primaries);
    profile.gray_trc = Some(curve.clone());
    profile.red_trc = Some(curve.clone());
    profile.green_trc = Some(curve.clone());
    profile.blue_trc = Some(curve);
    let colorants = [
        profile.red_colorant,
        profile.green_colorant,
        profile.blue_colorant,
    ];
    let sane = |value: f64| value.is_finite() && value.abs() < 16.0;
    colorants
        .iter()
        .all(|colour| sane(colour.x) && sane(colour.y) && sane(colour.z))
        .then_some(profile)
}

/// A curve of 4096 points.
fn sampled(light: impl Fn(f64) -> f64) -> ToneReprCurve {
    let value = |at: u16| (light(f64::from(at) / 4095.0).clamp(0.0, 1.0) * 65_535.0).round() as u16;
    ToneReprCurve::Lut((0..4096).map(value).collect())
}

/// The light of a PQ signal, 1 for 10,000 cd/m² (ITU-R BT.2100, table 4).
fn pq(signal: f64) -> f64 {
    let (m1, m2) = (0.159_301_757_812_5, 78.843_75);
    let (c1, c2, c3) = (0.835_937_5, 18.851_562_5, 18.687_5);
    let power = signal.powf(1.0 / m2);
    ((power - c1).max(0.0) / (c2 - c3 * power)).powf(1.0 / m1)
}

/// The scene light of an HLG signal (ITU-R BT.2100, table 5).
fn hlg(signal: f64) -> f64 {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_73);
    if signal <= 0.5 {
        signal * signal / 3.0
    } else {
        (((signal - c) / a).exp() + b) / 12.0
    }
}

/// Converts to sRGB. `gray` says that the file stores brightness, alone or with opacity: a grey profile is meant for
/// no other, and no other profile for it.
pub fn to_srgb(pixels: Pixels, meaning: Meaning, gray: bool) -> Pixels {
    let of_chunks = matches!(meaning, Meaning::Chunks(_));
    let Some(profile) = meaning.profile() else {
        return pixels;
    };
    if gray {
        let fits = of_chunks || profile.color_space == DataColorSpace::Gray;
        return match gray_levels(&profile).filter(|_| fits) {
            Some(levels) => with_levels(pixels, &levels),
            None => pixels,
        };
    }
    match (pixels.layout, profile.color_space) {
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

/// What each of 256 levels is in sRGB. A grey profile's curve gives light where its connection space is XYZ, and
/// lightness where it is Lab (ICC.1:2022, 8.3.4 and 9.2.29), which many colour engines take for light.
fn gray_levels(profile: &ColorProfile) -> Option<Vec<u8>> {
    let curve = profile.gray_trc.as_ref()?.make_linear_evaluator().ok()?;
    let is_lab = profile.pcs == DataColorSpace::Lab;
    let level = |level: u8| {
        let value = f64::from(curve.evaluate_value(f32::from(level) / 255.0)).clamp(0.0, 1.0);
        let light = if is_lab { light_of(value) } else { value };
        let signal = if light <= 0.003_130_8 {
            light * 12.92
        } else {
            1.055 * light.powf(1.0 / 2.4) - 0.055
        };
        (signal * 255.0).round() as u8
    };
    Some((0..=255).map(level).collect())
}

/// CIE 1976: the light of a lightness, both 0 to 1.
fn light_of(lightness: f64) -> f64 {
    let root = (lightness * 100.0 + 16.0) / 116.0;
    if root > 6.0 / 29.0 {
        root.powi(3)
    } else {
        (root - 4.0 / 29.0) * 108.0 / 841.0
    }
}

fn with_levels(mut pixels: Pixels, levels: &[u8]) -> Pixels {
    let map = |level: &mut u8| *level = levels.get(usize::from(*level)).copied().unwrap_or(*level);
    if pixels.layout == Layout::Rgba {
        for [colours @ .., _] in pixels.data.as_chunks_mut::<4>().0 {
            colours.iter_mut().for_each(map);
        }
    } else {
        pixels.data.iter_mut().for_each(map);
    }
    pixels
}

/// From four inks (how much there is of each) to sRGB, in the same memory: by the profile, or, without one that is for
/// inks, as light that each ink takes its part of.
pub fn inks_to_srgb(mut data: Vec<u8>, width: usize, profile: Option<&[u8]>) -> Vec<u8> {
    let srgb = ColorProfile::new_srgb();
    let transform = profile
        .and_then(|bytes| ColorProfile::new_from_slice(bytes).ok())
        .filter(|profile| profile.color_space == DataColorSpace::Cmyk)
        .and_then(|profile| {
            let options = TransformOptions::default();
            profile
                .create_transform_8bit(moxcms::Layout::Rgba, &srgb, moxcms::Layout::Rgb, options)
                .ok()
        });
    let rows = data.len() / (width * 4).max(1);
    let mut row = vec![0; width * 4];
    for at in 0..rows {
        if let Some(inks) = data.get(at * width * 4..(at + 1) * width * 4) {
            row.copy_from_slice(inks);
        }
        let Some(target) = data.get_mut(at * width * 3..(at + 1) * width * 3) else {
            break;
        };
        let done = transform
            .as_ref()
            .is_some_and(|transform| transform.transform(&row, target).is_ok());
        if !done {
            for (pixel, &[c, m, y, k]) in target
                .as_chunks_mut::<3>()
                .0
                .iter_mut()
                .zip(row.as_chunks::<4>().0)
            {
                *pixel = [c, m, y].map(|ink| {
                    let light = u32::from(255 - ink) * u32::from(255 - k);
                    u8::try_from((light + 127) / 255).unwrap_or(255)
                });
            }
        }
    }
    data.truncate(rows * width * 3);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_white_of_hdr_is_white_and_less_is_less() {
        for (light, white) in [
            (pq as fn(f64) -> f64, PQ_WHITE),
            (hlg as fn(f64) -> f64, HLG_WHITE),
        ] {
            assert!(light(0.0) < 1e-6 && light(0.2) < light(0.3));
            assert!(light(0.3) < white && light(1.0) > white);
        }
        // BT.2408: 203 cd/m² is 58 % of the PQ signal and 75 % of the HLG signal.
        assert!((pq(0.5807) / PQ_WHITE - 1.0).abs() < 0.01, "{}", pq(0.5807));
        assert!((hlg(0.75) / HLG_WHITE - 1.0).abs() < 0.01, "{}", hlg(0.75));
    }

    #[test]
    fn a_gamma_that_is_as_good_as_srgb_changes_nothing() {
        assert!(from_gamma(None, None).is_none());
        assert!(from_gamma(Some(0.45455), None).is_none());
        assert!(from_gamma(Some(0.0001), None).is_none());
        assert!(from_gamma(Some(1.0), None).is_some());
    }

    #[test]
    fn chromaticities_that_span_nothing_are_ignored() {
        let at = |x, y| (x, y);
        let line = png::SourceChromaticities::new(
            at(0.3127, 0.329),
            at(0.3, 0.3),
            at(0.3, 0.3),
            at(0.3, 0.3),
        );
        assert!(from_gamma(None, Some(&line)).is_none());
    }

    #[test]
    fn inks_without_a_profile_each_take_their_part_of_the_light() {
        let inks = [0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 0, 128, 0, 128].to_vec();
        let wanted = [255, 255, 255, 0, 255, 255, 0, 0, 0, 127, 63, 127];
        assert_eq!(inks_to_srgb(inks, 2, None), wanted);
    }
}
