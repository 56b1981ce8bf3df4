//! Uploads as a generation takes them: in the size of the job, without opacity, or as a mask.
//!
//! What is read here came out of our own encoder, so no process stands between; it still takes its share of the one
//! memory budget and its turn, before the first byte of it is read, since a stored picture of 16 megapixels is large
//! however harmless it is.

use bytes::Bytes;

use super::cost::Cost;
use super::pixels::{Layout, Pixels};
use super::sniff::Admitted;
use super::{UploadError, Uploads, decode, scale};

/// The size a picture is wanted in, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// An upload in the store, as its row tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Length of the file.
    pub bytes: u64,
}

impl Stored {
    /// What reading, decoding and scaling it takes at most.
    fn cost(self) -> Cost {
        Cost::of_stored(self.width, self.height, self.bytes)
    }
}

impl Uploads {
    /// An upload as red, green and blue in the size wanted, `3 × width × height` bytes. What does not fit its shape is
    /// cut off evenly on both sides; what is transparent lies on white. `read` is begun once there is memory for it.
    ///
    /// # Errors
    /// Those of `read`; [`UploadError::Busy`], or [`UploadError::Internal`] when it is no picture of ours.
    pub async fn to_rgb<E: From<UploadError>>(
        &self,
        stored: Stored,
        read: impl Future<Output = Result<Bytes, E>>,
        wanted: Wanted,
    ) -> Result<Vec<u8>, E> {
        let turn = move |pixels| Ok(over_white(cover(pixels, wanted)?));
        self.turned_into(stored, read, turn).await
    }

    /// An upload as a mask in the size wanted, one byte a pixel, 255 where it is painted anew. Where a mask has any
    /// pixel that is at least half transparent, its transparent parts are meant, as in the OpenAI API; else its white
    /// parts, whatever is left of its opacity.
    ///
    /// # Errors
    /// As [`Uploads::to_rgb`].
    pub async fn to_mask<E: From<UploadError>>(
        &self,
        stored: Stored,
        read: impl Future<Output = Result<Bytes, E>>,
        wanted: Wanted,
    ) -> Result<Vec<u8>, E> {
        let turn = move |pixels: Pixels| {
            let gray = Pixels {
                data: levels(&pixels),
                layout: Layout::Gray,
                ..pixels
            };
            Ok(cover(gray, wanted)?.data)
        };
        self.turned_into(stored, read, turn).await
    }

    async fn turned_into<E: From<UploadError>>(
        &self,
        stored: Stored,
        read: impl Future<Output = Result<Bytes, E>>,
        turn: impl FnOnce(Pixels) -> Result<Vec<u8>, UploadError> + Send + 'static,
    ) -> Result<Vec<u8>, E> {
        // Nothing of it is in memory while it waits.
        let _turn = self.admit(stored.cost(), 0).await?;
        let png = read.await?;
        Ok(self.decoded(stored, png, turn).await?)
    }

    /// Decodes a stored upload, for which there is memory by now.
    async fn decoded(
        &self,
        stored: Stored,
        png: Bytes,
        turn: impl FnOnce(Pixels) -> Result<Vec<u8>, UploadError> + Send + 'static,
    ) -> Result<Vec<u8>, UploadError> {
        let limits = self.settings().image;
        // The limits of today may be narrower than those that this picture once met.
        let ours = |error: UploadError| UploadError::Internal(format!("a stored upload: {error}"));
        let image = Admitted::read(
            &png,
            &super::Limits {
                max_bytes: u64::MAX,
                ..limits
            },
        )
        .map_err(ours)?;
        let area = |width, height| u64::from(width) * u64::from(height);
        let is_larger = area(image.width, image.height) > area(stored.width, stored.height);
        if png.len() as u64 > stored.bytes || is_larger || image.memory() > stored.cost().memory {
            let text = "a stored upload is larger than its row says";
            return Err(UploadError::Internal(text.into()));
        }
        let work = tokio::task::spawn_blocking(move || {
            let decoded = decode::decode(&png, image, &limits).map_err(ours)?;
            turn(decoded.pixels)
        });
        work.await
            .map_err(|error| UploadError::Internal(error.to_string()))?
    }
}

