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

mod kernel;
mod kernels;
mod prepared;
mod replay;

#[cfg(test)]
mod tests;

pub use kernels::Kernels;
pub use prepared::{Calls, is_supported};
pub use replay::agree;

use super::error::InferError;
use super::model::Model;
use super::noise::Noise;
use super::row::Row;
use super::scheduler::{Sampler, StepMatrix};
use kernel::Kind;
use kernels::{floats, numbers, on_host, places};
use ort::value::{DynTensor, TensorElementType};
use prepared::{Rows, Shape, Told};
use std::sync::Arc;

/// Where a row's latents lie while it is not on the host.
pub struct Home {
    state: Arc<DynTensor>,
    place: usize,
}

/// Bytes that a row of a call takes on the device at most, besides what the denoiser's run does: in
/// its state, the next one and one that both came from, in what is shown to the denoiser and given
/// by it, and in its text.
pub fn bytes(row: &Row) -> u64 {
    let latents = row.latents.len() * (3 * row.model.scheduler.planes() + 4);
    let text = row.positive.hidden.len() + row.positive.pooled.len();
    (latents + text) as u64 * size_of::<f32>() as u64
}

/// A row's step, before anything of it is carried out.
struct Plan {
    sampler: Sampler,
    noise: Noise,
    matrix: StepMatrix,
    /// Fresh noise, where the step takes some.
    fresh: Option<Vec<f32>>,
}

impl Plan {
    fn of(row: &Row) -> Result<Self, InferError> {
        let mut sampler = row.sampler.clone();
        let mut noise = row.noise.clone();
        let matrix = sampler.step_matrix()?;
        let fresh = matrix.noise.as_ref().map(|_| {
            let mut fresh = Vec::new();
            noise.next_draw(row.latents.len(), |drawn| fresh.extend_from_slice(drawn));
            fresh
        });
        Ok(Self {
            sampler,
            noise,
            matrix,
            fresh,
        })
    }
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

    let mut calls = model.calls();
    let (of_call, pairs) = lay_out(&model, &placed)?;
    let shape = shape_of(&placed, of_call.places.len());
    let (prepared, graphs) = calls.of(kernels, &model, shape, &of_call.told)?;
    let time_ids = placed.first().map_or([0.0; 6], |row| row.time_ids());
    prepared.fill(kernels, &model, &state, &of_call, time_ids)?;
    let output = prepared.run(kernels, &model.unet, graphs)?;

    let step = Step {
        kernels,
        state: &state,
        output,
        pairs: &pairs,
        planes,
    };
    step.preview(&mut placed)?;
    let (next, sound) = step.advance(&placed, &plans)?;
    if model.unet.frugal.is_some() {
        calls.clear();
    }
    drop(calls);
    let next = Arc::new(next);
    for (place, (row, plan)) in placed.iter_mut().zip(plans).enumerate() {
        (row.sampler, row.noise) = (plan.sampler, plan.noise);
        row.home = Some(Home {
            state: Arc::clone(&next),
            place,
        });
        if row.is_finished() {
            row.look()?;
            row.home = None;
        }
    }
    let outcomes = order.iter().map(|place| match sound.get(*place) {
        Some(true) => Ok(()),
        _ => Err(InferError::NotFinite { stage: "unet" }),
    });
    Ok(outcomes.collect())
}

