//! From the denoiser's output to the next state, and to what a picture looks like meanwhile.

use super::kernel::Kind;
use super::kernels::{Kernels, floats, numbers, on_host, places};
use crate::infer::error::InferError;
use crate::infer::noise::Noise;
use crate::infer::row::Row;
use crate::infer::scheduler::{Sampler, StepMatrix};
use ort::value::{DynTensor, TensorElementType};

/// A row's step, before anything of it is carried out.
pub struct Plan {
    pub sampler: Sampler,
    pub noise: Noise,
    matrix: StepMatrix,
    /// Fresh noise, where the step takes some.
    fresh: Option<Vec<f32>>,
}

impl Plan {
    pub fn of(row: &Row) -> Result<Self, InferError> {
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

/// A step between the denoiser's run and the next state.
pub struct Step<'a> {
    pub kernels: &'a Kernels,
    pub state: &'a DynTensor,
    pub output: &'a DynTensor,
    /// Where in the output each row's two lie, unguided and guided.
    pub pairs: &'a [[i64; 2]],
    pub planes: usize,
}

impl Step<'_> {
    /// The next state of all rows, and which of them are finite.
    pub fn advance(
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

    /// Takes down what rows look like whose preview is wanted. One that fails is a preview less.
    pub fn preview(&self, rows: &mut [&mut Row]) {
        for place in 0..rows.len() {
            if rows.get(place).is_some_and(|row| row.wants_preview())
                && let Ok(clean) = self.aim(rows, place)
                && let Some(row) = rows.get_mut(place)
            {
                row.saw(clean);
            }
        }
    }

    /// The clean latents that a row's step aims at, on the host.
    fn aim(&self, rows: &[&mut Row], place: usize) -> Result<Vec<f32>, InferError> {
        let row = rows.get(place).ok_or(InferError::Panicked)?;
        let [channels, height, width] = row.latent_shape();
        let [of_latents, of_output] = row.sampler.clean_weights();
        let mut weights = vec![0.0; self.planes + 1];
        if let [first, .., last] = weights.as_mut_slice() {
            (*first, *last) = (of_latents, of_output);
        }
        let weights = floats(&[1, self.planes as i64 + 1, 1, 1, 1], weights)?;
        let of_state = [1, self.planes, channels, height, width].map(|n| n as i64);
        let from = places(&[1], vec![place as i64])?;
        let mut alone = self.kernels.tensor(TensorElementType::Float32, &of_state)?;
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
        Ok(numbers(&clean)?.to_vec())
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
