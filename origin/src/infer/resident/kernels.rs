//! The small graphs of one device, each made when it is first needed, and memory there.

use super::kernel::{Kernel, Kind};
use crate::infer::device;
use crate::infer::error::InferError;
use crate::infer::runtime::Runtime;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::value::{DynTensor, Tensor, TensorElementType};
use std::sync::{Arc, Mutex, PoisonError};

/// What a failure of these graphs is told as.
const STAGE: &str = "latents";

/// The graphs and the memory of one device.
pub struct Kernels {
    runtime: Runtime,
    /// A dozen at most.
    made: Mutex<Vec<(Kind, Arc<Kernel>)>>,
    /// Apart from the denoiser's own: what its captured graphs write between two steps is theirs.
    allocator: Mutex<Allocator>,
}

/// A failure of these graphs.
pub fn failed(error: ort::Error) -> InferError {
    InferError::run(STAGE, &error)
}

impl Kernels {
    /// # Errors
    /// The device takes no graph or gives no memory.
    pub fn new(runtime: &Runtime) -> Result<Self, InferError> {
        let first = Kernel::new(runtime, Kind::Pick).map_err(failed)?;
        let (device, number) = match runtime.gpu() {
            None => (AllocationDevice::CPU, 0),
            Some(gpu) => (AllocationDevice::CUDA, i32::try_from(gpu).unwrap_or(0)),
        };
        let about = MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::Default);
        let allocator = about.and_then(|about| Allocator::new(&first.lock(), about));
        Ok(Self {
            runtime: runtime.clone(),
            allocator: Mutex::new(allocator.map_err(failed)?),
            made: Mutex::new(vec![(Kind::Pick, Arc::new(first))]),
        })
    }

    /// Runs one of the graphs.
    pub fn run(
        &self,
        kind: Kind,
        inputs: &[(&str, &DynTensor)],
        outputs: &mut [(&str, &mut DynTensor)],
    ) -> Result<(), InferError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = match made.iter().find(|(known, _)| *known == kind) {
            Some((_, kernel)) => Arc::clone(kernel),
            None => {
                let kernel = Arc::new(Kernel::new(&self.runtime, kind).map_err(failed)?);
                made.push((kind, Arc::clone(&kernel)));
                kernel
            }
        };
        drop(made);
        kernel.run(inputs, outputs).map_err(failed)
    }

    /// Memory on the device; what is in it is left open.
    pub fn tensor(
        &self,
        element: TensorElementType,
        shape: &[i64],
    ) -> Result<DynTensor, InferError> {
        let _beside = device::share();
        let allocator = self
            .allocator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        DynTensor::new(&allocator, element, shape.to_vec()).map_err(failed)
    }
}

/// Memory on the host for numbers in single precision, all zero.
pub fn on_host(shape: &[i64]) -> Result<DynTensor, InferError> {
    let element = TensorElementType::Float32;
    DynTensor::new(&Allocator::default(), element, shape.to_vec()).map_err(failed)
}

/// Numbers on the host.
pub fn floats(shape: &[i64], values: Vec<f32>) -> Result<DynTensor, InferError> {
    let tensor = Tensor::from_array((shape.to_vec(), values)).map_err(failed)?;
    Ok(tensor.upcast())
}

/// Positions on the host.
pub fn places(shape: &[i64], values: Vec<i64>) -> Result<DynTensor, InferError> {
    let tensor = Tensor::from_array((shape.to_vec(), values)).map_err(failed)?;
    Ok(tensor.upcast())
}

/// What lies in a tensor of [`on_host`].
pub fn numbers(tensor: &DynTensor) -> Result<&[f32], InferError> {
    let (_, values) = tensor.try_extract_tensor::<f32>().map_err(failed)?;
    Ok(values)
}
