//! What can go wrong between a prompt and a picture, each with a stable code.

use super::scheduler::SchedulerError;
use std::path::PathBuf;

/// Why an engine did not load or a picture was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferError {
    /// No ONNX Runtime at any of the places looked at.
    #[error(
        "ONNX Runtime was not found; looked at {tried}. Run `scripts/demo` once, or set infer.library"
    )]
    RuntimeMissing {
        /// The places, in order, joined by commas.
        tried: String,
    },
    /// A library that is not a usable ONNX Runtime.
    #[error("ONNX Runtime at {path} cannot be used: {reason}")]
    RuntimeUnusable {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The device that the configuration demands is not there.
    #[error("device {device} cannot be used: {reason}")]
    DeviceUnavailable {
        /// As configured.
        device: &'static str,
        /// What is missing.
        reason: String,
    },
    /// None of the configured folders holds a usable model.
    #[error("no model could be loaded: {reasons}")]
    NoModel {
        /// One reason a folder.
        reasons: String,
    },
    /// A model folder with a part missing, damaged or not fitting the others.
    #[error("model file {file}: {reason}")]
    ModelBroken {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A request for a model that is not loaded.
    #[error("model {0:?} is not loaded")]
    UnknownModel(String),
    /// A model that does not fit beside the others in `infer.memory_mib`.
    #[error(
        "model folder {folder} takes {needed} MiB where {left} MiB of infer.memory_mib are left"
    )]
    OverBudget {
        /// The model's folder.
        folder: PathBuf,
        /// What its graphs take.
        needed: u64,
        /// What is left for it.
        left: u64,
    },
    /// The only model cannot be taken out.
    #[error("model {0:?} is the only one that is loaded")]
    LastModel(String),
    /// A parameter outside what the model can do.
    #[error("{field} {reason}")]
    BadSpec {
        /// The request's field.
        field: &'static str,
        /// What would be accepted.
        reason: String,
    },
    /// The denoiser or decoder gave numbers that are not finite.
    #[error("the model gave values that are not finite ({stage})")]
    NotFinite {
        /// Which graph gave them.
        stage: &'static str,
    },
    /// The device ran out of memory.
    #[error("out of memory ({stage})")]
    OutOfMemory {
        /// Which graph was running.
        stage: &'static str,
    },
    /// ONNX Runtime refused or failed a run.
    #[error("inference failed ({stage}): {reason}")]
    RunFailed {
        /// Which graph was running.
        stage: &'static str,
        /// The runtime's words.
        reason: String,
    },
    /// Cancelled by the caller at a step boundary.
    #[error("cancelled")]
    Cancelled,
    /// A picture could not be encoded.
    #[error("encoding failed: {0}")]
    Encode(String),
    /// A defect in the engine; the job is lost, the engine lives.
    #[error("the engine failed on this job")]
    Panicked,
}

impl InferError {
    /// The code that answers, logs and metrics carry.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RuntimeMissing { .. } => "runtime_missing",
            Self::RuntimeUnusable { .. } => "runtime_unusable",
            Self::DeviceUnavailable { .. } => "device_unavailable",
            Self::NoModel { .. } => "no_model",
            Self::ModelBroken { .. } => "model_broken",
            Self::UnknownModel(_) => "unknown_model",
            Self::OverBudget { .. } => "over_memory_budget",
            Self::LastModel(_) => "last_model",
            Self::BadSpec { .. } => "invalid_request",
            Self::NotFinite { .. } => "not_finite",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::RunFailed { .. } => "inference_failed",
            Self::Cancelled => "cancelled",
            Self::Encode(_) => "encode_failed",
            Self::Panicked => "engine_failed",
        }
    }

    /// Whether the caller's request is at fault rather than the service.
    pub fn is_callers_fault(&self) -> bool {
        matches!(self, Self::UnknownModel(_) | Self::BadSpec { .. })
    }

    pub(super) fn broken(file: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::ModelBroken {
            file: file.into(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn run(stage: &'static str, error: &ort::Error) -> Self {
        let reason = error.message().to_owned();
        let lower = reason.to_ascii_lowercase();
        let memory = [
            "out of memory",
            "bad_alloc",
            "failed to allocate memory",
            "cudamalloc",
        ];
        match memory.iter().any(|words| lower.contains(words)) {
            true => Self::OutOfMemory { stage },
            false => Self::RunFailed { stage, reason },
        }
    }
}

impl From<SchedulerError> for InferError {
    /// Plans are made of request parameters; files are refused while loading, with their path.
    fn from(error: SchedulerError) -> Self {
        Self::BadSpec {
            field: "steps",
            reason: error.to_string(),
        }
    }
}
