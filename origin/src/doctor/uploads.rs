//! Rows about uploads: judged by content, drawn anew, bounded.

use hyper::Method;
use serde_json::Value;

use super::http::Ask;
use super::visit::{Probe, Visit};
use super::{Finding, Verdict, ensure};

/// Stands in every place of the picture where metadata can hide.
const CANARY: &str = "signet-doctor-canary";
/// A side of the picture, in pixels.
const SIDE: u32 = 96;
/// More than any body of JSON may have.
const MUCH_JSON: usize = 320 << 10;
/// More than a file of 10 MiB and the form around it.
const MUCH_UPLOAD: usize = (10 << 20) + (64 << 10) + 1;

/// Uploads a picture full of metadata.
///
/// # Errors
/// Why there is none.
pub async fn make_probe(visit: &Visit) -> Result<Probe, Finding> {
    let (edge, token) = (visit.edge()?, visit.token()?);
    let picture = picture().map_err(|error| Finding::Skipped(error.to_string()))?;
    let answer = visit
        .patiently(&visit.http, || {
            Ask::post(edge, "/api/upload")
                .token(token)
                .body("image/jpeg", picture.clone())
        })
        .await?;
    let json = answer.json();
    let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    match (text("id"), text("key"), text("url")) {
        (Some(id), Some(key), Some(url)) if answer.status == 200 => {
            visit.keep_quiet_about(url.rsplit_once("sig=").map_or("", |(_, sig)| sig));
            let bytes = json
                .get("bytes")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            Ok(Probe {
                id,
                key,
                url,
                bytes,
            })
        }
        _ => Err(Finding::Fail(format!(
            "POST /api/upload of a JPEG: {}",
            answer.told()
        ))),
    }
}

/// A JPEG with the canary in Exif, XMP, a comment and behind its end.
fn picture() -> Result<Vec<u8>, image::ImageError> {
    let mut pixels = image::RgbImage::new(SIDE, SIDE);
    for (x, y, pixel) in pixels.enumerate_pixels_mut() {
        let [x, y] = [x, y].map(|at| u8::try_from(at * 2).unwrap_or(u8::MAX));
        *pixel = image::Rgb([x, y, 128]);
    }
    let mut plain = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut plain, image::ImageFormat::Jpeg)?;
    let plain = plain.into_inner();
    let (start, rest) = plain.split_at(plain.len().min(2));
    let mut file = start.to_vec();
    let exif = [b"Exif\0\0".as_slice(), &exif()].concat();
    let xmp = format!(
        "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'>{CANARY}</x:xmpmeta>"
    );
    for (marker, content) in [
        (0xe1, exif.as_slice()),
        (0xe1, xmp.as_bytes()),
        (0xfe, CANARY.as_bytes()),
    ] {
        let length = u16::try_from(content.len() + 2).unwrap_or(u16::MAX);
        file.extend([0xff, marker]);
        file.extend(length.to_be_bytes());
        file.extend(content);
    }
    file.extend(rest);
    file.extend(CANARY.as_bytes());
    Ok(file)
}

/// A TIFF header with one entry, ImageDescription.
fn exif() -> Vec<u8> {
    let mut out = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x0e\0\x02".to_vec();
    out.extend(
        u32::try_from(CANARY.len() + 1)
            .unwrap_or_default()
            .to_be_bytes(),
    );
    out.extend([0, 0, 0, 26, 0, 0, 0, 0]);
    out.extend(CANARY.as_bytes());
    out.push(0);
    out
}

/// The upload's link gives a PNG of the same size in which nothing of the metadata is left.
pub async fn reencoded(visit: &Visit) -> Verdict {
    let probe = visit.probe.as_ref().map_err(Clone::clone)?;
    let answer = visit.open(visit.link()?).await?;
    let sent = "uploaded a JPEG with Exif, XMP, a comment and bytes behind its end";
    ensure(answer.status == 200, || {
        format!("{sent}; its link: {}", answer.told())
    })?;
    let chunks = png_chunks(&answer.body)
        .ok_or_else(|| Finding::Fail(format!("{sent}; what came back is no whole PNG")))?;
    let has = |needle: &str| {
        answer
            .body
            .windows(needle.len())
            .any(|part| part == needle.as_bytes())
    };
    ensure(!has(CANARY), || {
        format!("{sent}; what came back still holds what stood in them")
    })?;
    let odd: Vec<&String> = chunks
        .iter()
        .filter(|name| {
            ![
                "IHDR", "PLTE", "tRNS", "IDAT", "IEND", "sRGB", "gAMA", "cHRM",
            ]
            .contains(&name.as_str())
        })
        .collect();
    ensure(odd.is_empty(), || {
        format!("{sent}; what came back has the PNG chunks {odd:?}")
    })?;
    let size = image::ImageReader::with_format(
        std::io::Cursor::new(&answer.body),
        image::ImageFormat::Png,
    )
    .into_dimensions();
    ensure(matches!(size, Ok((SIDE, SIDE))), || {
        format!("{sent}; what came back is no picture of {SIDE}×{SIDE}")
    })?;
    ensure(probe.bytes == answer.body.len() as u64, || {
        format!(
            "{sent}; {} bytes came back and {} were told",
            answer.body.len(),
            probe.bytes
        )
    })?;
    Ok(format!(
        "{sent}; its link gave a PNG of {} bytes with pixels alone in it (chunks {})",
        answer.body.len(),
        names(&chunks)
    ))
}

