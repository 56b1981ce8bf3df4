//! The one file of a multipart body (RFC 7578), in place: no byte of it is copied.
//!
//! Only the part's field name is read. What clients make of file names (bytes of any encoding, quotes and backslashes
//! escaped or not) is passed over, for it counts for nothing.

use std::ops::Range;

use memchr::memmem;

use super::UploadError;

/// Where the file stands in the body, which must hold it and no other part.
///
/// # Errors
/// [`UploadError::Multipart`], or [`UploadError::BrokenOff`] for a body without its end.
pub fn only_file(content_type: &[u8], body: &[u8]) -> Result<Range<usize>, UploadError> {
    let boundary = boundary(content_type).ok_or(UploadError::Multipart)?;
    let delimiter = [b"--".as_slice(), &boundary].concat();
    let between = [b"\r\n".as_slice(), &delimiter].concat();
    let mut at = if body.starts_with(&delimiter) {
        delimiter.len()
    } else {
        // What stands before the first delimiter is for readers who know no multipart (RFC 2046, 5.1.1).
        memmem::find(body, &between).ok_or(UploadError::Multipart)? + between.len()
    };
    at = line_end(body, at)?.ok_or(UploadError::Multipart)?;
    let rest = body.get(at..).unwrap_or_default();
    // A part without headers has its empty line at once.
    let (headers, start) = if rest.starts_with(b"\r\n") {
        (0, at + 2)
    } else {
        let length = memmem::find(rest, b"\r\n\r\n").ok_or(UploadError::BrokenOff)?;
        (length, at + length + 4)
    };
    let headers = rest.get(..headers).unwrap_or_default();
    match field_name(headers).as_deref() {
        Some(b"file" | b"image") => {}
        _ => return Err(UploadError::Multipart),
    }
    // The empty file of an empty part ends with the line break that its headers ended with.
    let from = start.saturating_sub(2);
    let found = body
        .get(from..)
        .and_then(|rest| memmem::find(rest, &between));
    let end = from + found.ok_or(UploadError::BrokenOff)?;
    match line_end(body, end + between.len())? {
        None => Ok(start..end.max(start)),
        Some(_) => Err(UploadError::Multipart),
    }
}

/// Behind a delimiter: where the next part begins, or none where it was the last.
fn line_end(body: &[u8], at: usize) -> Result<Option<usize>, UploadError> {
    let rest = body.get(at..).unwrap_or_default();
    if rest.starts_with(b"--") {
        return Ok(None);
    }
    let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    let padding = padding.count();
    match rest.get(padding..padding + 2) {
        Some(b"\r\n") => Ok(Some(at + padding + 2)),
        Some(_) => Err(UploadError::Multipart),
        None => Err(UploadError::BrokenOff),
    }
}

/// The boundary of a content type: 1 to 70 bytes (RFC 2046, 5.1.1).
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    parameter(content_type, b"boundary").filter(|value| (1..=70).contains(&value.len()))
}

/// The field name of a part's headers.
fn field_name(headers: &[u8]) -> Option<Vec<u8>> {
    let lines = headers
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-disposition") {
            return parameter(value, b"name");
        }
    }
    None
}

/// A parameter of a header value, the first of its name. A quote ends a value where a semicolon or nothing follows it:
/// so `"C:\dir\"` ends with its backslash, as its sender meant, and `"a\"b"` with its b.
fn parameter(value: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = skip_to(value, b';')?;
    loop {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|&byte| matches!(byte, b'=' | b';'))?;
        let (name, after) = rest.split_at(end);
        let Some(after) = after.strip_prefix(b"=") else {
            rest = skip_to(after, b';')?;
            continue;
        };
        let after = after.trim_ascii_start();
        let (value, next) = match after.strip_prefix(b"\"") {
            Some(quoted) => quoted_value(quoted),
            None => {
                let end = after.iter().position(|&byte| byte == b';');
                let (value, next) = after.split_at(end.unwrap_or(after.len()));
                (value.trim_ascii_end(), next)
            }
        };
        if name.trim_ascii_end().eq_ignore_ascii_case(wanted) {
            return Some(value.to_vec());
        }
        rest = skip_to(next, b';')?;
    }
}

/// What stands before the closing quote, and what behind it.
fn quoted_value(quoted: &[u8]) -> (&[u8], &[u8]) {
    let closes = |at: usize| {
        let after = quoted.get(at + 1..).unwrap_or_default().trim_ascii_start();
        after.is_empty() || after.starts_with(b";")
    };
    let quotes = quoted.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    match quotes.map(|(at, _)| at).find(|&at| closes(at)) {
        Some(at) => (
            quoted.get(..at).unwrap_or_default(),
            quoted.get(at + 1..).unwrap_or_default(),
        ),
        None => (quoted, &[]),
    }
}

