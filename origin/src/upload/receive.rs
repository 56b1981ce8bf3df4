//! Taking an upload off the wire: counted while it passes, and not for ever.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use shared::edge_auth::DIGEST_UP_TO;
use tokio::time::timeout;

use super::{UploadError, UploadSettings, multipart};

/// What a multipart body may hold besides the file: its boundaries and headers.
const WRAPPING: u64 = 64 << 10;

/// The file in a request's body, which is the body itself or the only part of a multipart one.
/// What the sender calls it, or says it is, counts for nothing.
///
/// `signed` is asked about every body before a byte of it is used: with the whole of one up to [`DIGEST_UP_TO`] bytes,
/// whose digest the edge signs, and with nothing about a longer one.
///
/// # Errors
/// Too large, too slow, broken off, not the edge's, or a multipart body of another make.
pub async fn receive(
    headers: &HeaderMap,
    body: Payload,
    settings: &UploadSettings,
    signed: impl Fn(Option<&[u8]>) -> bool,
) -> Result<Bytes, UploadError> {
    let limit = settings.image.max_bytes;
    let too_large = UploadError::TooLarge { limit };
    if is_encoded(headers) {
        return Err(UploadError::Compressed);
    }
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let content_type = content_type.filter(|value| {
        let start = value.get(..10).unwrap_or_default();
        start.eq_ignore_ascii_case(b"multipart/")
    });
    let is_multipart = content_type.is_some();
    let most = if is_multipart {
        limit + WRAPPING
    } else {
        limit
    };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if announced
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|length| length > most)
    {
        return Err(too_large);
    }
    let read = async {
        let mut body = counted(body, most).boxed_local();
        let (start, whole) = beginning(&mut body, limit).await?;
        if !signed(whole.then_some(start.as_ref())) {
            return Err(UploadError::NotSigned);
        }
        let body = stream::once(std::future::ready(Ok(start))).chain(body);
        let chunks = body.map_err(|error| broken(&error, limit));
        let whole = collect(chunks, most, limit).await?;
        let Some(content_type) = content_type else {
            return Ok(whole);
        };
        let file = whole.slice(multipart::only_file(content_type, &whole)?);
        match file.len() as u64 {
            0 => Err(UploadError::Empty),
            length if length > limit => Err(UploadError::TooLarge { limit }),
            _ => Ok(file),
        }
    };
    match timeout(Duration::from_secs(settings.receive_seconds), read).await {
        Ok(done) => done,
        Err(_) => Err(UploadError::TooSlow {
            seconds: settings.receive_seconds,
        }),
    }
}

/// The body, ending with an error once it is longer than allowed: parts without a file count too.
fn counted(body: Payload, most: u64) -> impl Stream<Item = Result<Bytes, PayloadError>> + 'static {
    stream::try_unfold((body, most), |(mut body, left)| async move {
        let Some(chunk) = body.next().await.transpose()? else {
            return Ok(None);
        };
        match left.checked_sub(chunk.len() as u64) {
            Some(left) => Ok(Some((chunk, (body, left)))),
            None => Err(PayloadError::Overflow),
        }
    })
}

/// The body up to just over [`DIGEST_UP_TO`] bytes, and whether that is all of it.
async fn beginning(
    body: &mut (impl Stream<Item = Result<Bytes, PayloadError>> + Unpin),
    limit: u64,
) -> Result<(Bytes, bool), UploadError> {
    let mut start = BytesMut::new();
    while start.len() <= DIGEST_UP_TO {
        match body.try_next().await {
            Ok(Some(chunk)) => start.extend_from_slice(&chunk),
            Ok(None) => return Ok((start.freeze(), true)),
            Err(error) => return Err(broken(&error, limit)),
        }
    }
    Ok((start.freeze(), false))
}

fn broken(error: &PayloadError, limit: u64) -> UploadError {
    match error {
        PayloadError::Overflow => UploadError::TooLarge { limit },
        _ => UploadError::BrokenOff,
    }
}

/// Whether the body is compressed as a whole (RFC 9110, 8.4), which no picture gains by.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

async fn collect(
    mut chunks: impl Stream<Item = Result<Bytes, UploadError>> + Unpin,
    most: u64,
    limit: u64,
) -> Result<Bytes, UploadError> {
    let mut file = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        if (file.len() + chunk.len()) as u64 > most {
            return Err(UploadError::TooLarge { limit });
        }
        file.extend_from_slice(&chunk);
    }
    if file.is_empty() {
        Err(UploadError::Empty)
    } else {
        Ok(file.freeze())
    }
}
