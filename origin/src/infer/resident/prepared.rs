//! Denoiser calls of one number of rows and one size, with their tensors at fixed places on the
//! device: made once, used for as long as such calls come.

use super::kernel::Kind;
use super::kernels::{Kernels, floats, numbers, on_host, places};
use super::replay::{MOST_GRAPHS, Replay, agree};
use super::rows::{Rows, Shape, Told};
use crate::infer::error::InferError;
use crate::infer::graph::{Graph, Port};
use crate::infer::model::Model;
use ort::session::IoBinding;
use ort::value::{DynTensor, TensorElementType};
use std::sync::atomic::{AtomicI32, Ordering};

/// Calls kept prepared for a model. Each holds its rows' texts and latents.
const KEPT: usize = 16;

/// A call that is ready but for its numbers.
pub struct Prepared {
    shape: Shape,
    binding: IoBinding,
    sample: DynTensor,
    timestep: DynTensor,
    timestep_shape: Vec<i64>,
    /// Name and tensor of the other inputs, of those that the denoiser has.
    others: Vec<(&'static str, DynTensor)>,
    output: DynTensor,
    /// What `others` hold; kept from step to step.
    told: Vec<Told>,
    replay: Replay,
}

/// The prepared calls of a model, last used last.
#[derive(Default)]
pub struct Calls {
    prepared: Vec<Prepared>,
    /// Captured so far.
    graphs: AtomicI32,
}

impl Calls {
    /// The one of that shape.
    pub fn of(
        &mut self,
        kernels: &Kernels,
        model: &Model,
        rows: &Rows,
    ) -> Result<(&mut Prepared, &AtomicI32), InferError> {
        let shape = rows.shape;
        let known = self.prepared.iter().position(|one| one.shape == shape);
        let prepared = match known {
            Some(i) => self.prepared.remove(i),
            None => {
                if self.prepared.len() >= KEPT {
                    self.prepared.remove(0);
                }
                Prepared::new(kernels, model, rows)?
            }
        };
        self.prepared.push(prepared);
        let last = self.prepared.last_mut();
        let last = last.ok_or(InferError::Panicked)?;
        Ok((last, &self.graphs))
    }

    /// What is known of the graphs of those that are prepared.
    #[cfg(test)]
    pub fn replays(&self) -> Vec<(usize, Replay)> {
        let each = self.prepared.iter();
        each.map(|one| (one.shape.rows, one.replay)).collect()
    }

    /// Gives all of their memory back.
    pub fn clear(&mut self) {
        self.prepared.clear();
    }
}

impl Prepared {
    fn new(kernels: &Kernels, model: &Model, rows: &Rows) -> Result<Self, InferError> {
        let (unet, shape) = (&model.unet, rows.shape);
        let sample = kernels.tensor(unet.need_input("sample")?.element, &shape.sample())?;
        let port = unet.need_input("timestep")?;
        let timestep_shape = match (model.timestep_per_row, port.shape.len()) {
            (true, _) => vec![shape.rows as i64],
            (false, 0) => Vec::new(),
            (false, _) => vec![1],
        };
        let timestep = kernels.tensor(port.element, &timestep_shape)?;
        let mut tensors = Vec::new();
        for (name, size, _) in rows.others(model) {
            tensors.push((name, kernels.tensor(unet.need_input(name)?.element, &size)?));
        }
        let given: &Port = unet.first_output()?;
        let mut output = kernels.tensor(given.element, &shape.sample())?;
        let mut binding = unet.binding()?;
        let bound = |error: ort::Error| InferError::run(unet.stage, &error);
        binding.bind_input("sample", &sample).map_err(bound)?;
        binding.bind_input("timestep", &timestep).map_err(bound)?;
        for (name, tensor) in &tensors {
            binding.bind_input(*name, tensor).map_err(bound)?;
        }
        let name = given.name.as_str();
        binding.bind_output(name, &mut output).map_err(bound)?;
        Ok(Self {
            shape,
            binding,
            sample,
            timestep,
            timestep_shape,
            others: tensors,
            output,
            told: Vec::new(),
            replay: Replay::default(),
        })
    }

