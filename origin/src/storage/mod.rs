//! Where pictures are kept: one set of operations over a folder or an S3 bucket.
//!
//! Writes are whole or not there: nobody ever reads half an object under its key. The key decides
//! the media type; names that no [`ObjectKey`] can have are listed as foreign and left alone.

mod error;
pub mod exposure;
mod folder;
pub mod lifecycle;
mod s3;
mod settings;
mod types;
mod walk;

use bytes::Bytes;
use shared::object_key::ObjectKey;

pub use error::StoreError;
pub use folder::FolderStore;
pub use s3::S3Store;
pub use settings::{Addressing, S3Settings, StorageSettings, StoreKind};
pub use types::{Body, ByteRange, Listing, Object, ObjectInfo, PutInfo, Unfinished};
pub use walk::Walk;

/// Most objects in one page of a listing.
pub const LIST_MAX: usize = 1000;

/// A place for objects. Cheap to clone: all clones share one set of connections.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder on this machine.
    Folder(FolderStore),
    /// R2 or another S3 server.
    S3(S3Store),
}

impl Store {
    /// Opens the configured store. A folder is created when it is missing; an S3 server is not
    /// called yet (see [`Store::check`]).
    ///
    /// # Errors
    /// [`StoreError::Settings`] for settings that cannot work, and the folder's own errors.
    pub async fn open(settings: &StorageSettings) -> Result<Self, StoreError> {
        settings.validate()?;
        match settings.kind {
            StoreKind::Folder => FolderStore::open(&settings.folder).await.map(Self::Folder),
            StoreKind::S3 => S3Store::open(&settings.s3).map(Self::S3),
        }
    }

    /// Finds out whether the store answers and lets us in: for start-up and readiness.
    ///
    /// # Errors
    /// The reason why it would not serve a request now.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Folder(store) => store.check().await,
            Self::S3(store) => store.check().await,
        }
    }

    /// Writes an object, replacing one that is there. Safe to repeat.
    ///
    /// # Errors
    /// Any [`StoreError`]; then the key holds what it held before.
    pub async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<PutInfo, StoreError> {
        match self {
            Self::Folder(store) => store.write(key, bytes, false).await,
            Self::S3(store) => store.write(key, bytes, false).await,
        }
    }

    /// Writes an object only when the key is free; of many at once, one wins.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when it is taken, else as [`Store::put`].
    pub async fn create(&self, key: &ObjectKey, bytes: Bytes) -> Result<PutInfo, StoreError> {
        match self {
            Self::Folder(store) => store.write(key, bytes, true).await,
            Self::S3(store) => store.write(key, bytes, true).await,
        }
    }

    /// Opens an object, or a range of it, for streaming.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Range`] when no byte lies in the range.
    pub async fn get(
        &self,
        key: &ObjectKey,
        range: Option<ByteRange>,
    ) -> Result<Object, StoreError> {
        match self {
            Self::Folder(store) => store.get(key, range).await,
            Self::S3(store) => store.get(key, range).await,
        }
    }

    /// Size, entity tag and time of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not there.
    pub async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        match self {
            Self::Folder(store) => store.head(key).await,
            Self::S3(store) => store.head(key).await,
        }
    }

    /// Removes an object; one that is not there counts as removed.
    ///
    /// # Errors
    /// Any [`StoreError`] but `NotFound`.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self {
            Self::Folder(store) => store.delete(key).await,
            Self::S3(store) => store.delete(key).await,
        }
    }

    /// Removes many objects at once; those that are not there count as removed.
    ///
    /// # Errors
    /// As [`Store::delete`]; some may be gone then.
    pub async fn delete_many(&self, keys: Vec<ObjectKey>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        match self {
            Self::Folder(store) => store.delete_many(keys).await,
            Self::S3(store) => store.delete_many(keys).await,
        }
    }

    /// Writes that were begun and not finished, by whomever: some may be under way.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        match self {
            Self::Folder(store) => store.unfinished().await,
            Self::S3(store) => store.unfinished().await,
        }
    }

    /// Drops an unfinished write and what it holds.
    ///
    /// # Errors
    /// Any [`StoreError`] but `NotFound`.
    pub async fn drop_unfinished(&self, write: &Unfinished) -> Result<(), StoreError> {
        match (self, write.upload.as_deref()) {
            (Self::Folder(store), None) => store.drop_unfinished(&write.name).await,
            (Self::S3(store), Some(upload)) => store.drop_unfinished(&write.name, upload).await,
            _ => Ok(()),
        }
    }

    /// Moves an object. Repeating it after a failure finishes the move: a missing `from` with an
    /// existing `to` is success. At no moment are both missing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when neither is there.
    pub async fn rename(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), StoreError> {
        match self {
            Self::Folder(store) => store.rename(from, to).await,
            Self::S3(store) => store.rename(from, to).await,
        }
    }

    /// One page of the objects whose keys start with `prefix`, after `cursor`, in byte order; at
    /// most `limit` (1 to [`LIST_MAX`], others are clamped).
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let limit = limit.clamp(1, LIST_MAX);
        match self {
            Self::Folder(store) => store.list(prefix, cursor, limit).await,
            Self::S3(store) => store.list(prefix, cursor, limit).await,
        }
    }
}
