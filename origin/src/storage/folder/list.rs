//! Listing the folder in the byte order of whole keys, as S3 does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use shared::object_key::ObjectKey;

use super::errno::store_error;
use super::read::etag;
use super::tree::{Dir, PARTIAL};
use crate::storage::{Listing, ObjectInfo, StoreError};

/// One page: see [`crate::storage::Store::list`].
pub fn page(
    root: &Dir,
    prefix: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Listing, StoreError> {
    let mut page = Page {
        prefix,
        cursor,
        limit,
        last: String::new(),
        listing: Listing::default(),
    };
    page.walk(root, "")?;
    Ok(page.listing)
}

struct Page<'a> {
    prefix: &'a str,
    cursor: Option<&'a str>,
    limit: usize,
    last: String,
    listing: Listing,
}

struct Entry {
    /// The path from the root; a folder's ends with `/`, which puts it where its keys belong.
    path: String,
    name_len: usize,
    is_folder: bool,
    is_plain: bool,
}

impl Page<'_> {
    /// Adds what `dir` holds; false when the page is full.
    fn walk(&mut self, dir: &Dir, path: &str) -> Result<bool, StoreError> {
        for entry in self.entries(dir, path)? {
            let go_on = if entry.holds_keys() {
                match dir.child(entry.name(), false) {
                    Ok(child) => self.walk(&child, &entry.path)?,
                    Err(Errno::NOENT | Errno::NOTDIR) => true,
                    Err(errno) => return Err(store_error(errno)),
                }
            } else {
                self.add(dir, entry)?
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(&mut self, dir: &Dir, entry: Entry) -> Result<bool, StoreError> {
        if self.listing.objects.len() + self.listing.foreign.len() == self.limit {
            self.listing.next = Some(std::mem::take(&mut self.last));
            return Ok(false);
        }
        let key = if entry.is_plain {
            ObjectKey::parse(&entry.path).ok()
        } else {
            None
        };
        self.last.clone_from(&entry.path);
        match key {
            None => self.listing.foreign.push(entry.path),
            Some(key) => {
                match rustix::fs::statat(dir, entry.name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => self.listing.objects.push(info(key, &stat)),
                    // Deleted since the folder was read.
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(store_error(errno)),
                }
            }
        }
        Ok(true)
    }

    /// The entries of a folder that can matter, in order.
    fn entries(&self, dir: &Dir, path: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir).map_err(store_error)? {
            let entry = entry.map_err(store_error)?;
            let name = entry.file_name().to_string_lossy();
            if name == "." || name == ".." || (path.is_empty() && name == PARTIAL) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(_) => continue,
                    }
                }
                kind => kind,
            };
            let is_folder = kind == FileType::Directory;
            let slash = if is_folder { "/" } else { "" };
            let entry = Entry {
                path: format!("{path}{name}{slash}"),
                name_len: name.len(),
                is_folder,
                is_plain: kind == FileType::RegularFile,
            };
            if self.wants(&entry) {
                entries.push(entry);
            }
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let path = entry.path.as_str();
        let inside =
            path.starts_with(self.prefix) || (entry.is_folder && self.prefix.starts_with(path));
        let ahead = self
            .cursor
            .is_none_or(|cursor| path > cursor || (entry.holds_keys() && cursor.starts_with(path)));
        inside && ahead
    }
}

impl Entry {
    /// Whether this is a folder that keys can lie below.
    fn holds_keys(&self) -> bool {
        self.is_folder
            && self
                .path
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    }

    fn name(&self) -> &str {
        let path = self.path.strip_suffix('/').unwrap_or(&self.path);
        path.get(path.len() - self.name_len.min(path.len())..)
            .unwrap_or_default()
    }
}

pub(super) fn info(key: ObjectKey, stat: &rustix::fs::Stat) -> ObjectInfo {
    let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec as i64);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    ObjectInfo {
        key,
        size,
        etag: etag(stat.st_ino, seconds, nanoseconds, size),
        modified: time(seconds, nanoseconds),
    }
}

pub(super) fn time(seconds: i64, nanoseconds: i64) -> Option<SystemTime> {
    let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
    let part = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
    UNIX_EPOCH.checked_add(whole)?.checked_add(part)
}
