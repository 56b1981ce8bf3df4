//! Why an upload is refused: one code for each rule, so that a client can tell its user.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A refused or failed upload. The text holds nothing of the file's content.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum UploadError {
    /// More bytes than allowed.
    #[error("an upload has at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The sender took too long.
    #[error("the upload took longer than {seconds} s")]
    TooSlow {
        /// The limit in seconds.
        seconds: u64,
    },
    /// The sender went away or broke the transfer.
    #[error("the upload broke off")]
    BrokenOff,
    /// Not the body that the edge signed.
    #[error("the body is not the one that the edge signed")]
    NotSigned,
    /// No bytes at all.
    #[error("the upload is empty")]
    Empty,
    /// A multipart body that is malformed or does not hold exactly one file.
    #[error("a multipart upload holds one file part and nothing else")]
    Multipart,
    /// SVG and other XML: markup that can run scripts and fetch addresses.
    #[error("SVG and other markup is not accepted")]
    Svg,
    /// A web page, which is what a download of a picture's page gives.
    #[error("this is a web page and no picture; send the picture's own bytes")]
    Html,
    /// A body or file that is compressed as a whole.
    #[error(
        "the upload is compressed; send the picture as it is, without gzip or Content-Encoding"
    )]
    Compressed,
    /// Nothing that starts like PNG, JPEG, WebP or GIF.
    #[error("only PNG, JPEG, WebP and GIF are accepted")]
    Type,
    /// The header is cut short or contradicts itself.
    #[error("the image's header is damaged")]
    Header,
    /// A JPEG of a kind that hardly any program shows.
    #[error("{0} is not accepted; save it as a usual JPEG of 8 bits a sample, or as PNG")]
    UnsupportedJpeg(JpegKind),
    /// More pixels than allowed, or a side longer than any format needs.
    #[error("an image has at most {limit} pixels")]
    TooManyPixels {
        /// The limit.
        limit: u64,
    },
    /// One side is many times longer than the other.
    #[error("one side is more than {limit} times the other")]
    Ratio {
        /// The limit.
        limit: u32,
    },
    /// A JPEG of more scans than any encoder writes.
    #[error("a JPEG has at most {limit} scans")]
    TooManyScans {
        /// The limit.
        limit: u32,
    },
    /// The decoder found a fault.
    #[error("the image is damaged")]
    Damaged,
    /// Decoding wanted more memory than an image of this size needs.
    #[error("the image needs too much memory")]
    Memory,
    /// Decoding took too long.
    #[error("the image takes too long to decode")]
    Timeout,
    /// No room for another upload now.
    #[error("too many uploads at once")]
    Busy {
        /// When to try again, in seconds.
        retry_after: u64,
    },
    /// Our own fault: logged with its cause, shown without it.
    #[error("the upload could not be processed")]
    Internal(String),
}

/// The kinds of JPEG that are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum JpegKind {
    /// 12 bits, as scanners in medicine write.
    #[error("a JPEG of more than 8 bits a sample")]
    Precision,
    /// Patented for long, so that few programs read it.
    #[error("a JPEG with arithmetic coding")]
    Arithmetic,
    /// Lossless JPEG and JPEG-LS.
    #[error("a lossless JPEG")]
    Lossless,
    /// Several frames of growing size.
    #[error("a hierarchical JPEG")]
    Hierarchical,
    /// Two components, or more than four.
    #[error("a JPEG of neither one, three nor four components")]
    Components,
    /// Such as two samples for three.
    #[error("a JPEG subsampled by a fraction")]
    Sampling,
}

