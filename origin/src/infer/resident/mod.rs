//! Steps whose latents stay on the device: they come up with a picture's first step and go down
//! after its last.
//!
//! All rows of a call lie in one tensor, their state: latents, and what their solvers remember.
//! A step is four runs: the state becomes what the denoiser sees ([`Kind::Show`]), the denoiser
//! runs on tensors at fixed places ([`prepared`]), its output and the state become the next state
//! ([`Kind::Advance`]) by numbers that the solver was asked for ([`StepMatrix`]). Rows that come
//! from different calls are put into one state first. The host sends positions, coefficients,
//! timesteps, fresh noise where a solver wants it, and texts when the rows change; it gets back
//! whether each row's numbers are finite.

mod advance;
mod gather;
mod kernel;
mod kernels;
mod prepared;
mod replay;
mod rows;

#[cfg(test)]
mod tests;

pub use gather::Home;
pub use kernels::Kernels;
pub use prepared::{Calls, is_supported};
pub use replay::agree;

use super::error::InferError;
use super::row::Row;
use advance::{Plan, Step};
use gather::gather;
use rows::lay_out;
use std::sync::{Arc, MutexGuard};

/// Bytes that a row of a call takes on the device at most, besides what the denoiser's run does: in
/// its state, the next one and one that both came from, in what is shown to the denoiser and given
/// by it, and in its text.
pub fn bytes(row: &Row) -> u64 {
    let latents = row.latents.len() * (3 * row.model.scheduler.planes() + 4);
    let text = row.positive.hidden.len() + row.positive.pooled.len();
    (latents + text) as u64 * size_of::<f32>() as u64
}

/// Takes one step with rows of equal key; each row's own outcome comes back in order.
///
/// # Errors
/// The whole call failed and no row has moved.
pub fn step(
    kernels: &Kernels,
    rows: &mut [&mut Row],
) -> Result<Vec<Result<(), InferError>>, InferError> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let model = Arc::clone(&first.model);
    let planes = model.scheduler.planes();
    let (state, order) = gather(kernels, rows, planes)?;
    // From here on rows are in the state's order.
    let mut slots = Vec::from_iter(std::iter::repeat_with(|| None).take(rows.len()));
    for (row, place) in rows.iter_mut().zip(&order) {
        if let Some(slot) = slots.get_mut(*place) {
            *slot = Some(&mut **row);
        }
    }
    let mut placed: Vec<&mut Row> = slots.into_iter().flatten().collect();
    let plans = placed.iter().map(|row| Plan::of(row));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;

    let mut calls = Kept(model.calls(), model.unet.is_frugal);
    let (of_call, pairs) = lay_out(&model, &placed)?;
    let (prepared, graphs) = calls.0.of(kernels, &model, &of_call)?;
    prepared.fill(kernels, &model, &state, &of_call)?;
    let output = prepared.run(kernels, &model.unet, graphs)?;

    let step = Step {
        kernels,
        state: &state,
        output,
        pairs: &pairs,
        planes,
    };
    step.preview(&mut placed);
    let (next, sound) = step.advance(&placed, &plans)?;
    drop(calls);
    let next = Arc::new(next);
    let settled = placed.iter_mut().zip(plans).zip(sound).enumerate();
    let mut outcomes: Vec<(usize, Result<(), InferError>)> = settled
        .map(|(place, ((row, plan), is_sound))| {
            (row.sampler, row.noise) = (plan.sampler, plan.noise);
            row.home = Some(Home::new(&next, place));
            (place, settle(row, is_sound))
        })
        .collect();
    // Back into the order in which the rows came.
    outcomes.sort_by_key(|(place, _)| order.iter().position(|of_row| of_row == place));
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// The prepared calls during a step. With a memory budget they are gone after it, however it ends.
struct Kept<'a>(MutexGuard<'a, Calls>, bool);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.clear();
        }
    }
}

/// What becomes of a row that has moved; its last step brings its latents to the host.
fn settle(row: &mut Row, is_sound: bool) -> Result<(), InferError> {
    if !is_sound {
        return Err(InferError::NotFinite { stage: "unet" });
    }
    if row.is_finished() {
        row.look()?;
        row.home = None;
    }
    Ok(())
}
