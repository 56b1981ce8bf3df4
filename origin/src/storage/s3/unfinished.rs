//! Uploads in parts that nobody finished, and removing many objects at once.

use std::time::SystemTime;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use shared::object_key::ObjectKey;

use super::failure::{failure, status};
use super::{S3Store, StoreError};
use crate::storage::{LIST_MAX, Unfinished};

impl S3Store {
    pub(in crate::storage) async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        let (mut after_key, mut after_upload) = (None, None);
        loop {
            let asked = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .set_key_marker(after_key)
                .set_upload_id_marker(after_upload)
                .send()
                .await;
            let page = match asked {
                Ok(page) => page,
                // A server that does not know the call has its own rule for these, as R2 does.
                Err(error) if matches!(status(&error), Some(404 | 405 | 501)) => return Ok(found),
                Err(error) => return Err(failure(error)),
            };
            for upload in page.uploads.unwrap_or_default() {
                let (Some(name), Some(id)) = (upload.key, upload.upload_id) else {
                    continue;
                };
                found.push(Unfinished {
                    name,
                    upload: Some(id),
                    size: None,
                    begun: upload
                        .initiated
                        .and_then(|time| SystemTime::try_from(time).ok()),
                });
            }
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(found);
            }
            (after_key, after_upload) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    pub(in crate::storage) async fn drop_unfinished(
        &self,
        name: &str,
        upload: &str,
    ) -> Result<(), StoreError> {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(name)
            .upload_id(upload)
            .send()
            .await;
        match aborted {
            Ok(_) => Ok(()),
            // Finished or dropped meanwhile.
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    pub(in crate::storage) async fn delete_many(
        &self,
        keys: Vec<ObjectKey>,
    ) -> Result<(), StoreError> {
        for keys in keys.chunks(LIST_MAX) {
            let odd = |error: aws_sdk_s3::error::BuildError| StoreError::Other(error.to_string());
            let objects = keys
                .iter()
                .map(|key| ObjectIdentifier::builder().key(key.as_str()).build())
                .collect::<Result<Vec<_>, _>>()
                .map_err(odd)?;
            let delete = Delete::builder()
                .set_objects(Some(objects))
                .quiet(true)
                .build()
                .map_err(odd)?;
            let call = self.client.delete_objects().bucket(&self.bucket);
            match call.delete(delete).send().await {
                Ok(done) => {
                    if let Some(error) = done.errors.unwrap_or_default().first() {
                        let text = error.message.clone().unwrap_or_default();
                        return Err(StoreError::Other(format!("deleting: {text}")));
                    }
                }
                // A server without this call takes them one by one.
                Err(error) if matches!(status(&error), Some(405 | 501)) => {
                    for key in keys {
                        self.delete(key).await?;
                    }
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(())
    }
}