impl From<jpeg::Error> for UploadError {
    fn from(error: jpeg::Error) -> Self {
        match error {
            jpeg::Error::Header => Self::Header,
            jpeg::Error::Damaged => Self::Damaged,
            jpeg::Error::Unsupported(kind) => Self::UnsupportedJpeg(match kind {
                jpeg::Kind::Precision => JpegKind::Precision,
                jpeg::Kind::Arithmetic => JpegKind::Arithmetic,
                jpeg::Kind::Lossless => JpegKind::Lossless,
                jpeg::Kind::Hierarchical => JpegKind::Hierarchical,
                jpeg::Kind::Components => JpegKind::Components,
                jpeg::Kind::Sampling => JpegKind::Sampling,
            }),
        }
    }
}

impl UploadError {
    /// Every code there is.
    pub const CODES: [&str; 20] = [
        "body_too_large",
        "body_too_slow",
        "body_incomplete",
        "edge_only",
        "empty_upload",
        "malformed_multipart",
        "svg_refused",
        "html_refused",
        "compressed_upload",
        "unsupported_image_type",
        "malformed_image_header",
        "unsupported_jpeg",
        "too_many_pixels",
        "extreme_aspect_ratio",
        "too_many_scans",
        "damaged_image",
        "image_needs_too_much_memory",
        "image_takes_too_long",
        "uploads_busy",
        "internal_error",
    ];

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "body_too_large",
            Self::TooSlow { .. } => "body_too_slow",
            Self::BrokenOff => "body_incomplete",
            Self::NotSigned => "edge_only",
            Self::Empty => "empty_upload",
            Self::Multipart => "malformed_multipart",
            Self::Svg => "svg_refused",
            Self::Html => "html_refused",
            Self::Compressed => "compressed_upload",
            Self::UnsupportedJpeg(_) => "unsupported_jpeg",
            Self::Type => "unsupported_image_type",
            Self::Header => "malformed_image_header",
            Self::TooManyPixels { .. } => "too_many_pixels",
            Self::Ratio { .. } => "extreme_aspect_ratio",
            Self::TooManyScans { .. } => "too_many_scans",
            Self::Damaged => "damaged_image",
            Self::Memory => "image_needs_too_much_memory",
            Self::Timeout => "image_takes_too_long",
            Self::Busy { .. } => "uploads_busy",
            Self::Internal(_) => "internal_error",
        }
    }

    /// One sentence for people.
    pub fn title(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "The file is too large.",
            Self::TooSlow { .. } => "The file took too long to arrive.",
            Self::BrokenOff => "The file did not arrive whole.",
            Self::NotSigned => "This origin answers only to its edge.",
            Self::Empty => "There is no file.",
            Self::Multipart => "The multipart body does not hold exactly one file.",
            Self::Svg => "SVG and other markup is not accepted.",
            Self::Html => "This is a web page and no picture.",
            Self::Compressed => "The upload is compressed.",
            Self::UnsupportedJpeg(_) => "This kind of JPEG is not accepted.",
            Self::Type => "Only PNG, JPEG, WebP and GIF are accepted.",
            Self::Header | Self::Damaged => "The image is damaged.",
            Self::TooManyPixels { .. } => "The image has too many pixels.",
            Self::Ratio { .. } => "The image is too long and thin.",
            Self::TooManyScans { .. } => "The JPEG has too many scans.",
            Self::Memory => "The image needs too much memory.",
            Self::Timeout => "The image takes too long to decode.",
            Self::Busy { .. } => "Too many uploads at once.",
            Self::Internal(_) => "Something went wrong here; it was logged.",
        }
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            Self::TooSlow { .. } => 408,
            Self::NotSigned => 403,
            Self::BrokenOff | Self::Empty | Self::Multipart => 400,
            Self::Svg | Self::Html | Self::Compressed | Self::Type => 415,
            Self::Header
            | Self::UnsupportedJpeg(_)
            | Self::TooManyPixels { .. }
            | Self::Ratio { .. }
            | Self::TooManyScans { .. }
            | Self::Damaged
            | Self::Memory
            | Self::Timeout => 422,
            Self::Busy { .. } => 503,
            Self::Internal(_) => 500,
        }
    }
}
