//! The store in a folder.
//!
//! Every step down the tree opens one segment without following links, so that nothing outside the
//! root is ever reached. A write goes to a temporary file, to the disk, and then under its key by
//! one rename; a crash leaves at most a file in [`PARTIAL`], whose name no object key can have.

mod errno;
mod list;
mod read;
mod tree;
mod unfinished;
mod walk;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use shared::object_key::ObjectKey;

use super::{ByteRange, Listing, Object, ObjectInfo, PutInfo, StoreError};
use errno::{io_error, store_error};
use tree::{Dir, PARTIAL};

/// Objects as files below one folder.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    dir: Dir,
    partial: Dir,
    next_name: AtomicU64,
}

impl FolderStore {
    /// Opens the folder and makes it, with mode 700, when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Denied`], [`StoreError::Full`], or [`StoreError::Settings`] when the path is
    /// no folder.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || {
            let root = Root::open(path)?;
            Ok(Self {
                root: Arc::new(root),
            })
        })
        .await
    }

    /// Where the objects lie.
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        self.with_root(|root| {
            let (name, mut file) = root.temporary()?;
            let written = file.write_all(b"signet").map_err(|e| io_error(&e));
            let removed = root.partial.remove(&name);
            written.and(removed.map_err(store_error))
        })
        .await
    }

    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        only_new: bool,
    ) -> Result<PutInfo, StoreError> {
        let key = key.clone();
        self.with_root(move |root| root.write(&key, &bytes, only_new))
            .await
    }

    pub(super) async fn get(
        &self,
        key: &ObjectKey,
        range: Option<ByteRange>,
    ) -> Result<Object, StoreError> {
        let key = key.clone();
        self.with_root(move |root| read::open(&root.dir, key, range))
            .await
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let key = key.clone();
        self.with_root(move |root| read::head(&root.dir, key)).await
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.with_root(move |root| root.delete(&key)).await
    }

    pub(super) async fn rename(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.with_root(move |root| root.rename(&from, &to)).await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let (prefix, cursor) = (prefix.to_owned(), cursor.map(str::to_owned));
        self.with_root(move |root| list::page(&root.dir, &prefix, cursor.as_deref(), limit))
            .await
    }

    async fn with_root<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&root)).await
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Other(format!(
            "file work did not finish: {error}"
        ))),
    }
}

impl Root {
    fn open(path: PathBuf) -> Result<Self, StoreError> {
        let dir = Dir::open_root(&path)?;
        let partial = dir.child(PARTIAL, true).map_err(store_error)?;
        Ok(Self {
            path,
            dir,
            partial,
            next_name: AtomicU64::new(0),
        })
    }

    fn write(&self, key: &ObjectKey, bytes: &[u8], only_new: bool) -> Result<PutInfo, StoreError> {
        let (temporary, mut file) = self.temporary()?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| io_error(&error))
            .and_then(|()| self.publish(&temporary, key, only_new))
            .and_then(|()| read::info(&file, key.clone()));
        if written.is_err() {
            // Best effort: a sweep finds what stays, and it stands under no key.
            let _ = self.partial.remove(&temporary);
        }
        written.map(|info| PutInfo {
            etag: info.etag,
            size: info.size,
        })
    }

    /// A fresh file in the folder of unfinished writes. Names are counted, not random: a taken one
    /// (another process, or left by a crash) is skipped.
    fn temporary(&self) -> Result<(String, File), StoreError> {
        loop {
            let count = self.next_name.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}", std::process::id());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            match self.partial.open_file(&name, flags) {
                Ok(file) => return Ok((name, file)),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => {
                    return Err(StoreError::MissingBucket(self.path.display().to_string()));
                }
                Err(errno) => return Err(store_error(errno)),
            }
        }
    }

    /// Moves a finished file under its key and makes the move last.
    fn publish(&self, temporary: &str, key: &ObjectKey, only_new: bool) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let (parent, name) = self.dir.parent_of(key, true).map_err(|errno| match errno {
                Errno::NOTDIR | Errno::LOOP => StoreError::Exists,
                errno => store_error(errno),
            })?;
            let moved = if only_new {
                rename_new(&self.partial, temporary, &parent, name)
            } else {
                rustix::fs::renameat(self.partial.as_fd(), temporary, parent.as_fd(), name)
            };
            match moved {
                Ok(()) => return parent.sync().map_err(store_error),
                // A sweep may take the empty folder away between the two steps.
                Err(Errno::NOENT) if tries < 3 => tries += 1,
                Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => {
                    return Err(StoreError::Exists);
                }
                Err(errno) => return Err(store_error(errno)),
            }
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (parent, name) = match self.dir.parent_of(key, false) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(store_error(errno)),
        };
        if !parent.holds_file(name).map_err(store_error)? {
            return Ok(());
        }
        match parent.remove(name) {
            Ok(()) => parent.sync().map_err(store_error),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(store_error(errno)),
        }
    }

    fn rename(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), StoreError> {
        if !self.holds(from)? {
            return if self.holds(to)? {
                Ok(())
            } else {
                Err(StoreError::NotFound)
            };
        }
        let (source, old) = self.dir.parent_of(from, false).map_err(store_error)?;
        let (target, new) = self.dir.parent_of(to, true).map_err(store_error)?;
        match rustix::fs::renameat(source.as_fd(), old, target.as_fd(), new) {
            Ok(()) => target
                .sync()
                .and_then(|()| source.sync())
                .map_err(store_error),
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => Err(StoreError::Exists),
            Err(errno) => Err(store_error(errno)),
        }
    }

    fn holds(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        match self.dir.parent_of(key, false) {
            Ok((parent, name)) => parent.holds_file(name).map_err(store_error),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(store_error(errno)),
        }
    }
}

/// Renames unless the new name is taken, in one step of the kernel's.
fn rename_new(from: &Dir, old: &str, to: &Dir, new: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from.as_fd(), old, to.as_fd(), new, RenameFlags::NOREPLACE) {
        // Some file systems lack the flag: a second name, then the first one away.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(from.as_fd(), old, to.as_fd(), new, AtFlags::empty())?;
            from.remove(old)
        }
        done => done,
    }
}

/// Owner only, for files and for folders.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);
