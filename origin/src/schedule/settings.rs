//! The section `queue` of the configuration.

use serde::{Deserialize, Serialize};

/// How much may wait, and how much runs at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Jobs that may wait to be started, over all users. At least 64.
    pub depth: usize,
    /// Longest delay, in seconds, that a job is admitted to: the time by which it would finish
    /// later than on an idle machine, from the backlog and the measured rate.
    pub longest_wait_seconds: u64,
    /// Seconds after its admission by which a job must be done. One that would take longer by the measured rate is
    /// refused; one that comes too late all the same fails, and pays for what ran.
    pub deadline_seconds: u64,
    /// Denoiser rows in one call; a picture with guidance takes two.
    pub max_batch: usize,
    /// Pixels in one call, rows times width times height: bounds the memory of a call. A picture
    /// that alone would need more is refused with `too_large`.
    pub batch_pixels: usize,
    /// Whether a first step is taken at start-up, to measure the rate and warm the device.
    pub warm_up: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            depth: 256,
            longest_wait_seconds: 60,
            deadline_seconds: 600,
            max_batch: 16,
            batch_pixels: 1 << 21,
            warm_up: true,
        }
    }
}

impl Settings {
    /// Says what cannot work, before anything is started.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if self.depth < 64 {
            return Err("queue.depth must be at least 64".to_owned());
        }
        if !(1..=86_400).contains(&self.longest_wait_seconds) {
            return Err("queue.longest_wait_seconds must be from 1 to 86400".to_owned());
        }
        if !(1..=86_400).contains(&self.deadline_seconds) {
            return Err("queue.deadline_seconds must be from 1 to 86400".to_owned());
        }
        if !(1..=1024).contains(&self.max_batch) {
            return Err("queue.max_batch must be from 1 to 1024".to_owned());
        }
        if self.batch_pixels < 64 * 64 {
            return Err("queue.batch_pixels must be at least 4096".to_owned());
        }
        Ok(())
    }

    /// Denoiser rows of pictures of `area` pixels that one call may have.
    pub fn slots(&self, area: usize) -> usize {
        (self.batch_pixels / area.max(1)).min(self.max_batch).max(1)
    }
}
