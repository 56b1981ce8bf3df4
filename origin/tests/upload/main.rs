//! Uploads through the real decoding process of the real program.
// clippy.toml lets tests panic, but does not count their helper functions as tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bombs;
mod cases;
mod corpora;
mod files;
mod memory;
mod oracle;
mod pictures;
mod polyglots;
mod process;
mod receive;
mod support;
