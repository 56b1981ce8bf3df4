//! Upload headers: whatever a file says of itself, what is admitted keeps to the limits, and nothing else is admitted
//! than the four formats. Read again here by plain rules of the formats.

use origin::upload::{Admitted, Limits};

/// Each byte as the character of its number: the runner changes text, and headers are bytes.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn main() -> Result<(), String> {
    let seeds = [
        text(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\x01\0\x08\x06\0\0\0"),
        text(b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\x02\x03\x04\x03"),
        text(b"\xff\xd8\xff\xfe\0\x03x\xff\xdb\0\x02\xff\xc0\0\x11\x08\x10\x00\x10\x00\x03"),
        text(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x10\0\x20\x40"),
        text(b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\xff\xc1\x07\0"),
        text(b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\xff\x01\0\x0f\0\0"),
        text(b"GIF89a\x10\0\x20\0\0\0\0,"),
        text(b"\xef\xbb\xbf<?xml version='1.0'?><svg onload='x'/>"),
    ];
    let limits = Limits::default();
    fuzz::run("upload", &seeds, |input| {
        // Characters beyond one byte, from the runner's look-alikes, are cut to one.
        let bytes: Vec<u8> = input.chars().map(|c| (u32::from(c) & 0xff) as u8).collect();
        let Ok(image) = Admitted::read(&bytes, &limits) else {
            return Ok(());
        };
        let known = [
            b"\x89PNG\r\n\x1a\n".as_slice(),
            b"\xff\xd8\xff",
            b"RIFF",
            b"GIF8",
        ];
        if !known.iter().any(|start| bytes.starts_with(start)) {
            return Err("a file of no known format is admitted".into());
        }
        let (width, height) = (u64::from(image.width()), u64::from(image.height()));
        if width * height > limits.max_pixels || width * height == 0 {
            return Err(format!("{width}×{height} is admitted"));
        }
        if width.max(height) > width.min(height) * u64::from(limits.max_ratio) {
            return Err(format!("{width}×{height} is too long and thin"));
        }
        Ok(())
    })
}
