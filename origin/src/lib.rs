//! Signet origin.
pub mod infer;
pub mod secret;
pub mod storage;
pub mod studio;
