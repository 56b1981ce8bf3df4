//! Signet origin.
pub mod infer;
