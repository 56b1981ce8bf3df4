//! Signed links, version 1: `{images_url}/{object-key}?exp=…&kid=…&sig=…`.
//!
//! A link has exactly one accepted byte spelling. It is read as the raw request target and walks through types that
//! only the step before can make: [`UnverifiedLink`] (shape) → [`VerifiedLink`] (MAC, time, address) →
//! [`PermittedLink`] (referer). Refusing allocates nothing.

mod address;
mod error;
mod name;
mod nfc;
mod parse;
mod sign;
mod trackers;
mod verify;

pub use address::{AddressRange, InvalidRange};
pub use error::LinkError;
pub use name::{MAX_WIDE_BYTES, is_download_name, is_wide_name, safe_name};
pub use parse::UnverifiedLink;
pub use sign::{SignError, SignRequest, round_up};
pub use trackers::{CleanTarget, is_tracker};
pub use verify::{PermittedLink, VerifiedLink, fingerprint};

/// Longest life a signer gives a link, in seconds (7 days).
pub const MAX_LIFE: u64 = 7 * 24 * 3600;

/// Seconds by which a verifier lets a link's life exceed [`MAX_LIFE`], for clocks that differ.
pub const CLOCK_SKEW: u64 = 60;

/// First line of the MAC's input.
const VERSION: &str = "signet-link-v1";

/// Links are opened with GET and HEAD only.
///
/// # Errors
/// [`LinkError::MethodNotAllowed`] (405, `Allow: GET, HEAD`).
pub fn check_method(method: &str) -> Result<(), LinkError> {
    match method {
        "GET" | "HEAD" => Ok(()),
        _ => Err(LinkError::MethodNotAllowed),
    }
}

#[cfg(test)]
mod tests;
