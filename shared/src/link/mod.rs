//! Signed links, version 1: `{images_url}/{object-key}?exp=…&kid=…&sig=…`.
//!
//! A link has exactly one accepted byte spelling. It is read as the raw request target and walks through types that
//! only the step before can make: [`UnverifiedLink`] (shape) → [`VerifiedLink`] (MAC, time, address) →
//! [`PermittedLink`] (referer). Refusing allocates nothing.

mod address;
mod error;
mod parse;
mod sign;
mod verify;

pub use address::{AddressRange, InvalidRange};
pub use error::LinkError;
pub use parse::UnverifiedLink;
pub use sign::{SignError, SignRequest, round_up};
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

/// Whether `name` is a safe download name for an object with this extension: `[A-Za-z0-9_-]{1,100}`, a dot, the
/// object's own extension, and not a device name of Windows.
pub fn is_download_name(name: &str, extension: &str) -> bool {
    let Some((stem, own)) = name.split_once('.') else {
        return false;
    };
    let device = {
        let upper = |reserved: &str| stem.eq_ignore_ascii_case(reserved);
        let numbered = |prefix: &str| {
            stem.len() == 4
                && stem
                    .get(..3)
                    .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                && stem.ends_with(|c: char| c.is_ascii_digit())
        };
        ["con", "prn", "aux", "nul"].into_iter().any(upper) || numbered("com") || numbered("lpt")
    };
    // Without an extension of the object's own there is no safe name: `con.` would be `con` on Windows.
    own == extension
        && !own.is_empty()
        && !device
        && (1..=100).contains(&stem.len())
        && stem
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

#[cfg(test)]
mod tests;
