//! Pictures from prompts: diffusion models over ONNX Runtime.
pub mod noise;
pub mod scheduler;
