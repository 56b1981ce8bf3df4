//! Why a link is refused, and what the client is told.

use crate::problem::{self, Problem};

/// In the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Neither GET nor HEAD.
    MethodNotAllowed,
    /// Not the one spelling of a link.
    Malformed,
    /// No signature, an unknown key id, or a MAC that does not match.
    BadSignature,
    /// `now >= exp`.
    Expired,
    /// `exp` lies further ahead than any signer of ours goes.
    LifeTooLong,
    /// The client is not in the link's address range.
    IpMismatch,
    /// The referer policy refuses the page that embeds it.
    RefererDenied,
    /// This link, its epoch or its owner was revoked.
    Revoked,
}

impl LinkError {
    /// Status, code and title of the answer.
    pub const fn problem(self) -> Problem {
        match self {
            Self::MethodNotAllowed => problem::METHOD_NOT_ALLOWED,
            Self::Malformed => problem::MALFORMED_LINK,
            Self::BadSignature => problem::BAD_SIGNATURE,
            Self::Expired => problem::LINK_EXPIRED,
            Self::LifeTooLong => problem::LIFE_TOO_LONG,
            Self::IpMismatch => problem::IP_MISMATCH,
            Self::RefererDenied => problem::REFERER_DENIED,
            Self::Revoked => problem::LINK_REVOKED,
        }
    }
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.problem().title)
    }
}

impl std::error::Error for LinkError {}