/// Puts rows into one state; gives it, and each row's place in it.
fn gather(
    kernels: &Kernels,
    rows: &[&mut Row],
    planes: usize,
) -> Result<(Arc<DynTensor>, Vec<usize>), InferError> {
    let shape = rows.first().map_or([0; 3], |row| row.latent_shape());
    let whole = |count: usize| -> Vec<i64> {
        [count, planes]
            .iter()
            .chain(&shape)
            .map(|n| *n as i64)
            .collect()
    };
    // Each state that rows come from, with their places there and their positions here.
    let mut sources: Vec<(&Arc<DynTensor>, Vec<i64>, Vec<usize>)> = Vec::new();
    let mut newcomers = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let Some(home) = &row.home else {
            newcomers.push(i);
            continue;
        };
        let known = sources
            .iter_mut()
            .find(|(state, ..)| Arc::ptr_eq(state, &home.state));
        match known {
            Some((_, places, positions)) => {
                places.push(home.place as i64);
                positions.push(i);
            }
            None => sources.push((&home.state, vec![home.place as i64], vec![i])),
        }
    }
    let mut order = vec![0; rows.len()];
    if let ([(state, places, _)], true) = (sources.as_slice(), newcomers.is_empty())
        && state.shape().first() == Some(&(places.len() as i64))
    {
        for (place, from) in order.iter_mut().zip(places) {
            *place = usize::try_from(*from).unwrap_or(0);
        }
        return Ok((Arc::clone(state), order));
    }
    let mut parts: Vec<(Arc<DynTensor>, Vec<i64>, Vec<usize>)> = sources
        .into_iter()
        .map(|(state, places, positions)| (Arc::clone(state), places, positions))
        .collect();
    if !newcomers.is_empty() {
        let mut values = Vec::new();
        for row in newcomers.iter().filter_map(|i| rows.get(*i)) {
            values.extend_from_slice(&row.latents);
            // What a solver will remember is nothing yet.
            values.resize(values.len() + (planes - 1) * row.latents.len(), 0.0);
        }
        let state = floats(&whole(newcomers.len()), values)?;
        let places = (0..newcomers.len() as i64).collect();
        parts.push((Arc::new(state), places, newcomers));
    }
    let mut joined: Option<Arc<DynTensor>> = None;
    let mut count = 0;
    for (state, from, positions) in parts {
        for (i, position) in positions.iter().enumerate() {
            if let Some(place) = order.get_mut(*position) {
                *place = count + i;
            }
        }
        let all = state.shape().first() == Some(&(from.len() as i64));
        let added = from.len();
        let of_new = places(&[added as i64], from)?;
        let single = TensorElementType::Float32;
        joined = Some(match joined {
            None if all => state,
            None => {
                let mut out = kernels.tensor(single, &whole(added))?;
                let inputs = [("state", &*state), ("rows", &of_new)];
                kernels.run(Kind::Pick, &inputs, &mut [("out", &mut out)])?;
                Arc::new(out)
            }
            Some(before) => {
                let mut out = kernels.tensor(single, &whole(count + added))?;
                let of_old = places(&[count as i64], (0..count as i64).collect())?;
                let inputs = [
                    ("a", &*before),
                    ("rows_a", &of_old),
                    ("b", &*state),
                    ("rows_b", &of_new),
                ];
                kernels.run(Kind::Join, &inputs, &mut [("out", &mut out)])?;
                Arc::new(out)
            }
        });
        count += added;
    }
    let state = joined.ok_or(InferError::Panicked)?;
    Ok((state, order))
}

/// The rows of a denoiser's call, unguided before guided, and where in it each picture's two lie.
fn lay_out(model: &Model, rows: &[&mut Row]) -> Result<(Rows, Vec<[i64; 2]>), InferError> {
    let mut call = Rows::default();
    let mut pairs = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let time = row.sampler.timestep().ok_or(InferError::BadSpec {
            field: "steps",
            reason: "are all taken already".to_owned(),
        })?;
        let first = call.places.len() as i64;
        for text in row.negative.iter().chain([&row.positive]) {
            call.places.push(place as i64);
            call.scales.push(row.sampler.input_scale());
            call.times.push(time);
            call.told.push(Told {
                text: Arc::clone(text),
                guidance: row.guidance.to_bits(),
            });
        }
        pairs.push([first, call.places.len() as i64 - 1]);
    }
    call.fill_up(model.fixed_rows.unwrap_or(0));
    Ok((call, pairs))
}

fn shape_of(rows: &[&mut Row], count: usize) -> Shape {
    let [channels, height, width] = rows.first().map_or([0; 3], |row| row.latent_shape());
    Shape {
        rows: count,
        channels,
        height,
        width,
        tokens: rows.first().map_or(0, |row| row.positive.tokens),
    }
}

/// A step between the denoiser's run and the next state.
struct Step<'a> {
    kernels: &'a Kernels,
    state: &'a DynTensor,
    output: &'a DynTensor,
    pairs: &'a [[i64; 2]],
    planes: usize,
}

