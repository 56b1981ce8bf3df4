//! Reading objects from the folder.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use rustix::fs::OFlags;
use shared::object_key::ObjectKey;

use super::blocking;
use super::errno::{io_error, store_error};
use super::tree::Dir;
use crate::storage::{Body, ByteRange, Object, ObjectInfo, StoreError};

/// Bytes read at a time: a picture of 512×512 comes with the first read.
const CHUNK: u64 = 256 << 10;

/// Opens an object and reads its first bytes in the same trip to the blocking thread.
pub fn open(root: &Dir, key: ObjectKey, range: Option<ByteRange>) -> Result<Object, StoreError> {
    let file = file(root, &key)?;
    let info = info(&file, key)?;
    let span = match range {
        Some(range) => range.resolve(info.size)?,
        None => (0, info.size),
    };
    let first = chunk(&file, span.0, span.1)?;
    let body = Body::new(span.1, chunks(file, first, span));
    Ok(Object { info, span, body })
}

/// Size, entity tag and time.
pub fn head(root: &Dir, key: ObjectKey) -> Result<ObjectInfo, StoreError> {
    let file = file(root, &key)?;
    info(&file, key)
}

fn file(root: &Dir, key: &ObjectKey) -> Result<File, StoreError> {
    let (parent, name) = root.parent_of(key, false).map_err(store_error)?;
    // NONBLOCK: a named pipe that someone put there must not hold the thread.
    parent
        .open_file(name, OFlags::RDONLY | OFlags::NONBLOCK)
        .map_err(store_error)
}

/// What an open file tells. A file is only ever replaced by another one, never changed, so inode,
/// time and size name its content.
pub fn info(file: &File, key: ObjectKey) -> Result<ObjectInfo, StoreError> {
    let meta = file.metadata().map_err(|error| io_error(&error))?;
    if !meta.is_file() {
        return Err(StoreError::NotFound);
    }
    Ok(ObjectInfo {
        key,
        size: meta.len(),
        etag: etag(meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()),
        modified: meta.modified().ok(),
    })
}

/// The entity tag of a file.
pub fn etag(inode: u64, seconds: i64, nanoseconds: i64, size: u64) -> String {
    format!("\"{inode:x}-{seconds:x}-{nanoseconds:x}-{size:x}\"")
}

type Rest = (Arc<File>, u64, u64);

fn chunks(
    file: File,
    first: Bytes,
    (start, length): (u64, u64),
) -> impl futures_util::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let read = first.len() as u64;
    let rest: Rest = (Arc::new(file), start + read, length - read);
    stream::try_unfold(
        (Some(first), rest),
        |(ready, (file, offset, left))| async move {
            let bytes = match ready {
                Some(bytes) => return Ok(keep(bytes, (file, offset, left))),
                None if left == 0 => return Ok(None),
                None => {
                    let file = Arc::clone(&file);
                    blocking(move || chunk(&file, offset, left)).await?
                }
            };
            let read = bytes.len() as u64;
            Ok(keep(
                bytes,
                (file, offset + read, left.saturating_sub(read)),
            ))
        },
    )
}

/// One step of the stream; an empty read ends it, and the body notices what is missing.
fn keep(bytes: Bytes, rest: Rest) -> Option<(Bytes, (Option<Bytes>, Rest))> {
    if bytes.is_empty() {
        None
    } else {
        Some((bytes, (None, rest)))
    }
}

fn chunk(file: &File, offset: u64, left: u64) -> Result<Bytes, StoreError> {
    let mut buffer = vec![0; left.min(CHUNK) as usize];
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match file.read_at(space, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error(&error)),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}
