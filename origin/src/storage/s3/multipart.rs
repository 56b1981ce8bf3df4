//! Large objects go up in parts; an upload that fails is taken back, so that no parts are billed.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use shared::object_key::ObjectKey;

use super::S3Store;
use super::failure::failure;
use crate::storage::StoreError;

impl S3Store {
    pub(super) async fn write_parts(
        &self,
        key: &ObjectKey,
        bytes: &Bytes,
        only_new: bool,
    ) -> Result<String, StoreError> {
        let upload = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .content_type(key.content_type())
            .send()
            .await
            .map_err(failure)?
            .upload_id
            .ok_or_else(|| StoreError::Other("no id for an upload in parts".into()))?;
        let written = self.send_parts(key, bytes, &upload, only_new).await;
        if written.is_err() {
            // Best effort: the store's own rule for unfinished uploads finds what stays.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket);
            let _ = abort.key(key.as_str()).upload_id(&upload).send().await;
        }
        written
    }

    async fn send_parts(
        &self,
        key: &ObjectKey,
        bytes: &Bytes,
        upload: &str,
        only_new: bool,
    ) -> Result<String, StoreError> {
        let step = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < bytes.len() {
            let end = start.saturating_add(step).min(bytes.len());
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let sent = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key.as_str())
                .upload_id(upload)
                .part_number(number)
                .body(ByteStream::from(bytes.slice(start..end)))
                .send()
                .await
                .map_err(failure)?;
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag)
                    .set_checksum_crc32(sent.checksum_crc32)
                    .build(),
            );
            start = end;
        }
        // R2 has no condition on this call: there the last look is one round trip older than on S3.
        if only_new && self.head(key).await.is_ok() {
            return Err(StoreError::Exists);
        }
        let done = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(upload)
            .set_if_none_match(only_new.then(|| "*".to_owned()))
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .send()
            .await
            .map_err(failure)?;
        Ok(done.e_tag.unwrap_or_default())
    }
}
