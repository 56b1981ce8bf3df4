//! Why a provider made no picture. Nothing of what it said is kept: its words may hold the prompt, or a part of the key.

use shared::problem::Problem;

use crate::outbound::OutboundError;
use crate::state::StateError;

/// A call that brought no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The day's budget is spent.
    #[error("the day's budget is spent")]
    Budget {
        /// Seconds until the next day.
        retry_after: u64,
    },
    /// What is spent cannot be written down, so nothing is.
    #[error(transparent)]
    State(#[from] StateError),
    /// No connection; nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// Its name leads to an address that is not public; nothing was sent.
    #[error("its address is not public")]
    Forbidden,
    /// It has no time for us now.
    #[error("status {status}")]
    Busy {
        /// 429 or 503.
        status: u16,
        /// When to ask again, in seconds.
        retry_after: u64,
    },
    /// It does not take our key, or our money.
    #[error("status {0}: it does not take the key, or the account")]
    Key(u16),
    /// It will not make this picture.
    #[error("status {0}: it will not make this picture")]
    Rejected(u16),
    /// It failed, or sends us elsewhere.
    #[error("status {0}")]
    Failed(u16),
    /// Not done in time.
    #[error("no answer in time")]
    Late,
    /// The connection broke after the request was sent.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is not the one that is expected.
    #[error("{0}")]
    Answer(&'static str),
    /// The picture is none, or a hostile one: the sanitiser's code.
    #[error("the picture was refused: {0}")]
    Picture(&'static str),
}

/// Every code of this module, with what it means.
const PROBLEMS: [Problem; 8] = [
    Problem::new(
        503,
        "provider_budget",
        "The day's budget for this model is spent; nothing was charged.",
    ),
    Problem::new(
        502,
        "provider_unreachable",
        "The provider of this model cannot be reached; nothing was charged.",
    ),
    Problem::new(
        503,
        "provider_busy",
        "The provider of this model is busy; nothing was charged.",
    ),
    Problem::new(
        503,
        "provider_misconfigured",
        "The provider of this model does not serve us; nothing was charged.",
    ),
    Problem::new(
        422,
        "provider_rejected",
        "The provider of this model will not make this picture.",
    ),
    Problem::new(502, "provider_failed", "The provider of this model failed."),
    Problem::new(
        504,
        "provider_late",
        "The provider of this model took too long.",
    ),
    Problem::new(
        502,
        "provider_answer",
        "The provider of this model sent no usable picture.",
    ),
];

/// What the code of a failed job, as it was written down, means.
pub fn problem(code: &str) -> Option<Problem> {
    PROBLEMS.into_iter().find(|problem| problem.code == code)
}

impl ProviderError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Budget { .. } => "provider_budget",
            Self::State(StateError::Full) => "state_full",
            Self::State(_) => "state_unavailable",
            Self::Unreachable(_) | Self::Forbidden => "provider_unreachable",
            Self::Busy { .. } => "provider_busy",
            Self::Key(_) => "provider_misconfigured",
            Self::Rejected(_) => "provider_rejected",
            Self::Failed(_) | Self::Broken(_) => "provider_failed",
            Self::Late => "provider_late",
            Self::Answer(_) | Self::Picture(_) => "provider_answer",
        }
    }

    /// Status, code and title.
    pub fn problem(&self) -> Problem {
        problem(self.code()).unwrap_or_else(|| crate::jobs::job_problem(self.code()))
    }

    /// Whether the request is at fault: then its caller pays, since rejected prompts are counted against our account.
    pub fn is_callers_fault(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether the caller pays nothing: nothing was asked for, or nothing was made of it.
    pub fn made_nothing(&self) -> bool {
        let taken = !matches!(self, Self::Budget { .. } | Self::State(_));
        !(taken && (self.is_callers_fault() || !self.is_unbilled()))
    }

    /// When to ask again, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Budget { retry_after } | Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::State(_) | Self::Unreachable(_) => Some(5),
            _ => None,
        }
    }

    /// Whether the provider certainly made nothing that it could bill.
    pub(super) fn is_unbilled(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Forbidden
            | Self::Busy { .. }
            | Self::Key(_)
            | Self::Rejected(_)
            | Self::Failed(_) => true,
            // It may have made the pictures all the same.
            Self::Late | Self::Broken(_) | Self::Answer(_) | Self::Picture(_) => false,
            // Nothing was taken.
            Self::Budget { .. } | Self::State(_) => false,
        }
    }

    /// Whether the request can be sent again without being carried out twice.
    pub(super) fn is_safe_again(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy { .. })
    }

    /// Logged once, where the job or the request ends.
    pub(crate) fn log(&self) {
        let code = self.code();
        match self {
            Self::Rejected(_) => {
                tracing::info!(code, error = %self, "the provider rejected a request")
            }
            Self::Busy { .. } => tracing::warn!(code, error = %self, "the provider is busy"),
            Self::Budget { .. } => tracing::warn!(code, "the provider's budget is spent"),
            _ => tracing::error!(code, error = %self, "the provider failed"),
        }
    }

    /// What a status other than success means.
    pub(super) fn of_status(status: u16, retry_after: Option<u64>) -> Self {
        match status {
            400 | 422 => Self::Rejected(status),
            401..=403 => Self::Key(status),
            429 | 503 => Self::Busy {
                status,
                retry_after: retry_after.unwrap_or(5).clamp(1, 3600),
            },
            _ => Self::Failed(status),
        }
    }
}

impl From<OutboundError> for ProviderError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Forbidden => Self::Forbidden,
            OutboundError::Certificates(error) => Self::Unreachable(error.to_string()),
            OutboundError::Unreachable(error) => Self::Unreachable(error),
            OutboundError::Connection(error) => Self::Broken(error),
            OutboundError::Late => Self::Late,
            OutboundError::TooLong => Self::Answer("the answer is too long"),
            OutboundError::Body => Self::Broken("the answer broke off".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_problem_of_its_code() {
        for error in [
            ProviderError::Budget { retry_after: 1 },
            ProviderError::State(StateError::Full),
            ProviderError::State(StateError::ReadOnly),
            ProviderError::Unreachable("x".into()),
            ProviderError::Forbidden,
            ProviderError::of_status(429, None),
            ProviderError::of_status(401, None),
            ProviderError::of_status(400, None),
            ProviderError::of_status(302, None),
            ProviderError::Late,
            ProviderError::Broken("x".into()),
            ProviderError::Answer("x"),
            ProviderError::Picture("x"),
        ] {
            assert_eq!(error.problem().code, error.code());
            assert!(!error.is_safe_again() || error.is_unbilled(), "{error:?}");
        }
    }
}
