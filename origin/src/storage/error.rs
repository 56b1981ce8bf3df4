//! What can go wrong in a store, told the same way by every backend.

use thiserror::Error;

/// A failed store operation. The text is for the operator's log; clients see only [`Self::code`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No answer, a cut connection, a time-out, or the server's own failure. Trying again may help.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store knows us and says no, or does not know our credentials.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// The bucket, or the root folder, is not there.
    #[error("the bucket or root folder is missing: {0}")]
    MissingBucket(String),
    /// Too many requests: wait before the next one.
    #[error("the store asks for fewer requests: {0}")]
    Throttled(String),
    /// No room is left on the disk or in the bucket's quota.
    #[error("the store is full: {0}")]
    Full(String),
    /// No object has this key.
    #[error("no such object")]
    NotFound,
    /// What came back is not what was stored: cut short, or its checksum differs.
    #[error("the object is damaged: {0}")]
    Corrupt(String),
    /// `create` found an object under the key, or a part of the key is itself an object.
    #[error("an object is already there")]
    Exists,
    /// The wanted range starts at or behind the object's end.
    #[error("the range lies outside the object of {size} bytes")]
    Range {
        /// The object's size in bytes, for `Content-Range: bytes */size`.
        size: u64,
    },
    /// The settings cannot work.
    #[error("the storage settings are wrong: {0}")]
    Settings(String),
    /// Anything else: the store did something this program does not know.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// The stable code for answers, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::MissingBucket(_) => "missing_bucket",
            Self::Throttled(_) => "throttled",
            Self::Full(_) => "full",
            Self::NotFound => "not_found",
            Self::Corrupt(_) => "corrupt",
            Self::Exists => "exists",
            Self::Range { .. } => "range",
            Self::Settings(_) => "settings",
            Self::Other(_) => "other",
        }
    }

    /// Whether the same call may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Throttled(_))
    }
}
