//! An S3 server's failures in the store's words.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStreamError;

use super::code_of;
use crate::storage::StoreError;

/// The HTTP status of an answer, when there was one.
pub fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// Any failed call.
pub fn failure<E>(error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let (code, message) = (
                code_of(service.err()),
                service.err().message().unwrap_or_default(),
            );
            let status = service.raw().status().as_u16();
            let text = format!("{status} {code} {message}").trim().to_owned();
            by_answer(code, status, text)
        }
        SdkError::ConstructionFailure(_) => StoreError::Settings(chain(&error)),
        // An answer that could not be read: a cut connection or a page from something in between.
        SdkError::ResponseError(_) => match status(&error) {
            Some(status) if status >= 300 => by_answer("", status, chain(&error)),
            _ => StoreError::Unreachable(chain(&error)),
        },
        _ => StoreError::Unreachable(chain(&error)),
    }
}

fn by_answer(code: &str, status: u16, text: String) -> StoreError {
    match (code, status) {
        ("NoSuchBucket", _) => StoreError::MissingBucket(text),
        ("QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "EntityTooLarge", _)
        | (_, 507) => StoreError::Full(text),
        ("SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests", _)
        | ("RequestLimitExceeded" | "ServiceUnavailable", _)
        | (_, 429 | 503) => StoreError::Throttled(text),
        ("PreconditionFailed", _) | (_, 412) => StoreError::Exists,
        ("BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch", _)
        | ("XAmzContentChecksumMismatch" | "IncompleteBody", _) => StoreError::Corrupt(text),
        ("RequestTimeout" | "InternalError" | "ConditionalRequestConflict", _) | (_, 500..) => {
            StoreError::Unreachable(text)
        }
        ("NoSuchKey" | "NotFound" | "NoSuchUpload", _) | (_, 404) => StoreError::NotFound,
        (_, 401 | 403) => StoreError::Denied(text),
        _ => StoreError::Other(text),
    }
}

/// A failure while an object's bytes arrive.
pub fn body_failure(error: &ByteStreamError) -> StoreError {
    let text = chain(error);
    // The SDK's type for a wrong checksum is not public; its words have to do.
    if text.contains("checksum") {
        StoreError::Corrupt(text)
    } else {
        StoreError::Unreachable(text)
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_the_code_an_operator_needs() {
        for (code, status, wanted) in [
            ("NoSuchBucket", 404, "missing_bucket"),
            ("NoSuchKey", 404, "not_found"),
            ("", 404, "not_found"),
            ("SignatureDoesNotMatch", 403, "denied"),
            ("", 401, "denied"),
            ("SlowDown", 503, "throttled"),
            ("", 429, "throttled"),
            ("", 502, "unreachable"),
            ("InternalError", 500, "unreachable"),
            ("", 507, "full"),
            ("BadDigest", 400, "corrupt"),
            ("PreconditionFailed", 412, "exists"),
            ("Teapot", 418, "other"),
        ] {
            assert_eq!(
                by_answer(code, status, String::new()).code(),
                wanted,
                "{code} {status}"
            );
        }
    }
}
