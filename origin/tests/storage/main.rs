//! Every store passes one suite: the folder, and S3 servers that run for real beside the tests.
// clippy.toml lets tests panic, but does not count their helper functions as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod exposure;
mod faults;
mod folder;
mod lifecycle;
mod proxy;
mod s3;
mod servers;
mod suite;
