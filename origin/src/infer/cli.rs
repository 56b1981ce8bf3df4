//! `signet generate`: one picture in this process, without server, state or keys.

use super::engine::{Engine, StepEvent};
use super::error::InferError;
use super::pixels::{Format, encode};
use super::settings::Settings;
use super::truncation::Truncated;
use std::ops::ControlFlow;
use std::path::Path;

/// What `signet generate` was asked for.
#[derive(Debug, Clone, Default)]
pub struct CliRequest<'a> {
    /// What to show.
    pub prompt: &'a str,
    /// Seed; `None` leaves it at 0.
    pub seed: Option<u64>,
    /// Steps; `None` takes the model's default.
    pub steps: Option<usize>,
    /// Model name; empty takes the default one.
    pub model: &'a str,
}

/// Makes one picture and writes it; the file's ending picks the format, PNG without one. Tells what of the prompt the
/// model did not read.
///
/// # Errors
/// See [`InferError`]; a file that cannot be written is `Encode`.
pub fn cli_generate(
    settings: &Settings,
    request: &CliRequest<'_>,
    output: &Path,
    on_step: &mut dyn FnMut(StepEvent),
) -> Result<Vec<Truncated>, InferError> {
    let extension = output
        .extension()
        .map_or("png".into(), |e| e.to_string_lossy());
    let format = Format::parse(&extension.to_ascii_lowercase()).ok_or_else(|| {
        InferError::Encode(format!(
            "no format is called .{extension}; there are png, webp, jpg"
        ))
    })?;
    let engine = Engine::load(settings)?;
    let mut spec = engine
        .model(request.model)?
        .spec(request.prompt, request.seed.unwrap_or(0));
    spec.steps = request.steps.unwrap_or(spec.steps);
    let pictures = engine.generate(&spec, &mut |event| {
        on_step(event);
        ControlFlow::Continue(())
    })?;
    let picture = pictures.first().ok_or(InferError::Panicked)?;
    let bytes = encode(picture, format)?;
    std::fs::write(output, bytes)
        .map_err(|error| InferError::Encode(format!("{}: {error}", output.display())))?;
    Ok(engine.truncated(&spec))
}
