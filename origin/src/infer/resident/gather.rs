//! States that rows lie in, and putting rows of different calls into one.

use super::kernel::Kind;
use super::kernels::{Kernels, floats, numbers, on_host, places};
use crate::infer::error::InferError;
use crate::infer::row::Row;
use ort::value::{DynTensor, TensorElementType};
use std::sync::Arc;

/// Where a row's latents lie while it is not on the host.
pub struct Home {
    pub(super) state: Arc<DynTensor>,
    pub(super) place: usize,
}

impl Home {
    /// A place in a state.
    pub fn new(state: &Arc<DynTensor>, place: usize) -> Self {
        let state = Arc::clone(state);
        Self { state, place }
    }

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

/// Puts rows into one state; gives it, and each row's place in it.
pub fn gather(
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
