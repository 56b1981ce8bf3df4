//! One engine, many users: bounded admission and step-level continuous batching.
//!
//! The engine's thread holds the rows of all running jobs. Before each denoiser call it lets go
//! of cancelled and late jobs, begins queued ones while there is room, and fills the call by
//! deficit round robin over users, so that rows of strangers at different steps share it. A row
//! that is not chosen keeps its latents and waits; a job of a new user is in the very next call.
//! Where the device gains by it, prompts are encoded and pictures decoded on threads beside the
//! steps (`stages`); the engine's thread waits for neither.
//!
//! Submitting never blocks: a job is admitted or refused under a lock held for microseconds.

mod cards;
mod error;
mod fair;
mod handle;
mod queue;
mod rate;
mod remote;
mod running;
mod settings;
mod stages;
mod state;
mod step;
mod work;
mod worker;

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod cards_tests;
#[cfg(test)]
mod clockwork;
#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod overlap_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod stress_tests;

pub use cards::Cards;
pub use error::{JobError, QueueError};
pub use handle::{Canceller, Done, JobHandle, Meter, PreviewSource, Progress};
pub use queue::{JobSpec, Observer, Queue, Stats};
pub use remote::Remote;
pub use settings::Settings;
pub use work::{Facts, Work};

use std::time::Duration;

/// What the engine's threads tell whoever measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation {
    /// A job began after waiting so long.
    Waited(Duration),
    /// A denoiser call had so many rows.
    Batch {
        /// Rows, two a guided picture.
        slots: usize,
    },
    /// A stage (`text`, `denoise`, `decode`) took so long.
    Stage {
        /// Which one.
        stage: &'static str,
        /// How long, once.
        took: Duration,
    },
}
