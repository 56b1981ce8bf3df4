//! How much: every limit of a generation in one decision. All layers are charged or none; the answer names the first
//! that refused, and a refusal leaves nothing behind.
//!
//! Layers in order: penalty box → address → token → user's sliding hour → concurrent jobs. Storage is charged with the
//! picture's row ([`crate::state::images`]), where the bytes are known.

mod headers;
mod memory;
mod reservation;
mod settings;

pub use headers::{PolicyUse, Refusal};
pub use memory::{Charge, Limits};
pub use reservation::Reservation;
pub use settings::{LimitSettings, RateSettings};