fn names(chunks: &[String]) -> String {
    let mut names = chunks.to_vec();
    names.dedup();
    names.join(" ")
}

/// The names of a PNG's chunks; none for a file that is no PNG or has something behind its end.
fn png_chunks(file: &[u8]) -> Option<Vec<String>> {
    let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let mut names = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest = after.get(length.checked_add(4)?..)?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    (rest.is_empty() && names.last().is_some_and(|name| name == "IEND")).then_some(names)
}

/// Files that say to be pictures and are not, and a picture that says to be a page.
pub async fn by_content(visit: &Visit) -> Verdict {
    let (edge, token) = (visit.edge()?, visit.token()?);
    visit.probe()?;
    let mut saw = Vec::new();
    for (what, media, body) in [
        (
            "SVG with a script, called image/png",
            "image/png",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>".as_slice(),
        ),
        (
            "HTML, called image/jpeg",
            "image/jpeg",
            b"<!doctype html><script>1</script>".as_slice(),
        ),
    ] {
        let answer = visit
            .patiently(&visit.http, || {
                Ask::post(edge, "/api/upload")
                    .token(token)
                    .body(media, body)
            })
            .await?;
        if let Some(id) = answer.json().get("id").and_then(Value::as_str) {
            let _ = visit.delete_image(id).await;
        }
        ensure(matches!(answer.status, 415 | 422), || {
            format!("POST /api/upload of {what}: {}, wanted 415", answer.told())
        })?;
        saw.push(format!("{what} {}", answer.told()));
    }
    let picture = tiny_png().map_err(|error| Finding::Skipped(error.to_string()))?;
    let answer = visit
        .patiently(&visit.http, || {
            Ask::post(edge, "/api/upload")
                .token(token)
                .body("text/html", picture.clone())
        })
        .await?;
    if let Some(id) = answer.json().get("id").and_then(Value::as_str) {
        let _ = visit.delete_image(id).await;
    }
    ensure(answer.status == 200, || {
        format!(
            "POST /api/upload of a PNG called text/html: {}; its content makes it a PNG",
            answer.told()
        )
    })?;
    saw.push("a PNG called text/html 200".into());
    Ok(format!("POST /api/upload: {}", saw.join("; ")))
}

fn tiny_png() -> Result<Vec<u8>, image::ImageError> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(16, 16).write_to(&mut file, image::ImageFormat::Png)?;
    Ok(file.into_inner())
}

/// Bodies over the limit, with their length announced and without.
pub async fn body_limit(visit: &Visit) -> Verdict {
    let (edge, token) = (visit.edge()?, visit.token()?);
    let mut saw = Vec::new();
    for (target, media, length, announced) in [
        ("/api/generate", "application/json", MUCH_JSON, true),
        ("/api/generate", "application/json", MUCH_JSON, false),
        ("/api/upload", "image/png", MUCH_UPLOAD, true),
    ] {
        let how = if announced { "announced" } else { "in chunks" };
        let ask = || {
            Ask::new(edge, Method::POST, target)
                .token(token)
                .zeros(media, length, announced)
        };
        // A server that has seen enough may close while we still send: that is once more a refusal, seen better in a
        // second try.
        let mut answer = visit.http.send(ask()).await;
        for _ in 0..2 {
            if answer.is_err() {
                answer = visit.http.send(ask()).await;
            }
        }
        let answer = answer?;
        ensure(answer.status == 413, || {
            format!(
                "POST {target} of {length} bytes, {how}: {}, wanted 413",
                answer.told()
            )
        })?;
        saw.push(format!(
            "POST {target} of {length} bytes, {how}, {}",
            answer.told()
        ));
    }
    Ok(saw.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_picture_is_a_jpeg_that_hides_the_canary_four_times() {
        let file = picture().unwrap();
        let decoded = image::load_from_memory(&file).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (SIDE, SIDE));
        let found = file
            .windows(CANARY.len())
            .filter(|part| *part == CANARY.as_bytes());
        assert_eq!(found.count(), 4);
    }

    #[test]
    fn what_stands_behind_a_pngs_end_is_noticed() {
        let mut file = tiny_png().unwrap();
        assert_eq!(png_chunks(&file).unwrap().first().unwrap(), "IHDR");
        file.push(0);
        assert_eq!(png_chunks(&file), None);
        assert_eq!(png_chunks(b"GIF89a"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_png_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let file = [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes].concat();
            let _ = png_chunks(&file);
        }
    }
}