impl Step<'_> {
    /// The next state of all rows, and which of them are finite.
    fn advance(
        &self,
        rows: &[&mut Row],
        plans: &[Plan],
    ) -> Result<(DynTensor, Vec<bool>), InferError> {
        let (count, planes) = (rows.len(), self.planes);
        let [channels, height, width] = rows.first().map_or([0; 3], |row| row.latent_shape());
        let size = channels * height * width;
        let sizes = |dimensions: [usize; 5]| dimensions.map(|n| n as i64);
        let whole = sizes([count, planes, channels, height, width]);

        let mut matrix = Vec::new();
        for plan in plans {
            for before in 0..=planes {
                for after in 0..planes {
                    matrix.push(
                        plan.matrix
                            .weight(after, (before < planes).then_some(before)),
                    );
                }
            }
        }
        let matrix = floats(&sizes([count, planes * (planes + 1), 1, 1, 1]), matrix)?;

        let one = [1; 5];
        let (noise, loud) = match plans.iter().any(|plan| plan.fresh.is_some()) {
            false => (floats(&one, vec![0.0])?, floats(&one, vec![0.0])?),
            true => {
                let (mut noise, mut loud) = (Vec::new(), Vec::new());
                for plan in plans {
                    match &plan.fresh {
                        Some(fresh) => noise.extend_from_slice(fresh),
                        None => noise.resize(noise.len() + size, 0.0),
                    }
                    let weights = plan.matrix.noise.iter().flatten().copied();
                    loud.extend(weights.chain(std::iter::repeat(0.0)).take(planes));
                }
                let loud = floats(&sizes([count, planes, 1, 1, 1]), loud)?;
                (
                    floats(&sizes([count, 1, channels, height, width]), noise)?,
                    loud,
                )
            }
        };
        let (mask, known) = match rows.iter().any(|row| row.kept.is_some()) {
            false => (floats(&one, vec![1.0])?, floats(&one, vec![0.0])?),
            true => {
                let (mut mask, mut known) = (Vec::new(), Vec::new());
                for (row, plan) in rows.iter().zip(plans) {
                    let end = (
                        mask.len() + planes * height * width,
                        known.len() + planes * size,
                    );
                    if let Some(kept) = &row.kept {
                        mask.extend_from_slice(kept.mask());
                        known.extend(kept.share(&plan.sampler));
                    }
                    // What the solver remembers stays as it is.
                    mask.resize(end.0, 1.0);
                    known.resize(end.1, 0.0);
                }
                let mask = floats(&sizes([count, planes, 1, height, width]), mask)?;
                (mask, floats(&whole, known)?)
            }
        };
        let all: Vec<usize> = (0..count).collect();
        let mut next = self.kernels.tensor(TensorElementType::Float32, &whole)?;
        let mut sound = on_host(&[count as i64])?;
        self.run(
            self.state,
            rows,
            &all,
            [&matrix, &noise, &loud, &mask, &known],
            (&mut next, &mut sound),
        )?;
        let sound = numbers(&sound)?.iter().map(|x| *x == 0.0).collect();
        Ok((next, sound))
    }

    /// Takes down what rows look like whose preview is wanted: of each, a step to the clean picture.
    fn preview(&self, rows: &mut [&mut Row]) -> Result<(), InferError> {
        let [channels, height, width] = rows.first().map_or([0; 3], |row| row.latent_shape());
        for place in 0..rows.len() {
            let Some(row) = rows.get(place).filter(|row| row.wants_preview()) else {
                continue;
            };
            let [of_latents, of_output] = row.sampler.clean_weights();
            let mut weights = vec![0.0; self.planes + 1];
            if let [first, .., last] = weights.as_mut_slice() {
                (*first, *last) = (of_latents, of_output);
            }
            let weights = floats(&[1, self.planes as i64 + 1, 1, 1, 1], weights)?;
            let of_state = [1, self.planes, channels, height, width].map(|n| n as i64);
            let from = places(&[1], vec![place as i64])?;
            let single = TensorElementType::Float32;
            let mut alone = self.kernels.tensor(single, &of_state)?;
            let inputs = [("state", self.state), ("rows", &from)];
            self.kernels
                .run(Kind::Pick, &inputs, &mut [("out", &mut alone)])?;
            let (one, zero) = (floats(&[1; 5], vec![1.0])?, floats(&[1; 5], vec![0.0])?);
            let mut clean = on_host(&[1, 1, channels, height, width].map(|n| n as i64))?;
            let mut sound = on_host(&[1])?;
            self.run(
                &alone,
                rows,
                &[place],
                [&weights, &zero, &zero, &one, &zero],
                (&mut clean, &mut sound),
            )?;
            let clean = numbers(&clean)?.to_vec();
            if let Some(row) = rows.get_mut(place) {
                row.saw(clean);
            }
        }
        Ok(())
    }

    /// Runs [`Kind::Advance`] for the rows at `of`.
    fn run(
        &self,
        state: &DynTensor,
        rows: &[&mut Row],
        of: &[usize],
        [matrix, noise, loud, mask, known]: [&DynTensor; 5],
        (out, sound): (&mut DynTensor, &mut DynTensor),
    ) -> Result<(), InferError> {
        let count = of.len() as i64;
        let pairs = || of.iter().filter_map(|i| self.pairs.get(*i));
        let without = places(&[count, 1], pairs().map(|[without, _]| *without).collect())?;
        let with = places(&[count, 1], pairs().map(|[_, with]| *with).collect())?;
        let scales = of.iter().filter_map(|i| rows.get(*i));
        let scales = scales.map(|row| row.guidance).collect();
        let guidance = floats(&[count, 1, 1, 1, 1], scales)?;
        self.kernels.run(
            Kind::Advance {
                planes: self.planes,
                element: *self.output.data_type(),
            },
            &[
                ("state", state),
                ("output", self.output),
                ("without", &without),
                ("with", &with),
                ("guidance", &guidance),
                ("matrix", matrix),
                ("noise", noise),
                ("loud", loud),
                ("mask", mask),
                ("known", known),
            ],
            &mut [("out", out), ("sound", sound)],
        )
    }
}

impl Home {
    /// The latents there, on the host.
    pub fn latents(&self, kernels: &Kernels, shape: [usize; 3]) -> Result<Vec<f32>, InferError> {
        let [channels, height, width] = shape.map(|n| n as i64);
        let mut out = on_host(&[1, channels, height, width])?;
        let from = places(&[1], vec![self.place as i64])?;
        let inputs = [("state", &*self.state), ("rows", &from)];
        kernels.run(Kind::Take, &inputs, &mut [("out", &mut out)])?;
        Ok(numbers(&out)?.to_vec())
    }
}
