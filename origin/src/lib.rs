//! Signet origin.
pub mod infer;
pub mod schedule;
pub mod secret;
pub mod storage;
pub mod studio;
