//! Pictures from a service elsewhere: an OpenAI-compatible upstream, beside or instead of the engine.
//!
//! A model of the provider is one more name in the list of models. Its jobs take the same path as the engine's ones:
//! limits, idempotency, a queue with fairness and deadlines ([`crate::schedule::Remote`]), storage, provenance, logs.
//! What differs is one call: [`call`] asks, [`wire`] reads, and the picture goes through the sanitiser for strangers'
//! pictures before it counts as one.
//!
//! The upstream is told the prompt, the model, the size and how many. It is told nothing of who asks.

mod budget;
mod call;
mod error;
mod key;
mod models;
mod money;
mod settings;
pub mod wire;

pub use error::{ProviderError, problem};
pub use models::Upstream;
pub use settings::Settings;
