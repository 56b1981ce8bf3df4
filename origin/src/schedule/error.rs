//! Why a job was not taken, and why one that was taken gave no pictures.

use crate::infer::InferError;
use crate::provider::ProviderError;
use std::time::Duration;

/// Why a job was not admitted. A refused job costs nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// As many jobs wait as may.
    #[error("the queue is full")]
    Full {
        /// When a place is expected to be free.
        retry_after: Duration,
    },
    /// The job would be delayed longer than allowed, or past its deadline.
    #[error("the wait would be too long")]
    Busy {
        /// When the delay is expected to be short enough.
        retry_after: Duration,
    },
    /// It would not be done by its deadline even alone on the machine, by the measured rate.
    #[error("the job takes {needed:?} by the measured rate; {left:?} are left until its deadline")]
    OverDeadline {
        /// How long it takes alone.
        needed: Duration,
        /// How long is left.
        left: Duration,
    },
    /// One picture of it needs a larger call than the memory budget allows: it can never run.
    #[error(
        "a picture needs a call of {pixels} pixels; {allowed} are allowed (queue.batch_pixels)"
    )]
    TooLarge {
        /// Pixels of the smallest call that could carry it.
        pixels: u64,
        /// As configured.
        allowed: u64,
    },
    /// One picture of it needs more bytes than the memory budget has: it can never run.
    #[error("a picture needs {lacking} bytes more than infer.memory_mib leaves it")]
    OverBudget {
        /// What is lacking.
        lacking: u64,
    },
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl QueueError {
    /// The code that answers, logs and metrics carry.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "queue_full",
            Self::Busy { .. } => "queue_busy",
            Self::OverDeadline { .. } => "over_deadline",
            Self::TooLarge { .. } | Self::OverBudget { .. } => "too_large",
            Self::Stopping => "stopping",
        }
    }

    /// Whole seconds for `Retry-After`, rounded up, at least one; what can never be taken is not told to come back.
    pub fn retry_after_seconds(&self) -> u64 {
        match self {
            Self::Full { retry_after } | Self::Busy { retry_after } => {
                (retry_after.as_secs_f64().ceil() as u64).max(1)
            }
            Self::TooLarge { .. }
            | Self::OverBudget { .. }
            | Self::OverDeadline { .. }
            | Self::Stopping => 5,
        }
    }
}

/// Why an admitted job gave no pictures.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobError {
    /// Its caller cancelled it or went away.
    #[error("cancelled")]
    Cancelled,
    /// Its deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The service stopped before it was done; it was not charged for.
    #[error("the service stopped")]
    Stopped,
    /// The engine failed on it.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The service elsewhere failed on it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl JobError {
    /// The code that answers, logs and metrics carry.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Stopped => "stopped",
            Self::Infer(error) => error.code(),
            Self::Provider(error) => error.code(),
        }
    }
}
