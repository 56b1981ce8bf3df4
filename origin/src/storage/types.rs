//! What goes into a store and what comes out of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use shared::object_key::ObjectKey;

use super::StoreError;

/// One range of bytes, as a `Range` header can ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From this offset to the end.
    From(u64),
    /// From the first offset to the second, both included. The end may lie behind the object's.
    Between(u64, u64),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// First byte and length of the range in an object of `size` bytes.
    ///
    /// # Errors
    /// [`StoreError::Range`] when no byte of the object lies in it.
    pub fn resolve(self, size: u64) -> Result<(u64, u64), StoreError> {
        let (start, end) = match self {
            Self::From(start) => (start, size),
            Self::Between(start, last) => (start, last.saturating_add(1).min(size)),
            Self::Last(count) => (size.saturating_sub(count), size),
        };
        if start < end {
            Ok((start, end - start))
        } else {
            Err(StoreError::Range { size })
        }
    }

    /// The value of a `Range` header.
    pub fn to_header(self) -> String {
        match self {
            Self::From(start) => format!("bytes={start}-"),
            Self::Between(start, last) => format!("bytes={start}-{last}"),
            Self::Last(count) => format!("bytes=-{count}"),
        }
    }
}

/// What a store knows about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Size of the whole object in bytes.
    pub size: u64,
    /// A strong entity tag with its quotes, as it stands in an `ETag` header.
    pub etag: String,
    /// When it was written; `None` when the store does not say.
    pub modified: Option<SystemTime>,
}

impl ObjectInfo {
    /// The media type, which follows from the key alone and never from what a store or sender says.
    pub fn content_type(&self) -> &'static str {
        self.key.content_type()
    }
}

/// What a finished write tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutInfo {
    /// The new object's entity tag with its quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An object that is being read.
#[derive(Debug)]
pub struct Object {
    /// The whole object, also when only a range of it was asked for.
    pub info: ObjectInfo,
    /// First byte and length of what `body` holds.
    pub span: (u64, u64),
    /// The bytes.
    pub body: Body,
}

/// A write that was begun and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The temporary file, or the key that was to be written.
    pub name: String,
    /// The upload's id, at an S3 server.
    pub upload: Option<String>,
    /// Bytes so far, where the store says.
    pub size: Option<u64>,
    /// When it was begun or last written to.
    pub begun: Option<SystemTime>,
}

/// One page of a listing, in ascending byte order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<ObjectInfo>,
    /// What lies in the store but has a name that no object can have. Never read, never deleted.
    pub foreign: Vec<String>,
    /// Where the next page starts, when there is one.
    pub next: Option<String>,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// A stream of an object's bytes. It ends with an error when fewer bytes than promised arrive, so
/// that a shortened object never looks whole.
pub struct Body {
    chunks: Chunks,
    left: u64,
    failed: bool,
}

impl Body {
    /// Wraps a backend's stream that should hold `length` bytes.
    pub(super) fn new(
        length: u64,
        chunks: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
    ) -> Self {
        Self {
            chunks: Box::pin(chunks),
            left: length,
            failed: false,
        }
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    /// Reads all of it into memory; the caller has looked at the size before.
    ///
    /// # Errors
    /// Whatever the backend meets while reading.
    pub async fn collect(mut self) -> Result<Bytes, StoreError> {
        // The size is the store's claim: memory grows with what arrives, past the first MiB.
        let mut whole = BytesMut::with_capacity(self.left.min(1 << 20) as usize);
        while let Some(chunk) = self.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }
}

impl Stream for Body {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let item = match std::task::ready!(self.chunks.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Some(Ok(chunk))
                }
                None => Some(Err(StoreError::Corrupt("more bytes than announced".into()))),
            },
            None if self.left > 0 => Some(Err(StoreError::Corrupt(format!(
                "{} bytes are missing",
                self.left
            )))),
            end => end,
        };
        self.failed = matches!(item, Some(Err(_)) | None);
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_body_that_ends_early_is_corrupt() {
        let body = Body::new(5, stream::iter([Ok(Bytes::from_static(b"abc"))]));
        assert_eq!(body.collect().await.unwrap_err().code(), "corrupt");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_corrupt() {
        let body = Body::new(2, stream::iter([Ok(Bytes::from_static(b"abc"))]));
        assert_eq!(body.collect().await.unwrap_err().code(), "corrupt");
    }

    proptest! {
        #[test]
        fn a_resolved_range_lies_inside_the_object(size in 0u64..50, a in 0u64..60, b in 0u64..60) {
            let whole: Vec<u64> = (0..size).collect();
            for (range, wanted) in [
                (ByteRange::From(a), whole.iter().filter(|i| **i >= a).count()),
                (ByteRange::Between(a, b), whole.iter().filter(|i| (a..=b).contains(i)).count()),
                (ByteRange::Last(a), a.min(size) as usize),
            ] {
                match range.resolve(size) {
                    Ok((start, length)) => {
                        prop_assert!(length > 0 && start + length <= size);
                        prop_assert_eq!(length as usize, wanted);
                    }
                    Err(error) => {
                        prop_assert_eq!(error, StoreError::Range { size });
                        prop_assert_eq!(wanted, 0);
                    }
                }
            }
        }
    }
}
