//! Decodes JPEG (ITU-T T.81: baseline, extended sequential and progressive with Huffman codes, 8 bits a sample, 1, 3 or
//! 4 components, any integral subsampling, interleaved or not) into samples that equal libjpeg-turbo's bit for bit.
//!
//! It differs from libjpeg in one thing: a picture must be whole. Where libjpeg warns and goes on in grey, here the file
//! is [`Error::Damaged`]: entropy-coded data that end early, that go on past their last block, or that hold a code of no
//! table. A missing end marker passes, and so do refinement scans that were never sent.
//!
//! It is our own since no released decoder fits: those in Rust either show non-interleaved or luma-subsampled files in
//! wrong colours or start threads, which the wall around decoding forbids, and none tells a whole file from a cut one.
//!
//! Memory beside the file, in bytes: [`Header::memory`].

mod colour;
mod entropy;
mod header;
mod idct;
mod metadata;
mod picture;
mod scan;
mod segments;

pub use header::{Header, header};
pub use metadata::{Metadata, metadata};
pub use picture::{Picture, decode};

/// Why a file is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no frame header, or it contradicts itself.
    Header,
    /// The file is cut, overwritten or malformed.
    Damaged,
    /// A kind of JPEG that few programs write and fewer show.
    Unsupported(Kind),
}

/// The kinds of JPEG that are not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More than 8 bits a sample.
    Precision,
    /// Arithmetic coding.
    Arithmetic,
    /// Lossless JPEG and JPEG-LS.
    Lossless,
    /// Hierarchical, with differential frames.
    Hierarchical,
    /// Neither 1, 3 nor 4 components.
    Components,
    /// Subsampling by a fraction.
    Sampling,
}
