//! Files made for the tests: valid, odd and hostile ones, none of them kept on disk.

use std::io::{Cursor, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, FlushCompress};
use image::{ImageFormat, RgbImage, RgbaImage};

/// A picture in which every part can be told from every other, and which JPEG keeps well.
pub fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 128])
    })
}

pub fn encode(image: impl Into<image::DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    encode(picture(width, height), ImageFormat::Png)
}

pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encode(picture(width, height), ImageFormat::Jpeg)
}

pub fn webp(width: u32, height: u32) -> Vec<u8> {
    encode(picture(width, height), ImageFormat::WebP)
}

pub fn gif(width: u32, height: u32) -> Vec<u8> {
    let image = RgbaImage::from_pixel(width, height, image::Rgba([200, 100, 50, 255]));
    encode(image, ImageFormat::Gif)
}

/// A PNG chunk with its checksum.
pub fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap();
    [
        &length.to_be_bytes(),
        name.as_slice(),
        data,
        &crc.sum().to_be_bytes(),
    ]
    .concat()
}

/// Puts bytes into a PNG right behind its IHDR.
pub fn after_header(png: &[u8], extra: &[u8]) -> Vec<u8> {
    [&png[..33], extra, &png[33..]].concat()
}

/// Puts a segment into a JPEG right behind its start.
pub fn segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

/// An EXIF block that holds an orientation, as TIFF with its short header.
pub fn exif(orientation: u16) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    tiff.extend(orientation.to_be_bytes());
    tiff.extend([0, 0, 0, 0, 0, 0]);
    tiff
}

/// A JPEG with an orientation.
pub fn oriented_jpeg(width: u32, height: u32, orientation: u16) -> Vec<u8> {
    segment(
        &jpeg(width, height),
        0xe1,
        &[b"Exif\0\0".as_slice(), &exif(orientation)].concat(),
    )
}

/// A zlib stream of zeros, `mebibytes` long when unpacked. One MiB is packed and repeated, so
/// that four gigabytes take no time.
pub fn zeros(mebibytes: usize) -> Vec<u8> {
    let mut packer = flate2::Compress::new(Compression::best(), true);
    let block = vec![0; 1 << 20];
    let mut pack = || {
        let mut packed = Vec::with_capacity(1 << 20);
        packer
            .compress_vec(&block, &mut packed, FlushCompress::Full)
            .unwrap();
        packed
    };
    let (first, next) = (pack(), pack());
    [first, next.repeat(mebibytes - 1)].concat()
}

/// A PNG of one colour with any size in its header; real pixels follow up to `rows`.
pub fn flat_png(width: u32, height: u32, colour_type: u8, rows: u32) -> Vec<u8> {
    let samples = match colour_type {
        0 => 1,
        2 => 3,
        _ => 4,
    };
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0; 1 + width as usize * samples];
    for _ in 0..rows {
        pixels.write_all(&row).unwrap();
    }
    let header = [width.to_be_bytes(), height.to_be_bytes()]
        .concat()
        .into_iter()
        .chain([8, colour_type, 0, 0, 0]);
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header.collect::<Vec<u8>>()),
        chunk(b"IDAT", &pixels.finish().unwrap()),
        chunk(b"IEND", b""),
    ]
    .concat()
}
