//! What the tests share: the service's uploads, and looking into a PNG.

use origin::upload::{Isolation, SanitisedImage, UploadError, UploadSettings, Uploads};

/// The decoders in processes of the real program, with time enough for a busy machine and an
/// unoptimised build.
pub fn settings() -> UploadSettings {
    UploadSettings {
        worker: Some(env!("CARGO_BIN_EXE_signet").into()),
        isolation: Isolation::Process,
        process_ms: 120_000,
        wait_seconds: 600,
        ..UploadSettings::default()
    }
}

pub fn uploads() -> Uploads {
    Uploads::new(settings()).unwrap()
}

pub async fn sanitise(file: impl Into<Vec<u8>>) -> Result<SanitisedImage, UploadError> {
    uploads().sanitise(file.into().into()).await
}

/// The code of the refusal.
pub async fn refusal(file: impl Into<Vec<u8>>) -> &'static str {
    sanitise(file)
        .await
        .expect_err("this file must be refused")
        .code()
}

/// The pixels of a sanitised picture, read by another decoder than wrote them.
pub fn pixels(image: &SanitisedImage) -> image::RgbaImage {
    let format = image::ImageFormat::Png;
    let read = image::load_from_memory_with_format(&image.png, format)
        .unwrap()
        .into_rgba8();
    assert_eq!(read.dimensions(), (image.width, image.height));
    read
}

/// The names of a PNG's chunks; panics when anything lies between or behind them.
pub fn chunks(png: &[u8]) -> Vec<String> {
    let mut rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
    let mut names = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        names.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
        rest = &rest[12 + length..];
    }
    names
}

/// Fails unless the picture is nothing but pixels and holds none of the marks.
pub fn assert_clean(image: &SanitisedImage, marks: &[&str]) {
    let names = chunks(&image.png);
    for name in &names {
        assert!(
            ["IHDR", "PLTE", "tRNS", "IDAT", "IEND"].contains(&name.as_str()),
            "{names:?}"
        );
    }
    assert_eq!(names.last().unwrap(), "IEND");
    for mark in marks {
        let found = image
            .png
            .windows(mark.len())
            .any(|window| window == mark.as_bytes());
        assert!(!found, "{mark} came through");
    }
}
