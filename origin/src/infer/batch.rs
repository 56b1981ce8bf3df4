//! One denoiser call for several rows, and each row's own step after it.
//!
//! Every row's numbers depend on that row alone: prompts are encoded one by one, the denoiser's
//! operators work sample by sample, guidance and solver run on the row's own slice. Where latents
//! stay on the device, `resident` takes the step instead.

use super::error::InferError;
use super::model::{Model, finite};
use super::numbers::Feed;
use super::resident;
use super::row::Row;

/// Buffers reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    sample: Vec<f32>,
    timestep: Vec<f32>,
    hidden: Vec<f32>,
    pooled: Vec<f32>,
    time_ids: Vec<f32>,
    guidance: Vec<f32>,
    output: Vec<f32>,
    mixed: Vec<f32>,
}

/// Takes one step with rows of equal key; each row's own outcome comes back in order.
///
/// # Errors
/// The whole call failed and no row has moved.
pub fn step(rows: &mut [&mut Row]) -> Result<Vec<Result<(), InferError>>, InferError> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let model = std::sync::Arc::clone(&first.model);
    if let Some(kernels) = model.resident() {
        return resident::step(kernels, rows);
    }
    let mut scratch = model.scratch();
    let slots = fill(&mut scratch, &model, rows)?;
    call(&mut scratch, &model, rows, slots)?;
    let [channels, height, width] = rows.first().map_or([0; 3], |row| row.latent_shape());
    let size = channels * height * width;
    let Scratch { output, mixed, .. } = &mut *scratch;
    let mut outputs = output.chunks_exact(size.max(1));
    let outcomes = rows.iter_mut().map(|row| {
        let first = outputs.next().unwrap_or_default();
        let guess = match row.negative {
            None => first,
            Some(_) => {
                let with = outputs.next().unwrap_or_default();
                let guidance = row.guidance;
                mixed.clear();
                mixed.extend(
                    first
                        .iter()
                        .zip(with)
                        .map(|(without, with)| without + guidance * (with - without)),
                );
                mixed.as_slice()
            }
        };
        finite(guess, "unet")?;
        row.advance(guess)
    });
    Ok(outcomes.collect())
}

/// Lays the rows side by side, unguided before guided; gives the number of slots.
fn fill(scratch: &mut Scratch, model: &Model, rows: &[&mut Row]) -> Result<usize, InferError> {
    let Scratch {
        sample,
        timestep,
        hidden,
        pooled,
        time_ids,
        guidance,
        ..
    } = scratch;
    for buffer in [
        &mut *sample,
        &mut *timestep,
        &mut *hidden,
        &mut *pooled,
        &mut *time_ids,
        &mut *guidance,
    ] {
        buffer.clear();
    }
    let mut slots = 0;
    for row in rows {
        let time = row.sampler.timestep().ok_or(InferError::BadSpec {
            field: "steps",
            reason: "are all taken already".to_owned(),
        })?;
        let start = sample.len();
        sample.resize(start + row.latents.len(), 0.0);
        row.sampler
            .model_input(&row.latents, sample.get_mut(start..).unwrap_or_default());
        if row.negative.is_some() {
            sample.extend_from_within(start..);
        }
        for text in row.negative.iter().chain([&row.positive]) {
            slots += 1;
            timestep.push(time);
            hidden.extend_from_slice(&text.hidden);
            pooled.extend_from_slice(&text.pooled);
            time_ids.extend_from_slice(&row.time_ids());
            if let Some(size) = model.guidance_embedding {
                guidance_embedding(row.guidance - 1.0, size, guidance);
            }
        }
    }
    Ok(slots)
}

/// Sines and cosines of the guidance scale, as LCM models were distilled with.
pub fn guidance_embedding(scale: f32, size: usize, out: &mut Vec<f32>) {
    let half = size / 2;
    let step = 10_000f32.ln() / (half.max(2) - 1) as f32;
    let angles: Vec<f32> = (0..half)
        .map(|i| scale * 1000.0 * (-step * i as f32).exp())
        .collect();
    out.extend(angles.iter().map(|a| a.sin()));
    out.extend(angles.iter().map(|a| a.cos()));
    out.extend(std::iter::repeat_n(0.0, size % 2));
}

fn call(
    scratch: &mut Scratch,
    model: &Model,
    rows: &[&mut Row],
    slots: usize,
) -> Result<(), InferError> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let [channels, height, width] = first.latent_shape().map(|n| n as i64);
    let tokens = first.positive.tokens;
    // An export with a fixed number of rows is filled up with copies of the first.
    let batch = model.fixed_rows.unwrap_or(slots).max(slots);
    for buffer in [
        &mut scratch.sample,
        &mut scratch.timestep,
        &mut scratch.hidden,
        &mut scratch.pooled,
        &mut scratch.time_ids,
        &mut scratch.guidance,
    ] {
        let one = buffer.len() / slots.max(1);
        for _ in slots..batch {
            buffer.extend_from_within(..one);
        }
    }
    let rows = batch as i64;
    let width_of = |buffer: &Vec<f32>, parts: i64| buffer.len() as i64 / parts.max(1);
    let sample_shape = [rows, channels, height, width];
    let dimensions = width_of(&scratch.hidden, rows * tokens as i64);
    let hidden_shape = [rows, tokens as i64, dimensions];
    let timestep_port = model.unet.need_input("timestep")?;
    let times: &[f32] = match model.timestep_per_row {
        true => &scratch.timestep,
        false => scratch.timestep.get(..1).unwrap_or_default(),
    };
    let timestep_shape: &[i64] = match (model.timestep_per_row, timestep_port.shape.len()) {
        (true, _) => &[rows],
        (false, 0) => &[],
        (false, _) => &[1],
    };
    let pooled_shape = [rows, width_of(&scratch.pooled, rows)];
    let ids_shape = [rows, 6];
    let guidance_shape = [rows, width_of(&scratch.guidance, rows)];
    let all: [(&str, &[i64], &[f32]); 6] = [
        ("sample", &sample_shape, &scratch.sample),
        ("timestep", timestep_shape, times),
        ("encoder_hidden_states", &hidden_shape, &scratch.hidden),
        ("text_embeds", &pooled_shape, &scratch.pooled),
        ("time_ids", &ids_shape, &scratch.time_ids),
        ("timestep_cond", &guidance_shape, &scratch.guidance),
    ];
    let feeds: Vec<_> = all
        .into_iter()
        .filter(|(name, ..)| model.unet.input(name).is_some())
        .map(|(name, shape, data)| (name, shape, Feed::Floats(data)))
        .collect();
    let output = model.unet.first_output()?.name.as_str();
    let (expected, result) = (scratch.sample.len(), &mut scratch.output);
    model.unet.run(&feeds, &[output], |_, shape, data| {
        if data.len() != expected {
            let reason = format!("gave shape {shape:?} for {sample_shape:?}");
            return Err(InferError::broken(&model.unet.file, reason));
        }
        result.clear();
        result.extend_from_slice(data);
        Ok(())
    })
}