    /// Lays the numbers of a call down: of each row where its latents lie in `state`, their scale,
    /// its timestep, and what it is told.
    pub fn fill(
        &mut self,
        kernels: &Kernels,
        model: &Model,
        state: &DynTensor,
        rows: &Rows,
    ) -> Result<(), InferError> {
        let count = self.shape.rows as i64;
        let element = *self.sample.data_type();
        let from = places(&[count], rows.places.clone())?;
        let scale = floats(&[count, 1, 1, 1], rows.scales.clone())?;
        kernels.run(
            Kind::Show(element),
            &[("state", state), ("rows", &from), ("scale", &scale)],
            &mut [("out", &mut self.sample)],
        )?;
        let one_for_all = if model.timestep_per_row {
            rows.times.len()
        } else {
            1
        };
        let times = rows.times.iter().copied().take(one_for_all).collect();
        carry(kernels, &self.timestep_shape, times, &mut self.timestep)?;
        if self.told != rows.told {
            // Nothing is known of what lies there, should one of them fail.
            self.told.clear();
            let fresh = rows.others(model);
            for ((_, shape, values), (_, tensor)) in fresh.into_iter().zip(&mut self.others) {
                carry(kernels, &shape, values, tensor)?;
            }
            self.told.clone_from(&rows.told);
        }
        Ok(())
    }

    /// Runs the denoiser; its output lies on the device afterwards.
    pub fn run(
        &mut self,
        kernels: &Kernels,
        unet: &Graph,
        graphs: &AtomicI32,
    ) -> Result<&DynTensor, InferError> {
        match self.replay {
            Replay::Graph(number) => {
                if let Err(error) = unet.run_bound(&self.binding, Some(number)) {
                    tracing::warn!(%error, "a CUDA graph failed; its calls go on without");
                    self.replay = Replay::Plain;
                    unet.run_bound(&self.binding, None)?;
                }
            }
            Replay::Captured(number) => self.compare(kernels, unet, number)?,
            Replay::Untried(_) | Replay::Plain => {
                unet.run_bound(&self.binding, None)?;
                let may_capture = unet.may_capture.load(Ordering::Relaxed);
                if may_capture && self.replay.note() {
                    self.capture(unet, graphs)?;
                }
            }
        }
        Ok(&self.output)
    }

    /// Captures a graph of the call that was just made.
    fn capture(&mut self, unet: &Graph, graphs: &AtomicI32) -> Result<(), InferError> {
        let number = graphs.fetch_add(1, Ordering::Relaxed) + 1;
        self.replay = Replay::Plain;
        if number > MOST_GRAPHS {
            return Ok(());
        }
        match unet.capture(&self.binding, number) {
            Ok(()) => self.replay = Replay::Captured(number),
            Err(error) => {
                tracing::warn!(%error, "no CUDA graph could be captured; calls go on without");
                unet.may_capture.store(false, Ordering::Relaxed);
            }
        }
        // Whatever that left in the output is not the call's.
        unet.run_bound(&self.binding, None).map(drop)
    }

    /// Makes a call plainly and by the captured graph, which shows whether the graph sees new
    /// numbers, and decides.
    fn compare(&mut self, kernels: &Kernels, unet: &Graph, number: i32) -> Result<(), InferError> {
        let took = unet.run_bound(&self.binding, None)?;
        let plain = self.given(kernels)?;
        let replay = unet.run_bound(&self.binding, Some(number));
        let replayed = replay.and_then(|took| Ok((took, self.given(kernels)?)));
        match replayed {
            Ok((faster, output)) => self.replay.judge(agree(&plain, &output), took, faster),
            Err(_) => self.replay = Replay::Plain,
        }
        tracing::debug!(shape = ?self.shape, replay = ?self.replay, "compared a CUDA graph");
        match self.replay {
            Replay::Graph(_) => Ok(()),
            _ => unet.run_bound(&self.binding, None).map(drop),
        }
    }

    /// The denoiser's output, on the host.
    fn given(&self, kernels: &Kernels) -> Result<Vec<f32>, InferError> {
        let shape = self.shape.sample();
        let mut wide = on_host(&shape)?;
        let kind = Kind::Widen(*self.output.data_type());
        kernels.run(kind, &[("x", &self.output)], &mut [("out", &mut wide)])?;
        Ok(numbers(&wide)?.to_vec())
    }
}

fn carry(
    kernels: &Kernels,
    shape: &[i64],
    values: Vec<f32>,
    to: &mut DynTensor,
) -> Result<(), InferError> {
    let kind = Kind::Carry {
        element: *to.data_type(),
        rank: shape.len(),
    };
    let from = floats(shape, values)?;
    kernels.run(kind, &[("x", &from)], &mut [("out", to)])
}

/// Element types that the small graphs can hand to a denoiser and take from it.
pub fn is_supported(element: TensorElementType) -> bool {
    use TensorElementType::{Float16, Float32, Float64, Int32, Int64};
    matches!(element, Float16 | Float32 | Float64 | Int32 | Int64)
}
