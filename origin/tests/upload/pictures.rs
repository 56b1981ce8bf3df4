//! What a picture looks like afterwards: upright, in sRGB, its opacity kept, no larger than allowed.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgba, RgbaImage};
use moxcms::ColorProfile;

use crate::files::{self, after_header, chunk, encode, exif, gif, jpeg, oriented_jpeg, png, webp};
use crate::support::{pixels, refusal, sanitise, settings};

#[tokio::test]
async fn every_format_comes_out_as_the_same_picture() {
    let wanted = files::picture(60, 40);
    for (file, tolerance) in [(png(60, 40), 0), (webp(60, 40), 0), (jpeg(60, 40), 12)] {
        let got = pixels(&sanitise(file).await.unwrap());
        for (x, y, pixel) in wanted.enumerate_pixels() {
            let seen = got.get_pixel(x, y).0;
            for (a, b) in pixel.0.iter().zip(seen) {
                assert!(
                    a.abs_diff(b) <= tolerance,
                    "{pixel:?} became {seen:?} at {x},{y}"
                );
            }
        }
    }
    assert_eq!(
        pixels(&sanitise(gif(5, 4)).await.unwrap())
            .get_pixel(2, 2)
            .0,
        [200, 100, 50, 255]
    );
}

#[tokio::test]
async fn the_orientation_tag_is_obeyed() {
    // Where the picture's top left corner (dark, no red, no green) ends up, by EXIF's definition.
    let corners = [
        (0, 0),
        (1, 0),
        (1, 1),
        (0, 1),
        (0, 0),
        (1, 0),
        (1, 1),
        (0, 1),
    ];
    for (tag, corner) in (1..=8).zip(corners) {
        let with_exif = after_header(&png(48, 32), &chunk(b"eXIf", &exif(tag)));
        for file in [oriented_jpeg(48, 32, tag), with_exif] {
            let image = sanitise(file).await.unwrap();
            let size = if tag < 5 { (48, 32) } else { (32, 48) };
            assert_eq!((image.width, image.height), size, "tag {tag}");
            let at = (corner.0 * (size.0 - 1), corner.1 * (size.1 - 1));
            let [red, green, ..] = pixels(&image).get_pixel(at.0, at.1).0;
            assert!(red < 20 && green < 20, "tag {tag}: {red} {green} at {at:?}");
        }
    }
}

