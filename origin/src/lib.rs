//! Signet origin.
