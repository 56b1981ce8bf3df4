//! The operating system's errors in the store's words.

use rustix::io::Errno;

use crate::storage::StoreError;

/// One error number as a store error.
pub fn store_error(errno: Errno) -> StoreError {
    let text = errno.to_string();
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR => StoreError::NotFound,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full(text),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreError::Denied(text),
        Errno::EXIST => StoreError::Exists,
        Errno::IO => StoreError::Corrupt(text),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::STALE | Errno::TIMEDOUT => {
            StoreError::Unreachable(text)
        }
        _ => StoreError::Other(text),
    }
}

/// An input/output error as a store error.
pub fn io_error(error: &std::io::Error) -> StoreError {
    match Errno::from_io_error(error) {
        Some(errno) => store_error(errno),
        None => StoreError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_full() {
        assert_eq!(store_error(Errno::NOSPC).code(), "full");
        assert_eq!(store_error(Errno::DQUOT).code(), "full");
        assert_eq!(store_error(Errno::ROFS).code(), "denied");
    }
}