fn png_with_profile(pixel: [u8; 3], profile: Vec<u8>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = PngEncoder::new(&mut file);
    encoder.set_icc_profile(profile).unwrap();
    encoder
        .write_image(&pixel.repeat(64), 8, 8, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

#[tokio::test]
async fn a_display_p3_picture_is_converted_to_srgb() {
    // Worked out by hand from the published matrices: linear P3 → XYZ → linear sRGB.
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let image = sanitise(png_with_profile([180, 110, 60], profile))
        .await
        .unwrap();
    let [red, green, blue, _] = pixels(&image).get_pixel(3, 3).0;
    let wanted = p3_to_srgb([180, 110, 60]);
    for (got, wanted) in [red, green, blue].into_iter().zip(wanted) {
        assert!(
            got.abs_diff(wanted) <= 2,
            "{:?} instead of {wanted:?}",
            [red, green, blue]
        );
    }
    assert!(wanted[0] > 184, "the conversion must show: {wanted:?}");
}

fn p3_to_srgb(pixel: [u8; 3]) -> [u8; 3] {
    let linear = pixel.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    });
    let matrix = [
        [1.22494, -0.22494, 0.0],
        [-0.04206, 1.04206, 0.0],
        [-0.01964, -0.07864, 1.09828],
    ];
    matrix.map(|row| {
        let v: f64 = row.iter().zip(linear).map(|(m, v)| m * v).sum();
        let v = if v <= 0.003_130_8 {
            v * 12.92
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (v.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

#[tokio::test]
async fn a_profile_that_is_garbage_is_ignored() {
    let image = sanitise(png_with_profile([1, 2, 3], vec![7; 5000]))
        .await
        .unwrap();
    assert_eq!(pixels(&image).get_pixel(0, 0).0, [1, 2, 3, 255]);
}

#[tokio::test]
async fn opacity_is_kept_and_hidden_colours_are_cleared() {
    let image = RgbaImage::from_fn(20, 20, |x, _| match x {
        0..10 => Rgba([9, 8, 7, 0]),
        10..15 => Rgba([200, 100, 50, 128]),
        _ => Rgba([1, 2, 3, 255]),
    });
    let got = pixels(&sanitise(encode(image, ImageFormat::Png)).await.unwrap());
    assert_eq!(got.get_pixel(5, 5).0, [0, 0, 0, 0]);
    assert_eq!(got.get_pixel(12, 5).0, [200, 100, 50, 128]);
    assert_eq!(got.get_pixel(17, 5).0, [1, 2, 3, 255]);
}

#[tokio::test]
async fn sixteen_bits_become_eight() {
    let deep = image::ImageBuffer::<image::Rgb<u16>, _>::from_pixel(
        4,
        4,
        image::Rgb([0xffff, 0x8080, 0x00ff]),
    );
    let file = encode(image::DynamicImage::ImageRgb16(deep), ImageFormat::Png);
    let got = pixels(&sanitise(file).await.unwrap());
    assert_eq!(got.get_pixel(1, 1).0, [255, 128, 0, 255]);
}

#[tokio::test]
async fn a_large_picture_is_scaled_to_the_longest_side() {
    let mut settings = settings();
    settings.image.max_side = 64;
    let uploads = origin::upload::Uploads::new(settings).unwrap();
    let image = uploads.sanitise(png(400, 300).into()).await.unwrap();
    assert_eq!((image.width, image.height), (64, 48));
    let got = pixels(&image);
    let middle = got.get_pixel(32, 24).0;
    assert!(
        middle[0].abs_diff(128) < 6 && middle[1].abs_diff(128) < 6,
        "{middle:?}"
    );
}

#[tokio::test]
async fn only_the_first_frame_of_an_animation_is_taken() {
    let frame = |colour| image::Frame::new(RgbaImage::from_pixel(6, 6, Rgba(colour)));
    let mut file = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
    encoder
        .encode_frames([frame([255, 0, 0, 255]), frame([0, 0, 255, 255])])
        .unwrap();
    drop(encoder);
    assert_eq!(
        pixels(&sanitise(file).await.unwrap()).get_pixel(3, 3).0,
        [255, 0, 0, 255]
    );
}

#[tokio::test]
async fn a_file_that_ends_early_is_damaged() {
    for file in [png(60, 40), webp(60, 40), gif(60, 40), jpeg(60, 40)] {
        let cut = &file[..file.len() * 2 / 3];
        assert_eq!(refusal(cut).await, "damaged_image");
    }
}

#[tokio::test]
async fn a_jpeg_whose_rest_was_overwritten_with_zeros_is_damaged() {
    let whole = jpeg(120, 90);
    for part in [2, 3, 5, 8] {
        let mut file = whole.clone();
        file[whole.len() * part / 10..].fill(0);
        assert_eq!(
            refusal(file).await,
            "damaged_image",
            "from {part} tenths on"
        );
    }
    // A hole in the middle, as a lost sector makes it.
    let mut file = whole.clone();
    file[whole.len() / 2..whole.len() / 2 + 200].fill(0);
    assert_eq!(refusal(file).await, "damaged_image");
    // Only its end marker is missing: everything is there.
    let image = sanitise(&whole[..whole.len() - 2]).await.unwrap();
    assert_eq!(image, sanitise(whole).await.unwrap());
}

#[tokio::test]
async fn a_webp_without_what_its_first_chunk_promises_is_a_picture() {
    let file = webp(60, 40);
    let extended = |flags: u8| {
        let chunk = [flags, 0, 0, 0, 59, 0, 0, 39, 0, 0];
        let body = [b"WEBPVP8X\x0a\0\0\0".as_slice(), &chunk, &file[12..]].concat();
        let size = u32::try_from(body.len()).unwrap().to_le_bytes();
        [b"RIFF".as_slice(), &size, &body].concat()
    };
    let wanted = sanitise(file.clone()).await.unwrap();
    // Opacity, EXIF, XMP, a profile.
    for flags in [0x10, 0x08, 0x04, 0x20, 0x3c] {
        let image = sanitise(extended(flags)).await.unwrap();
        assert_eq!(image, wanted, "{flags:#x}");
    }
}
