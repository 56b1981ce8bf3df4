//! Trying a model out while it is loaded: whether its graphs fit each other, and with a memory
//! budget what calls of each size take.

use super::batch;
use super::error::InferError;
use super::memory::{Curve, Footprint};
use super::model::Model;
use super::pixels::Pixels;
use super::resident;
use super::row::Row;
use super::spec::ImageSpec;
use std::sync::Arc;

/// The smallest picture.
fn smallest(model: &Model) -> ImageSpec {
    let spec = plain(model, model.info.min_side, model.info.min_side);
    match model.info.validate(&spec) {
        Ok(()) => spec,
        // Sides that the export fixed at two lengths.
        Err(_) => plain(model, model.info.width, model.info.height),
    }
}

/// Latents after a picture's first step stay on the device from now on if they are there what they
/// are on the host, else on the host.
pub fn settle_residence(model: &Arc<Model>) {
    let first = |resident: bool| -> Result<Vec<f32>, InferError> {
        model.set_resident(resident);
        let mut row = Row::of_spec(model, &smallest(model))?;
        let row = row.first_mut().ok_or(InferError::Panicked)?;
        ran(batch::step(&mut [row]).map(drop))?;
        Ok(row.look()?.to_vec())
    };
    let both = first(false).and_then(|host| Ok((host, first(true)?)));
    let reason = match both {
        Ok((host, device)) if resident::agree(&host, &device) => return,
        Ok(_) => "the numbers differ".to_owned(),
        Err(error) => error.to_string(),
    };
    let model_name = &model.info.name;
    tracing::warn!(
        model = model_name,
        reason,
        "latents visit the host at every step"
    );
    model.set_resident(false);
    model.calls().clear();
}

/// One step and a picture, at the smallest size.
pub fn try_out(model: &Arc<Model>) -> Result<(), InferError> {
    for mut row in Row::of_spec(model, &smallest(model))? {
        for outcome in batch::step(&mut [&mut row])? {
            outcome?;
        }
        row.decode()?;
    }
    Ok(())
}

/// Takes a step, a picture and a picture to start from at rising sizes up to the model's own, as
/// long as the next size fits into `left` bytes for certain; the model's own comes last.
///
/// # Errors
/// What a run fails with; `over`, told the bytes, when the next size may not fit.
pub fn measure(
    model: &Arc<Model>,
    left: u64,
    over: impl Fn(u64) -> InferError,
) -> Result<Footprint, InferError> {
    let vae = &model.vae;
    let rows = model.fixed_rows.unwrap_or(1);
    let mut known = Footprint {
        text: 0,
        denoise: Curve::new(rows),
        decode: Curve::new(1),
        read: Curve::new(1),
    };
    for (width, height) in sizes(model) {
        let pixels = (width * height) as u64;
        let piece = model.piece(pixels);
        let need = known.need(pixels, rows as u64, piece).total(false);
        if need > left {
            return Err(over(need));
        }
        let mut beside = 0;
        for mut row in Row::of_spec(model, &plain(model, width, height))? {
            beside = model.resident().map_or(0, |_| resident::bytes(&row));
            ran(batch::step(&mut [&mut row]).map(drop))?;
            let latents = vec![0.0; row.latents().len()];
            ran(vae.decode(&latents, height, width, 0).map(drop))?;
            if vae.encoder.is_some() {
                let grey = Pixels {
                    width,
                    height,
                    rgb: vec![128; 3 * width * height],
                    seed: 0,
                };
                ran(vae.encode(&grey, &latents).map(drop))?;
            }
        }
        known
            .denoise
            .note(pixels, model.unet.peak()? + beside * rows as u64);
        known.decode.note(piece, vae.decoder.peak()?);
        if let Some(encoder) = &vae.encoder {
            known.read.note(piece, encoder.peak()?);
        }
    }
    let mut text = Curve::new(1);
    for encoder in &model.encoders {
        text.note(1, encoder.graph.peak()?);
    }
    known.text = text.most(1, 1);
    Ok(known)
}

/// What the numbers are like for a prompt of nothing says little.
fn ran(result: Result<(), InferError>) -> Result<(), InferError> {
    match result {
        Err(InferError::NotFinite { .. }) => Ok(()),
        other => other,
    }
}

/// Sides from the smallest picture to the usual one, each a quarter larger than the one before.
fn sizes(model: &Model) -> Vec<(usize, usize)> {
    let info = &model.info;
    let (usual, mut side) = ((info.width, info.height), info.min_side);
    let mut sizes = Vec::new();
    while side * side < usual.0 * usual.1 {
        sizes.push((side, side));
        side = (side + side / 4)
            .next_multiple_of(info.multiple)
            .max(side + info.multiple);
    }
    sizes.retain(|(width, height)| info.validate(&plain(model, *width, *height)).is_ok());
    sizes.push(usual);
    sizes
}

/// A picture of nothing, unguided.
fn plain(model: &Model, width: usize, height: usize) -> ImageSpec {
    let usual = model.info.spec("", 0);
    ImageSpec {
        width,
        height,
        steps: usual.steps.min(4),
        guidance_scale: 1.0,
        ..usual
    }
}