fn cover(pixels: Pixels, wanted: Wanted) -> Result<Pixels, UploadError> {
    scale::cover(pixels, wanted.width, wanted.height)
}

fn over_white(pixels: Pixels) -> Vec<u8> {
    match pixels.layout {
        Layout::Rgb => pixels.data,
        Layout::Gray => pixels.data.iter().flat_map(|&level| [level; 3]).collect(),
        Layout::Rgba => {
            let blend = |colour: u8, alpha: u8| {
                let (colour, alpha) = (u32::from(colour), u32::from(alpha));
                u8::try_from((colour * alpha + 255 * (255 - alpha) + 127) / 255).unwrap_or(255)
            };
            let whole = pixels.data.as_chunks::<4>().0.iter();
            whole
                .flat_map(|&[red, green, blue, alpha]| {
                    [red, green, blue].map(|colour| blend(colour, alpha))
                })
                .collect()
        }
    }
}

/// How much each pixel is meant, before scaling.
fn levels(pixels: &Pixels) -> Vec<u8> {
    // Rec. 709, on the stored values: a mask is black and white.
    let light = |[red, green, blue]: [u8; 3]| {
        let sum = 54 * u32::from(red) + 183 * u32::from(green) + 19 * u32::from(blue);
        u8::try_from(sum >> 8).unwrap_or(255)
    };
    match pixels.layout {
        Layout::Gray => pixels.data.clone(),
        Layout::Rgb => {
            let whole = pixels.data.as_chunks::<3>().0.iter();
            whole.map(|&pixel| light(pixel)).collect()
        }
        Layout::Rgba => {
            let whole = pixels.data.as_chunks::<4>().0;
            // Programs leave pixels a little less than solid by rounding; nobody means a mask by that.
            if whole.iter().all(|&[_, _, _, alpha]| alpha >= 128) {
                let colours = whole
                    .iter()
                    .map(|&[red, green, blue, _]| [red, green, blue]);
                colours.map(light).collect()
            } else {
                whole.iter().map(|&[_, _, _, alpha]| 255 - alpha).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::upload::{UploadSettings, png};

    fn picture(layout: Layout, width: u32, height: u32, pixel: impl Fn(u32) -> Vec<u8>) -> Bytes {
        let row: Vec<u8> = (0..width).flat_map(pixel).collect();
        let pixels = Pixels {
            width,
            height,
            layout,
            data: row.repeat(height as usize),
        };
        png::encode(pixels, 3).unwrap().into()
    }

    fn uploads() -> Uploads {
        Uploads::new(UploadSettings::default()).unwrap()
    }

    /// The row of such a file, and the file.
    fn stored(png: Bytes) -> (Stored, impl Future<Output = Result<Bytes, UploadError>>) {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        let stored = Stored {
            width: number(16),
            height: number(20),
            bytes: png.len() as u64,
        };
        (stored, std::future::ready(Ok(png)))
    }

    async fn rgb(png: Bytes) -> Vec<u8> {
        let (stored, read) = stored(png);
        uploads().to_rgb(stored, read, SQUARE).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_of_a_stored_picture_is_read_before_there_is_memory_for_it() {
        use futures_util::FutureExt;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let uploads = uploads();
        let large = Stored {
            width: 4096,
            height: 4096,
            bytes: 50 << 20,
        };
        // Its file and twice its pixels.
        assert!(large.cost().memory >= (50 << 20) + (128 << 20));
        let reading = Arc::new(AtomicUsize::new(0));
        let mut waiting: Vec<_> = (0..12)
            .map(|_| {
                let (uploads, reading) = (uploads.clone(), Arc::clone(&reading));
                Box::pin(async move {
                    let read = async {
                        reading.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<Result<Bytes, UploadError>>().await
                    };
                    uploads.to_rgb(large, read, SQUARE).await
                })
            })
            .collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        let begun = reading.load(Ordering::SeqCst) as u64;
        assert!((1..12).contains(&begun), "{begun}");
        let budget = u64::from(uploads.settings().memory_mib) << 20;
        assert!(begun * large.cost().memory <= budget, "{begun}");
    }

    #[tokio::test]
    async fn a_file_that_is_more_than_its_row_says_is_not_decoded() {
        let file = picture(Layout::Rgb, 64, 64, |x| vec![x as u8; 3]);
        let (truth, _) = stored(file.clone());
        for lie in [
            Stored {
                bytes: truth.bytes - 1,
                ..truth
            },
            Stored {
                width: 0,
                bytes: truth.bytes,
                height: 0,
            },
        ] {
            let read = std::future::ready(Ok::<_, UploadError>(file.clone()));
            let refused = uploads().to_rgb(lie, read, SQUARE).await;
            assert!(matches!(refused, Err(UploadError::Internal(_))), "{lie:?}");
        }
    }

    const SQUARE: Wanted = Wanted {
        width: 64,
        height: 64,
    };

    #[tokio::test]
    async fn a_wide_picture_loses_both_its_sides_and_keeps_its_proportions() {
        // Thirds: red, green, blue. The middle square of 3:1 is all green.
        let wide = picture(Layout::Rgb, 300, 100, |x| match x / 100 {
            0 => vec![255, 0, 0],
            1 => vec![0, 255, 0],
            _ => vec![0, 0, 255],
        });
        let rgb = rgb(wide).await;
        assert_eq!(rgb.len(), 64 * 64 * 3);
        let inner = rgb.chunks_exact(3).skip(64 * 32 + 4).take(56);
        for pixel in inner {
            assert_eq!(pixel, [0, 255, 0]);
        }
    }

    #[tokio::test]
    async fn what_is_transparent_lies_on_white() {
        let half = picture(Layout::Rgba, 64, 64, |_| vec![255, 0, 0, 128]);
        let over = rgb(half).await;
        assert_eq!(over.get(..3), Some([255, 127, 127].as_slice()));
        let clear = picture(Layout::Rgba, 64, 64, |x| {
            vec![0, 0, 0, if x == 0 { 255 } else { 0 }]
        });
        let over = rgb(clear).await;
        assert_eq!(over.get(90..93), Some([255, 255, 255].as_slice()));
    }

    #[tokio::test]
    async fn a_pixel_that_is_almost_solid_makes_no_mask_of_opacity() {
        let mask = |odd: u8| {
            picture(Layout::Rgba, 64, 64, move |x| match x {
                0 => vec![0, 0, 0, odd],
                1..32 => vec![0, 0, 0, 255],
                _ => vec![255; 4],
            })
        };
        let paints = async |odd: u8| {
            let (stored, read) = stored(mask(odd));
            uploads().to_mask(stored, read, SQUARE).await.unwrap()
        };
        let solid = paints(255).await;
        assert_eq!((solid.get(10), solid.get(50)), (Some(&0), Some(&255)));
        for odd in [254, 200, 128] {
            assert_eq!(paints(odd).await, solid);
        }
        let clear = paints(127).await;
        assert_eq!((clear.get(10), clear.get(50)), (Some(&0), Some(&0)));
    }

    #[tokio::test]
    async fn a_mask_means_its_white_parts_or_its_transparent_ones() {
        let left =
            |on: Vec<u8>, off: Vec<u8>| move |x: u32| if x < 32 { on.clone() } else { off.clone() };
        for mask in [
            picture(Layout::Gray, 64, 64, left(vec![255], vec![0])),
            picture(Layout::Rgb, 64, 64, left(vec![255; 3], vec![0; 3])),
            picture(Layout::Rgba, 64, 64, left(vec![0; 4], vec![9, 9, 9, 255])),
            picture(Layout::Rgba, 64, 64, left(vec![255; 4], vec![0, 0, 0, 255])),
        ] {
            let (stored, read) = stored(mask);
            let values = uploads().to_mask(stored, read, SQUARE).await.unwrap();
            assert_eq!(values.len(), 64 * 64);
            assert_eq!((values.get(10), values.get(50)), (Some(&255), Some(&0)));
        }
    }
}
