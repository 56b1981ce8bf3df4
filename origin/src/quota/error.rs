//! Why nothing may be spent.

use super::Refusal;
use crate::state::StateError;

/// No admission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// A limit refused.
    #[error("the limit {} refused", .0.policy)]
    Refused(Refusal),
    /// The charge could not be recorded: nobody spends what nobody counts.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<Refusal> for QuotaError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
