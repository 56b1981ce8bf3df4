//! No picture of a documented size is refused for memory, whatever its kind: each kind passes behind walls that are lower
//! than the ones it gets.

use std::process::{Command, Stdio};

use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use origin::upload::{Admitted, Limits, UploadSettings};

use crate::files::{chunk, encode};

/// Of the memory that is there for other things than pixels so much is taken away, so that a copy of a picture that
/// nobody counted is seen. In bytes.
const WITHHELD: u64 = 28 << 20;

const WIDE: u32 = 2_400;
const HIGH: u32 = 1_900;

fn input(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upload/inputs/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// What the decoding process answers to a file, with so much memory less than it is given.
fn walled(file: &[u8], limits: Limits, less: u64) -> String {
    let memory = Admitted::read(file, &limits).unwrap().memory() - less;
    let order = serde_json::json!({
        "limits": limits, "length": file.len(), "memory": memory, "seconds": 200,
    });
    let mut decoder = Command::new(env!("CARGO_BIN_EXE_signet"))
        .args(["sanitise-worker", &order.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = decoder.stdin.take().unwrap();
    let file = file.to_vec();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut input, &file));
    let output = decoder.wait_with_output().unwrap();
    let _ = sender.join().unwrap();
    let line = output.stdout.split(|&byte| byte == b'\n').next().unwrap();
    match output.status.success() {
        true => String::from_utf8_lossy(line).into_owned(),
        false => output.status.to_string(),
    }
}

/// A PNG of zeros of any colour type and depth, interlaced or not, with what stands before its pixels.
fn zero_png(colour_type: u8, depth: u8, interlaced: bool, before: &[u8]) -> Vec<u8> {
    let samples = [1, 0, 3, 1, 2, 0, 4][usize::from(colour_type)];
    let row = |width: u32| 1 + (width as usize * samples * usize::from(depth)).div_ceil(8);
    // PNG 1.2, 8.2: first column and row of each pass and the steps between.
    let passes = if interlaced {
        vec![
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    } else {
        vec![(0, 0, 1, 1)]
    };
    let bytes: usize = passes
        .into_iter()
        .map(|(left, top, across, down)| {
            let (wide, high) = ((WIDE - left).div_ceil(across), (HIGH - top).div_ceil(down));
            row(wide) * high as usize
        })
        .sum();
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, &vec![0; bytes]).unwrap();
    let header = [WIDE.to_be_bytes(), HIGH.to_be_bytes()].concat();
    let header = [header, vec![depth, colour_type, 0, 0, u8::from(interlaced)]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        before.to_vec(),
        chunk(b"IDAT", &packer.finish().unwrap()),
        chunk(b"IEND", b""),
    ]
    .concat()
}

fn jpeg(colour: ColorType, samples: usize, sampling: SamplingFactor, progressive: bool) -> Vec<u8> {
    let (width, height) = (u16::try_from(WIDE).unwrap(), u16::try_from(HIGH).unwrap());
    // Rows of one level each.
    let row = WIDE as usize * samples;
    let mut data = vec![0; row * HIGH as usize];
    for (level, row) in data.chunks_mut(row).enumerate() {
        row.fill(level as u8);
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 60);
    encoder.set_sampling_factor(sampling);
    encoder.set_progressive(progressive);
    encoder.encode(&data, width, height, colour).unwrap();
    file
}

/// A GIF whose first frame does not fill its screen.
fn partial_gif() -> Vec<u8> {
    let image = RgbaImage::from_pixel(WIDE, HIGH, Rgba([200, 100, 50, 255]));
    let mut file = encode(image, ImageFormat::Gif);
    file[6..8].copy_from_slice(&u16::try_from(WIDE + 1).unwrap().to_le_bytes());
    file
}

fn every_kind() -> Vec<(String, Vec<u8>)> {
    let mut kinds = Vec::new();
    let palette = chunk(b"PLTE", &[9; 6]);
    let clear = |bytes: &[u8]| chunk(b"tRNS", bytes);
    for interlaced in [false, true] {
        for (colour_type, depth, before) in [
            (0, 1, Vec::new()),
            (0, 8, Vec::new()),
            (0, 16, clear(&[0, 1])),
            (2, 8, Vec::new()),
            (2, 16, clear(&[0, 0, 0, 0, 0, 1])),
            (3, 1, [palette.clone(), clear(&[7])].concat()),
            (3, 8, palette.clone()),
            (4, 16, Vec::new()),
            (6, 8, Vec::new()),
            (6, 16, Vec::new()),
        ] {
            let name = format!("png {colour_type} {depth} {interlaced}");
            kinds.push((name, zero_png(colour_type, depth, interlaced, &before)));
        }
    }
    for progressive in [false, true] {
        for sampling in [
            SamplingFactor::F_1_1,
            SamplingFactor::F_2_1,
            SamplingFactor::F_2_2,
        ] {
            let name = format!("jpeg {sampling:?} {progressive}");
            kinds.push((name, jpeg(ColorType::Rgb, 3, sampling, progressive)));
        }
        let whole = SamplingFactor::F_1_1;
        kinds.push((
            format!("jpeg gray {progressive}"),
            jpeg(ColorType::Luma, 1, whole, progressive),
        ));
        kinds.push((
            format!("jpeg cmyk {progressive}"),
            jpeg(ColorType::Cmyk, 4, whole, progressive),
        ));
        kinds.push((
            format!("jpeg ycck {progressive}"),
            jpeg(ColorType::CmykAsYcck, 4, whole, progressive),
        ));
    }
    for name in [
        "lossy",
        "lossy_alpha",
        "lossless",
        "animated",
        "animated_alpha",
    ] {
        kinds.push((format!("webp {name}"), input(&format!("{name}_9mp.webp"))));
    }
    let clear = RgbaImage::from_pixel(WIDE, HIGH, Rgba([200, 100, 50, 120]));
    kinds.push((
        "webp lossless_alpha".into(),
        encode(clear.clone(), ImageFormat::WebP),
    ));
    kinds.push((
        "gif".into(),
        encode(DynamicImage::ImageRgba8(clear), ImageFormat::Gif),
    ));
    kinds.push(("gif partial".into(), partial_gif()));
    kinds
}

#[test]
fn every_kind_fits_into_the_memory_that_its_header_promises() {
    // Small results, for an unoptimised build packs slowly; scaling takes its memory all the same.
    let limits = Limits {
        max_side: 600,
        ..Limits::default()
    };
    for (name, file) in every_kind() {
        let answer = walled(&file, limits, WITHHELD);
        assert!(answer.starts_with("{\"Ok\""), "{name}: {answer}");
    }
}

#[test]
fn what_is_written_at_full_size_fits_as_well() {
    let limits = Limits::default();
    for (name, file) in [
        ("png", zero_png(6, 8, false, b"")),
        (
            "jpeg",
            jpeg(ColorType::Rgb, 3, SamplingFactor::F_2_2, false),
        ),
        (
            "turned",
            crate::files::segment(
                &jpeg(ColorType::Luma, 1, SamplingFactor::F_1_1, false),
                0xe1,
                &[b"Exif\0\0".as_slice(), &crate::files::exif(6)].concat(),
            ),
        ),
    ] {
        let answer = walled(&file, limits, WITHHELD);
        assert!(answer.starts_with("{\"Ok\""), "{name}: {answer}");
    }
}

#[test]
fn pictures_that_were_refused_for_memory_are_stored_in_their_size() {
    for (name, size) in [
        ("rgba_4480x2520.png", "[4096,2304]"),
        ("progressive444_36mp.jpg", "[4096,2734]"),
        ("progressive_cmyk_12mp.jpg", "[4096,2736]"),
    ] {
        let answer = walled(&input(name), Limits::default(), 0);
        let wanted = format!("{{\"Ok\":{{\"size\":{size},");
        assert!(answer.starts_with(&wanted), "{name}: {answer}");
    }
}

/// The same files with another size in their headers, which is all that is read of them here.
#[test]
fn two_of_sixty_four_megapixels_fit_into_the_default_budget_at_once() {
    let settings = UploadSettings::default();
    let large = settings.memory_for_large() << 20;
    for (name, mut file) in every_kind() {
        if name.starts_with("png") {
            file[16..24].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x20, 0]);
        } else if name.starts_with("gif") {
            file[6..10].copy_from_slice(&[0, 0x20, 0, 0x20]);
        } else if name.starts_with("jpeg") {
            let at = file
                .windows(2)
                .position(|two| two == [0xff, 0xc0] || two == [0xff, 0xc2])
                .unwrap();
            file[at + 5..at + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
        } else if &file[12..16] == b"VP8X" {
            file[24..30].copy_from_slice(&[0xff, 0x1f, 0, 0xff, 0x1f, 0]);
        } else if &file[12..16] == b"VP8 " {
            file[26..30].copy_from_slice(&[0, 0x20, 0, 0x20]);
        } else {
            let alpha = file[24] & 0x10;
            file[21..25].copy_from_slice(&[0xff, 0xdf, 0xff, 0x07 | alpha]);
        }
        let image = Admitted::read(&file, &settings.image).unwrap();
        assert_eq!((image.width(), image.height()), (8_192, 8_192), "{name}");
        // Ten mebibytes of file are counted twice.
        let most = image.memory() + 2 * settings.image.max_bytes - 2 * file.len() as u64;
        assert!(most <= large, "{name}: {} MiB", most >> 20);
        let rare = [
            "jpeg cmyk true",
            "jpeg ycck true",
            "webp animated",
            "webp animated_alpha",
            "webp lossy_alpha",
        ];
        if !rare.contains(&name.as_str()) {
            assert!(
                2 * image.memory() <= large,
                "{name}: twice {} MiB",
                image.memory() >> 20
            );
        }
    }
}
