//! The store in an S3 bucket: Cloudflare R2 or any other server of the protocol.
//!
//! The SDK retries with growing random waits and checks checksums; nothing is taken from its
//! default places for credentials, regions or proxies.

mod connect;
mod failure;
mod lifecycle;
mod multipart;
mod unfinished;

use std::time::SystemTime;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::MetadataDirective;
use bytes::Bytes;
use futures_util::stream;
use shared::object_key::ObjectKey;

use super::{Body, ByteRange, Listing, Object, ObjectInfo, PutInfo, S3Settings, StoreError};
use failure::{failure, status};

/// Objects in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    part_bytes: u64,
}

impl S3Store {
    /// Prepares the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Settings`].
    pub fn open(settings: &S3Settings) -> Result<Self, StoreError> {
        Ok(Self {
            client: Client::from_conf(connect::config(settings)?),
            bucket: settings.bucket.clone(),
            part_bytes: settings.part_bytes,
        })
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        // A listing, unlike HeadBucket, answers failures with a body that says which one.
        self.list("", None, 1).await.map(drop)
    }

    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        only_new: bool,
    ) -> Result<PutInfo, StoreError> {
        let size = bytes.len() as u64;
        let written = if size > self.part_bytes {
            self.write_parts(key, &bytes, only_new).await
        } else {
            self.write_whole(key, bytes, only_new).await
        };
        written.map(|etag| PutInfo { etag, size })
    }

    async fn write_whole(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        only_new: bool,
    ) -> Result<String, StoreError> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .content_type(key.content_type())
            .set_if_none_match(only_new.then(|| "*".to_owned()))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(failure)?;
        Ok(put.e_tag.unwrap_or_default())
    }

    pub(super) async fn get(
        &self,
        key: &ObjectKey,
        range: Option<ByteRange>,
    ) -> Result<Object, StoreError> {
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_range(range.map(ByteRange::to_header))
            .send()
            .await;
        let object = match got {
            Ok(object) => object,
            Err(error) if status(&error) == Some(416) => {
                let size = self.head(key).await?.size;
                return Err(StoreError::Range { size });
            }
            Err(error) => return Err(failure(error)),
        };
        let (span, size) = span(&object)?;
        let info = info(key.clone(), Some(size), object.e_tag, object.last_modified)?;
        let body = Body::new(span.1, chunks(object.body));
        Ok(Object { info, span, body })
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .send()
            .await
            .map_err(failure)?;
        let size = head
            .content_length
            .and_then(|size| u64::try_from(size).ok());
        info(key.clone(), size, head.e_tag, head.last_modified)
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .send()
            .await;
        match deleted.map_err(failure) {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A copy inside the store, then the old key away.
    pub(super) async fn rename(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), StoreError> {
        if from == to {
            return self.head(from).await.map(drop);
        }
        let copied = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(to.as_str())
            .copy_source(format!("{}/{}", self.bucket, from.as_str()))
            .metadata_directive(MetadataDirective::Replace)
            .content_type(to.content_type())
            .send()
            .await;
        match copied.map_err(failure) {
            Ok(_) => self.delete(from).await,
            Err(StoreError::NotFound) => self.head(to).await.map(drop),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(cursor.map(str::to_owned))
            .max_keys(i32::try_from(limit).unwrap_or(1000))
            .send()
            .await
            .map_err(failure)?;
        let mut listing = Listing::default();
        let mut last = None;
        for object in page.contents.unwrap_or_default() {
            let Some(name) = object.key else { continue };
            last = Some(name.clone());
            let size = object.size.and_then(|size| u64::try_from(size).ok());
            match ObjectKey::parse(&name) {
                Ok(key) => {
                    listing
                        .objects
                        .push(info(key, size, object.e_tag, object.last_modified)?);
                }
                Err(_) => listing.foreign.push(name),
            }
        }
        listing.next = if page.is_truncated == Some(true) {
            last
        } else {
            None
        };
        Ok(listing)
    }
}

/// Which bytes an answer holds, as (first, length), and the size of the whole object.
fn span(object: &GetObjectOutput) -> Result<((u64, u64), u64), StoreError> {
    let odd = || StoreError::Other("an answer with an impossible length or range".into());
    let length = object
        .content_length
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(odd)?;
    let Some(range) = &object.content_range else {
        return Ok(((0, length), length));
    };
    parse_content_range(range)
        .filter(|(span, _)| span.1 == length)
        .ok_or_else(odd)
}

/// `bytes FIRST-LAST/SIZE` as ((first, length), size).
fn parse_content_range(value: &str) -> Option<((u64, u64), u64)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then(|| ((first, last - first + 1), size))
}

fn info(
    key: ObjectKey,
    size: Option<u64>,
    etag: Option<String>,
    modified: Option<DateTime>,
) -> Result<ObjectInfo, StoreError> {
    let size = size.ok_or_else(|| StoreError::Other("the store tells no size".into()))?;
    let modified = modified.and_then(|time| SystemTime::try_from(time).ok());
    Ok(ObjectInfo {
        key,
        size,
        etag: etag.unwrap_or_default(),
        modified,
    })
}

fn chunks(
    body: ByteStream,
) -> impl futures_util::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    stream::unfold(body, |mut body| async move {
        let chunk = body
            .next()
            .await?
            .map_err(|error| failure::body_failure(&error));
        Some((chunk, body))
    })
}

/// The error code that a server put into its answer.
fn code_of(error: &impl ProvideErrorMetadata) -> &str {
    error.code().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(parse_content_range("bytes 2-4/10"), Some(((2, 3), 10)));
        for odd in [
            "",
            "bytes */10",
            "bytes 4-2/10",
            "bytes 2-10/10",
            "bytes a-b/c",
            "2-4/10",
        ] {
            assert_eq!(parse_content_range(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_content_range_makes_the_parser_panic(value in ".{0,40}") {
            let _ = parse_content_range(&value);
        }
    }
}
