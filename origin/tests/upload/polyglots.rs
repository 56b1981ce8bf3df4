//! Files that are two things at once. Whatever else they are, our picture of them is not.

use crate::files::{after_header, chunk, gif, jpeg, png, segment, webp, zeros};
use crate::support::{assert_clean, pixels, refusal, sanitise};

const SCRIPT: &str = "<script>alert(document.domain)</script>";
const PHP: &str = "<?php system($_GET['c']); ?>";

/// A zip archive with one stored file.
fn zip() -> Vec<u8> {
    let (name, data) = (b"evil.html".as_slice(), SCRIPT.as_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(data);
    let size = (data.len() as u32).to_le_bytes();
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        crc.sum().to_le_bytes().as_slice(),
        &size,
        &size,
        &(name.len() as u16).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04".as_slice(), &common, name, data].concat();
    let central = [b"PK\x01\x02\x14\0".as_slice(), &common, &[0; 14], name].concat();
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(),
        &(central.len() as u32).to_le_bytes(),
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, central, end].concat()
}

#[tokio::test]
async fn a_png_that_is_a_zip_archive_comes_out_as_a_png() {
    let image = sanitise([png(40, 30), zip()].concat()).await.unwrap();
    assert_clean(&image, &["PK\x03\x04", "evil.html", SCRIPT]);
    assert_eq!(pixels(&image).get_pixel(0, 0).0, [0, 0, 128, 255]);
}

#[tokio::test]
async fn a_jpeg_that_is_a_web_page_comes_out_as_a_png() {
    let page = format!("*/--><html>{SCRIPT}</html><!--");
    let file = segment(&jpeg(40, 30), 0xfe, page.as_bytes());
    let image = sanitise([file, page.clone().into_bytes()].concat())
        .await
        .unwrap();
    assert_clean(&image, &[SCRIPT, "<html>"]);
}

#[tokio::test]
async fn a_gif_that_is_javascript_comes_out_as_a_png() {
    // The width is "/*": a screen of 10799 pixels, cut to what the limits allow by its height.
    let mut file = gif(4, 4);
    file[6..8].copy_from_slice(b"/*");
    file[8..10].copy_from_slice(&1000u16.to_le_bytes());
    file.extend(b"*/=1;alert(1)//");
    let image = sanitise(file).await.unwrap();
    assert_clean(&image, &["alert(1)", "*/"]);
    assert_eq!((image.width, image.height), (4096, 379));
}

#[tokio::test]
async fn a_png_that_is_php_comes_out_as_a_png() {
    let text = chunk(b"tEXt", format!("Comment\0{PHP}").as_bytes());
    let file = [after_header(&png(40, 30), &text), PHP.into()].concat();
    let image = sanitise(file).await.unwrap();
    assert_clean(&image, &[PHP, "<?php"]);
}

#[tokio::test]
async fn php_inside_pixels_that_a_palette_would_spell_is_drawn_anew() {
    // Colours that spell PHP in a palette chunk, in an order of the sender's choice.
    let mut spelled: Vec<u8> = PHP.as_bytes().to_vec();
    spelled.resize(spelled.len().div_ceil(3) * 3, b' ');
    let colours = spelled.len() / 3;
    let image = image::RgbImage::from_fn(colours as u32, 1, |x, _| {
        let at = x as usize * 3;
        image::Rgb([spelled[at], spelled[at + 1], spelled[at + 2]])
    });
    let file = crate::files::encode(image, image::ImageFormat::Png);
    let image = sanitise(file).await.unwrap();
    assert_clean(&image, &[PHP, "<?php"]);
}

#[tokio::test]
async fn a_pdf_is_refused_and_one_inside_a_jpeg_is_gone() {
    let pdf = "%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj";
    assert_eq!(
        refusal([pdf.as_bytes(), &jpeg(40, 30)].concat()).await,
        "unsupported_image_type"
    );
    let image = sanitise(segment(&jpeg(40, 30), 0xfe, pdf.as_bytes()))
        .await
        .unwrap();
    assert_clean(&image, &["%PDF", "app.alert"]);
}

#[tokio::test]
async fn a_webp_with_foreign_chunks_comes_out_clean() {
    let mut file = webp(40, 30);
    let extra = [
        b"EVIL".as_slice(),
        &(SCRIPT.len() as u32 + 1).to_le_bytes(),
        SCRIPT.as_bytes(),
        b"\0",
    ];
    file.extend(extra.concat());
    let size = u32::try_from(file.len() - 8).unwrap();
    file[4..8].copy_from_slice(&size.to_le_bytes());
    assert_clean(&sanitise(file).await.unwrap(), &[SCRIPT, "EVIL"]);
}

#[tokio::test]
async fn text_that_unpacks_to_four_gigabytes_is_never_unpacked() {
    let bomb = [b"Comment\0\0".to_vec(), zeros(4096)].concat();
    for name in [b"zTXt", b"iTXt", b"iCCP"] {
        let file = after_header(&png(40, 30), &chunk(name, &bomb));
        assert!(file.len() < 10 << 20, "{}", file.len());
        match sanitise(file).await {
            Ok(image) => assert_clean(&image, &["Comment"]),
            Err(error) => {
                assert!(["image_needs_too_much_memory", "damaged_image"].contains(&error.code()));
            }
        }
    }
}

#[tokio::test]
async fn markup_is_refused_whatever_it_is_called() {
    let page = "\u{feff}\n <html></html>";
    assert_eq!(refusal(page).await, "html_refused");
    for text in [
        "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
    ] {
        assert_eq!(refusal(text).await, "svg_refused");
    }
}

/// An independent reader: exiftool must know nothing but what every PNG has.
#[tokio::test]
async fn exiftool_finds_nothing_in_what_we_store() {
    let text = chunk(b"tEXt", b"Author\0Somebody");
    let exif = chunk(b"eXIf", &crate::files::exif(6));
    let loaded = after_header(&png(40, 30), &[text, exif].concat());
    for file in [
        loaded,
        crate::files::oriented_jpeg(40, 30, 3),
        webp(40, 30),
        gif(4, 4),
    ] {
        let image = sanitise(file).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, &image.png).unwrap();
        let output = std::process::Command::new("exiftool")
            .args([
                "-s",
                "-G1",
                "--File:all",
                "--ExifTool:all",
                "--System:all",
                "--Composite:all",
            ])
            .arg(&path)
            .output()
            .expect("exiftool runs (Debian: libimage-exiftool-perl)");
        let found = String::from_utf8(output.stdout).unwrap();
        let allowed = [
            "ImageWidth",
            "ImageHeight",
            "BitDepth",
            "ColorType",
            "Compression",
            "Filter",
            "Interlace",
            "Palette",
            "Transparency",
        ];
        for line in found.lines() {
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            assert!(allowed.contains(&name), "{line}");
        }
        assert!(found.contains("ImageWidth"), "{found}");
    }
}
