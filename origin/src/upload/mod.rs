//! Uploads that cannot hurt: whatever is sent is decoded behind walls and drawn anew.
//!
//! [`receive`] takes the file off the wire; [`Uploads::sanitise`] refuses what its header rules
//! out, gives the rest a share of one memory budget and a process of its own; [`sanitise`] is the
//! path inside that process.

mod colour;
mod cost;
mod decode;
mod error;
mod exif;
mod handler;
mod multipart;
mod pixels;
mod png;
mod pool;
mod queue;
mod receive;
mod reference;
mod sanitise;
mod scale;
mod scans;
mod settings;
mod sniff;
mod turn;
#[cfg(target_os = "linux")]
mod wall;
mod webp;
pub mod worker;

pub use error::{JpegKind, UploadError};
pub use handler::upload;
pub use pool::Uploads;
pub use receive::receive;
pub use reference::{Stored, Wanted};
pub use sanitise::{SanitisedImage, sanitise};
pub use settings::{Isolation, Limits, UploadSettings};
pub use sniff::Admitted;
