//! How large an upload may be, and what decoding it may cost.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What one image may be. Goes to the decoding process with each upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest file in bytes.
    pub max_bytes: u64,
    /// Most pixels before scaling.
    pub max_pixels: u64,
    /// Longest side after scaling, in pixels; a longer one is scaled down.
    pub max_side: u32,
    /// How many times one side may be the other.
    pub max_ratio: u32,
    /// Effort of the PNG encoder, 1 (fast) to 12 (small). 7 makes files as small as zlib's best
    /// level in a tenth of its time; 3 halves the time again for 5 % more bytes.
    pub png_level: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 20,
            max_pixels: 64 << 20,
            max_side: 4096,
            max_ratio: 30,
            png_level: 7,
        }
    }
}

/// The section `uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// What one image may be.
    pub image: Limits,
    /// Longest time to send an upload, in seconds.
    pub receive_seconds: u64,
    /// Most processor time to decode and encode one image, in milliseconds (counted in whole seconds); on a busy machine
    /// it may take six times as long by the clock.
    pub process_ms: u64,
    /// Memory for all images that are worked on at once, in MiB. One image of 64 megapixels needs
    /// 200 to 650, of the rarest kinds up to 950; an image that needs more than all of it is refused.
    pub memory_mib: u32,
    /// Large images worked on at once, and so many small ones beside them; 0 means one for each processor.
    pub parallel: u32,
    /// Longest wait for a turn, in seconds; after it the answer is 503.
    pub wait_seconds: u64,
    /// Where decoding happens: `process` (one process for each image, under rlimits and seccomp)
    /// or `thread` (inside the service; for systems other than Linux).
    pub isolation: Isolation,
    /// The program that decodes; by default this one.
    pub worker: Option<PathBuf>,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            image: Limits::default(),
            receive_seconds: 30,
            process_ms: 5_000,
            memory_mib: 1_408,
            parallel: 0,
            wait_seconds: 20,
            isolation: Isolation::default(),
            worker: None,
        }
    }
}

/// The wall around the decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A process of its own.
    Process,
    /// A thread of this process.
    Thread,
}

impl Default for Isolation {
    fn default() -> Self {
        if cfg!(target_os = "linux") {
            Self::Process
        } else {
            Self::Thread
        }
    }
}

/// Memory that small images find free while large ones take the rest, in MiB; of a small budget an
/// eighth.
const KEPT_FOR_SMALL_MIB: u64 = 96;

impl UploadSettings {
    /// What of the memory large images may take together, in MiB.
    pub fn memory_for_large(&self) -> u64 {
        let all = u64::from(self.memory_mib);
        all - (all / 8).min(KEPT_FOR_SMALL_MIB)
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// The name of the setting and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        for (name, value, low, high) in [
            ("image.max_bytes", self.image.max_bytes, 1, 1 << 30),
            ("image.max_pixels", self.image.max_pixels, 1, 1 << 30),
            ("image.max_side", u64::from(self.image.max_side), 1, 65_535),
            (
                "image.max_ratio",
                u64::from(self.image.max_ratio),
                1,
                65_535,
            ),
            ("image.png_level", u64::from(self.image.png_level), 1, 12),
            ("receive_seconds", self.receive_seconds, 1, 3_600),
            ("process_ms", self.process_ms, 100, 600_000),
            ("memory_mib", u64::from(self.memory_mib), 64, 1 << 20),
            ("wait_seconds", self.wait_seconds, 1, 600),
        ] {
            if !(low..=high).contains(&value) {
                return Err(format!("uploads.{name} = {value}: must be {low} to {high}"));
            }
        }
        if self.isolation == Isolation::Process && !cfg!(target_os = "linux") {
            return Err("uploads.isolation = process: only Linux has these walls".into());
        }
        Ok(())
    }
}
