//! Writes that a crash left half done, and removing many objects at once.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use shared::object_key::ObjectKey;

use super::errno::store_error;
use super::list::time;
use super::{FolderStore, Root};
use crate::storage::{StoreError, Unfinished};

impl FolderStore {
    pub(in crate::storage) async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.with_root(Root::unfinished).await
    }

    pub(in crate::storage) async fn drop_unfinished(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.with_root(move |root| match root.partial.remove(&name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(store_error(errno)),
        })
        .await
    }

    pub(in crate::storage) async fn delete_many(
        &self,
        keys: Vec<ObjectKey>,
    ) -> Result<(), StoreError> {
        self.with_root(move |root| root.delete_many(&keys)).await
    }
}

impl Root {
    fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.partial).map_err(store_error)? {
            let entry = entry.map_err(store_error)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let Ok(stat) = rustix::fs::statat(&self.partial, name, AtFlags::SYMLINK_NOFOLLOW)
            else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                found.push(Unfinished {
                    name: name.to_owned(),
                    upload: None,
                    size: u64::try_from(stat.st_size).ok(),
                    begun: time(stat.st_mtime, stat.st_mtime_nsec as i64),
                });
            }
        }
        Ok(found)
    }

    /// One sync for each folder, not for each object.
    fn delete_many(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let mut folders: BTreeMap<&str, Vec<&ObjectKey>> = BTreeMap::new();
        for key in keys {
            let folder = key
                .as_str()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            folders.entry(folder).or_default().push(key);
        }
        for keys in folders.into_values() {
            let Some(first) = keys.first() else { continue };
            let parent = match self.dir.parent_of(first, false) {
                Ok((parent, _)) => parent,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(store_error(errno)),
            };
            for key in keys {
                let name = key.as_str().rsplit('/').next().unwrap_or_default();
                if parent.holds_file(name).map_err(store_error)? {
                    match parent.remove(name) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(errno) => return Err(store_error(errno)),
                    }
                }
            }
            parent.sync().map_err(store_error)?;
        }
        Ok(())
    }
}