/// What follows the first byte of this kind.
fn skip_to(bytes: &[u8], byte: u8) -> Option<&[u8]> {
    let at = bytes.iter().position(|&one| one == byte)?;
    bytes.get(at + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=BND";

    fn body(disposition: &[u8], file: &[u8]) -> Vec<u8> {
        [
            b"--BND\r\nContent-Disposition: form-data".as_slice(),
            disposition,
            b"\r\nContent-Type: image/png\r\n\r\n",
            file,
            b"\r\n--BND--\r\n",
        ]
        .concat()
    }

    fn read<'a>(content_type: &[u8], body: &'a [u8]) -> Result<&'a [u8], &'static str> {
        only_file(content_type, body)
            .map(|range| &body[range])
            .map_err(|error| error.code())
    }

    #[test]
    fn no_file_name_keeps_a_file_from_being_read() {
        for disposition in [
            b"; name=\"file\"; filename=\"x.png\"".as_slice(),
            b"; name=\"file\"; filename=\"\xce\xc4\xbc\xfe.png\"",
            b"; name=\"file\"; filename=\"C:\\pictures\\\"",
            b"; filename=\"C:\\pictures\\\"; name=\"file\"",
            b"; filename=\"a\\\"; b\"; name=image",
            b"; filename=\"say \\\"cheese\\\"\"; name=\"image\"",
            b"; filename=\"name=other\"; name=\"file\"",
            b"; filename*=UTF-8''%e6%96%87.png; Name = \"file\"",
            b";name=file;filename=x y.png",
            b"; name=\"file\"; filename=\"\"",
            b"; name=\"file\"; filename=\"unclosed",
        ] {
            let body = body(disposition, b"data");
            assert_eq!(read(TYPE, &body), Ok(b"data".as_slice()), "{disposition:?}");
        }
    }

    #[test]
    fn the_boundary_is_read_quoted_and_not() {
        let body = body(b"; name=file", b"a\r\n--BNX\r\n");
        for content_type in [
            b"multipart/form-data; boundary=\"BND\"".as_slice(),
            b"multipart/form-data; charset=utf-8; Boundary=BND",
            b"multipart/form-data;boundary=BND; x=y",
        ] {
            assert_eq!(read(content_type, &body), Ok(b"a\r\n--BNX\r\n".as_slice()));
        }
        for content_type in [
            b"multipart/form-data".as_slice(),
            b"multipart/form-data; boundary=",
        ] {
            assert_eq!(read(content_type, &body), Err("malformed_multipart"));
        }
    }

    #[test]
    fn what_is_not_one_whole_file_is_refused() {
        let whole = body(b"; name=file", b"data");
        for (body, code) in [
            (b"--BND--\r\n".to_vec(), "malformed_multipart"),
            (
                b"--BND\r\n\r\ndata\r\n--BND--".to_vec(),
                "malformed_multipart",
            ),
            (body(b"; name=other", b"data"), "malformed_multipart"),
            (body(b"; filename=file", b"data"), "malformed_multipart"),
            (
                [&whole[..whole.len() - 4], b"\r\n"].concat(),
                "malformed_multipart",
            ),
            (whole[..whole.len() - 4].to_vec(), "body_incomplete"),
            (whole[..60].to_vec(), "body_incomplete"),
        ] {
            assert_eq!(
                read(TYPE, &body),
                Err(code),
                "{:?}",
                String::from_utf8_lossy(&body)
            );
        }
        let before = [b"for old readers\r\n".as_slice(), &whole, b"after"].concat();
        assert_eq!(read(TYPE, &before), Ok(b"data".as_slice()));
        assert_eq!(read(TYPE, &body(b"; name=file", b"")), Ok(b"".as_slice()));
    }

    proptest! {
        #[test]
        fn the_file_comes_out_as_it_went_in(
            name in prop::collection::vec(any::<u8>().prop_filter("a line", |b| !b"\r\n\";".contains(b)), 0..40),
            file in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assume!(memmem::find(&file, b"--BND").is_none());
            let disposition = [b"; filename=\"".as_slice(), &name, b"\"; name=\"file\""].concat();
            let body = body(&disposition, &file);
            prop_assert_eq!(read(TYPE, &body), Ok(file.as_slice()));
        }

        #[test]
        fn no_bytes_make_it_panic(
            content_type in prop::collection::vec(any::<u8>(), 0..40),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = only_file(&[b"multipart/form-data; boundary=".as_slice(), &content_type].concat(), &rest);
            let _ = only_file(TYPE, &[b"--BND\r\nContent-Disposition: form-data; ".as_slice(), &rest].concat());
        }
    }
}
