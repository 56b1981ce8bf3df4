//! Pictures from prompts: diffusion models exported to ONNX, over ONNX Runtime.
//!
//! The unit of work is a [`Row`]: one picture with its own latents, its own place on its own
//! schedule and its own prompt. [`Engine::step`] moves any rows one step, sharing denoiser
//! calls between those whose model, size and (where the export takes only one timestep)
//! timestep agree. Making one request's pictures is a loop over it; the queue in `schedule`
//! keeps one such batch running for everybody.
//!
//! Only this module knows ONNX Runtime.

mod arena;
mod batch;
mod cli;
mod device;
mod engine;
mod engines;
mod error;
mod fit;
mod folder;
mod graph;
mod memory;
mod model;
mod noise;
mod numbers;
mod paste;
mod pixels;
mod place;
mod preview;
mod price;
mod probe;
mod prompts;
mod resident;
mod row;
mod runtime;
mod scale;
mod scheduler;
mod settings;
mod shelf;
mod spec;
mod tiles;
mod tokenizer;
mod truncation;
mod vae;
mod variants;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod exports_tests;
#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod memory_tests;

pub use cli::{CliRequest, cli_generate};
pub use engine::{Engine, StepEvent};
pub use engines::Engines;
pub use error::InferError;
pub use pixels::{Format, Pixels, encode};
pub use preview::Draft;
pub use price::{floor, price, reading};
pub use row::{BatchKey, Row};
pub use settings::{Device, Latents, Settings};
pub use shelf::{Changes, Refused};
pub use spec::{
    ImageSpec, InitImage, MAX_IMAGES, MAX_PROMPT, MAX_SEED, MAX_STEPS, Mask, ModelInfo,
};
pub use truncation::Truncated;
