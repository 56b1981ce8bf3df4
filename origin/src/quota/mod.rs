//! How much: every limit of a generation in one decision. All layers are charged or none; the answer names the first
//! that refused, and a refusal leaves nothing behind.
//!
//! Layers in order: penalty box (at arrival) → address → token → user → user's sliding hour → concurrent jobs → cost
//! units of a day. Storage is charged with the picture's row ([`crate::state::images`]), where the bytes are known.
//! Whose limits are which is said by [`plans`].

mod error;
mod headers;
mod limits;
mod memory;
pub mod plans;
mod remote;
mod reservation;
mod settings;
mod usage;

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod suite;

use std::net::IpAddr;

pub use error::QuotaError;
pub use headers::{PolicyUse, Refusal, storage_headers, streams_headers};
pub use limits::{Charge, Limits};
pub use plans::{Allowance, PlanSettings, Plans};
pub use reservation::Reservation;
pub use settings::{LimitSettings, RateSettings};

use limits::{Rates, Ticket};
use reservation::Settle;

/// A charge as the backends see it.
struct Ask<'a> {
    narrow: IpAddr,
    wide: Option<IpAddr>,
    token: &'a str,
    user: &'a str,
    milliunits: u64,
    allowed: Allowance,
}

/// What one admission charged in memory.
#[derive(Debug)]
struct Taken {
    user: Box<str>,
    at: u64,
    milliunits: u64,
    /// None where another process made the admission: its rates are forgotten.
    rates: Option<TakenRates>,
}

/// The rates that it charged.
#[derive(Debug)]
struct TakenRates {
    narrow: IpAddr,
    wide: Option<IpAddr>,
    token: u64,
    allowed: Allowance,
}

/// Policies of a user that stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Simple {
    Reads,
    Uploads,
    Writes,
    UploadsWork,
}

impl Simple {
    fn policy(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Uploads => "uploads",
            Self::Writes => "writes",
            Self::UploadsWork => "uploads-work",
        }
    }
}
