//! Steps through the store's tree, one segment at a time, never through a symbolic link.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use shared::object_key::ObjectKey;

use super::errno::{io_error, store_error};
use super::{DIR_MODE, FILE_MODE};
use crate::storage::StoreError;

/// The folder of unfinished writes. `~` occurs in no object key.
pub const PARTIAL: &str = "~partial";

/// An open folder.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the root. Its own path is the operator's word: links in it are followed.
    pub fn open_root(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
                    StoreError::Settings(format!("{} is not a folder", path.display()))
                }
                _ => io_error(&error),
            })?;
        rustix::fs::open(path, FOLDER, DIR_MODE)
            .map(Self)
            .map_err(store_error)
    }

    /// The folder `name` in this one; made when it is missing and `create` is set.
    pub fn child(&self, name: &str, create: bool) -> Result<Self, Errno> {
        let open =
            || rustix::fs::openat(&self.0, name, FOLDER | OFlags::NOFOLLOW, DIR_MODE).map(Self);
        match open() {
            Err(Errno::NOENT) if create => {
                match rustix::fs::mkdirat(&self.0, name, DIR_MODE) {
                    Ok(()) => self.sync()?,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open()
            }
            opened => opened,
        }
    }

    /// The folder that a key's last segment lies in, and that segment.
    pub fn parent_of<'k>(
        &self,
        key: &'k ObjectKey,
        create: bool,
    ) -> Result<(Self, &'k str), Errno> {
        let mut segments = key.as_str().split('/');
        let mut name = segments.next_back().unwrap_or_default();
        let mut dir: Option<Self> = None;
        for segment in segments {
            dir = Some(dir.as_ref().unwrap_or(self).child(segment, create)?);
        }
        if name.is_empty() {
            name = ".";
        }
        match dir {
            Some(dir) => Ok((dir, name)),
            None => Ok((Self(self.0.try_clone().map_err(|_| Errno::MFILE)?), name)),
        }
    }

    /// Opens a file in this folder, for its owner only.
    pub fn open_file(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, FILE_MODE).map(File::from)
    }

    /// Whether `name` is a plain file here.
    pub fn holds_file(&self, name: &str) -> Result<bool, Errno> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.0, name, AtFlags::empty())
    }

    /// Makes the names in this folder survive a power cut.
    pub fn sync(&self) -> Result<(), Errno> {
        match rustix::fs::fsync(&self.0) {
            // Some network file systems cannot, and need not.
            Err(Errno::INVAL) => Ok(()),
            done => done,
        }
    }
}
