//! Why the state did not answer.

use std::path::Path;

use rusqlite::ErrorCode;

/// A failed operation. Spending fails closed: whoever cannot write the ledger grants nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The file or its folder cannot be opened.
    #[error("the state file cannot be opened: {0}")]
    Io(String),
    /// The file, or the disk under it, takes no writes.
    #[error("the state file is read-only")]
    ReadOnly,
    /// No room is left.
    #[error("the disk of the state file is full")]
    Full,
    /// The file is no database, or a damaged one.
    #[error("the state file is damaged: {0}")]
    Damaged(String),
    /// The file, or the shared state, was made by a newer version of the program.
    #[error("the state has schema {found}, this program knows {known}")]
    TooNew {
        /// In the state.
        found: i64,
        /// In the program.
        known: i64,
    },
    /// The shared state cannot be reached, and without it nothing can be decided.
    #[error("state.url does not answer: {0}")]
    Away(String),
    /// What lies at `state.url` is not this deployment's, or not ours at all.
    #[error("the shared state cannot be used: {0}")]
    Foreign(String),
    /// What is to be made is there already.
    #[error("it exists already")]
    Exists,
    /// What is to be changed is not there.
    #[error("there is no such user")]
    NoUser,
    /// The user's stored bytes would pass the quota.
    #[error("the storage quota of {limit} bytes is used up")]
    OverQuota {
        /// Bytes the user may store.
        limit: u64,
        /// Bytes in use or reserved.
        used: u64,
    },
    /// The user was suspended: nothing more is stored for them.
    #[error("the user is suspended")]
    Suspended,
    /// The thread has ended: the program is stopping.
    #[error("the state is closed")]
    Closed,
    /// Anything else that SQLite reports.
    #[error("the state failed: {0}")]
    Other(String),
    /// Another error, with the file it happened to.
    #[error("{file}: {reason}")]
    At {
        /// The state file.
        file: String,
        /// What happened.
        reason: Box<StateError>,
    },
}

impl StateError {
    /// The stable code for answers and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "state_io",
            Self::ReadOnly => "state_read_only",
            Self::Full => "state_full",
            Self::Damaged(_) => "state_damaged",
            Self::TooNew { .. } => "state_too_new",
            Self::Away(_) => "state_away",
            Self::Foreign(_) => "state_foreign",
            Self::Exists => "exists",
            Self::NoUser => "unknown_user",
            Self::OverQuota { .. } => "over_quota",
            Self::Suspended => "suspended",
            Self::Closed => "state_closed",
            Self::Other(_) => "state_failed",
            Self::At { reason, .. } => reason.code(),
        }
    }

    pub(super) fn at(self, file: &Path) -> Self {
        Self::At {
            file: file.display().to_string(),
            reason: Box::new(self),
        }
    }
}

impl From<rusqlite::Error> for StateError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            Some(ErrorCode::ConstraintViolation) => Self::Exists,
            Some(ErrorCode::CannotOpen) => Self::Io(error.to_string()),
            _ => Self::Other(match error {
                // Its text holds the statement, and a statement may hold values.
                rusqlite::Error::SqlInputError { msg, .. } => msg,
                error => error.to_string(),
            }),
        }
    }
}
