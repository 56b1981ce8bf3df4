//! Our PNG encoder: the only thing that ever writes an upload's bytes.
//!
//! It knows four chunks (IHDR, PLTE, tRNS, IDAT and the end), so nothing a sender put into a file
//! can come out again. It first finds the smallest form that holds the picture exactly, then the
//! filter that a sample says is best, and leaves the packing to libdeflate.

mod filter;
mod reduce;

use libdeflater::{CompressionLvl, Compressor, Crc};

use super::UploadError;
use super::pixels::Pixels;
use reduce::{Form, Reduced};

/// Pictures above this many bytes are packed with at most [`LARGE_LEVEL`], to end in time.
const LARGE: usize = 24 << 20;
const LARGE_LEVEL: u8 = 5;
const NOISE_LEVEL: u8 = 2;

/// Encodes a picture; `level` is 1 (fast) to 12 (small).
///
/// # Errors
/// [`UploadError::Internal`] when the compressor refuses, which its bounds rule out.
pub fn encode(pixels: Pixels, level: u8) -> Result<Vec<u8>, UploadError> {
    let (width, height) = (pixels.width, pixels.height);
    let Reduced {
        form,
        mut rows,
        stride,
    } = reduce::reduce(pixels);
    let mut level = if rows.len() > LARGE {
        level.min(LARGE_LEVEL)
    } else {
        level
    };
    if form.filters()
        && filter::apply(&mut rows, stride, form.pixel_bytes()) == filter::Texture::Noise
    {
        level = level.min(NOISE_LEVEL);
    }
    let packed = pack(&rows, level)?;
    drop(rows);
    Ok(assemble(width, height, &form, &packed))
}

fn pack(rows: &[u8], level: u8) -> Result<Vec<u8>, UploadError> {
    let failed = |what: &str| UploadError::Internal(format!("PNG compression: {what}"));
    let level = CompressionLvl::new(i32::from(level)).map_err(|_| failed("level"))?;
    let mut compressor = Compressor::new(level);
    let mut packed = vec![0; compressor.zlib_compress_bound(rows.len())];
    let length = compressor
        .zlib_compress(rows, &mut packed)
        .map_err(|_| failed("no room for output"))?;
    packed.truncate(length);
    Ok(packed)
}

fn assemble(width: u32, height: u32, form: &Form, packed: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(packed.len() + 2048);
    file.extend_from_slice(b"\x89PNG\r\n\x1a\n");
    let (colour_type, depth) = form.header();
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[depth, colour_type, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    if let Form::Palette { colours, .. } = form {
        let rgb: Vec<u8> = colours.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
        chunk(&mut file, b"PLTE", &rgb);
        // Opacities up to the last that is not full; the palette has the others at its end.
        let count = colours.iter().take_while(|colour| colour[3] != 255).count();
        if count > 0 {
            let alpha: Vec<u8> = colours.iter().take(count).map(|colour| colour[3]).collect();
            chunk(&mut file, b"tRNS", &alpha);
        }
    }
    for part in packed.chunks(i32::MAX as usize) {
        chunk(&mut file, b"IDAT", part);
    }
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(data);
    file.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend_from_slice(name);
    file.extend_from_slice(data);
    file.extend_from_slice(&crc.sum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::pixels::Layout;
    use super::*;
    use proptest::prelude::*;

    /// What an independent decoder makes of our file, as RGBA.
    fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let image = image::load_from_memory_with_format(file, image::ImageFormat::Png).unwrap();
        let image = image.into_rgba8();
        (image.width(), image.height(), image.into_raw())
    }

    fn as_rgba(pixels: &Pixels) -> Vec<u8> {
        match pixels.layout {
            Layout::Gray => pixels.data.iter().flat_map(|&v| [v, v, v, 255]).collect(),
            Layout::Rgb => pixels
                .data
                .chunks(3)
                .flat_map(|p| [p[0], p[1], p[2], 255])
                .collect(),
            Layout::Rgba => pixels.data.clone(),
        }
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        prop::sample::select(vec![Layout::Gray, Layout::Rgb, Layout::Rgba])
    }

    proptest! {
        #[test]
        fn every_picture_comes_back_exactly(
            layout in layouts(), width in 1u32..40, height in 1u32..40, colours in 1usize..400,
            seed in any::<u64>(), level in 1u8..=12,
        ) {
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state };
            let table: Vec<[u8; 4]> = (0..colours).map(|_| {
                let [r, g, b, a, solid, ..] = next().to_le_bytes();
                [r, g, b, if solid < 200 { 255 } else { a }]
            }).collect();
            let data = (0..width * height).flat_map(|_| {
                table[next() as usize % table.len()][..layout.samples()].to_vec()
            }).collect();
            let pixels = Pixels { width, height, layout, data };
            let wanted = as_rgba(&pixels);
            let (w, h, got) = decode(&encode(pixels, level).unwrap());
            prop_assert_eq!((w, h), (width, height));
            prop_assert!(got == wanted);
        }
    }

    #[test]
    fn the_smallest_form_is_chosen() {
        let header = |pixels: Pixels| {
            let file = encode(pixels, 7).unwrap();
            (file[24], file[25])
        };
        let picture = |layout: Layout, data: Vec<u8>| Pixels {
            width: u32::try_from(data.len() / layout.samples()).unwrap(),
            height: 1,
            layout,
            data,
        };
        let colours = |count: u32| {
            (0..count)
                .flat_map(|i| [i as u8, (i >> 8) as u8, 7])
                .collect()
        };
        assert_eq!(header(picture(Layout::Rgb, colours(2))), (1, 3));
        assert_eq!(header(picture(Layout::Rgb, colours(3))), (2, 3));
        assert_eq!(header(picture(Layout::Rgb, colours(16))), (4, 3));
        assert_eq!(header(picture(Layout::Rgb, colours(256))), (8, 3));
        assert_eq!(header(picture(Layout::Rgb, colours(257))), (8, 2));
        let gray: Vec<u8> = (0..=255).flat_map(|i| [i, i, i, 255]).collect();
        assert_eq!(header(picture(Layout::Rgba, gray)), (8, 0));
        let clear = (0..300u32)
            .flat_map(|i| [i as u8, (i >> 8) as u8, 0, 9])
            .collect();
        assert_eq!(header(picture(Layout::Rgba, clear)), (8, 6));
    }
}
