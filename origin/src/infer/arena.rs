//! What ONNX Runtime holds for one graph, as its own allocator counts it.
//!
//! The binding has no call for it, so this asks the C interface: the one place with `unsafe`.
#![expect(unsafe_code, reason = "the binding does not wrap AllocatorGetStats")]

use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use std::ffi::CStr;
use std::ptr;

/// Bytes of one graph's arena.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Weights, and what a run under way has laid out.
    pub in_use: u64,
    /// The most that was ever in use at once.
    pub peak: u64,
    /// Taken from the device and not given back.
    pub taken: u64,
}

/// What a graph's arena holds on the CPU or on a GPU.
pub fn held(session: &Session, gpu: Option<u32>) -> ort::Result<Held> {
    let (device, number) = match gpu {
        None => (AllocationDevice::CPU, 0),
        Some(gpu) => (AllocationDevice::CUDA, i32::try_from(gpu).unwrap_or(0)),
    };
    let about = MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::Default)?;
    let allocator = Allocator::new(session, about)?;
    let api = ort::api();
    let mut pairs = ptr::null_mut();
    // SAFETY: the allocator lives until the end of this function, and `pairs` is only read when
    // the call has filled it in.
    unsafe {
        let status = (api.AllocatorGetStats)(allocator.ptr(), &mut pairs);
        ort::Error::result_from_status(status)?;
    }
    let figure = |name: &CStr| {
        // SAFETY: `pairs` came from the call above, and what is found in it is a string that ends
        // with a zero byte and lives as long as `pairs`.
        let text = unsafe {
            let value = (api.GetKeyValue)(pairs, name.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value))
        };
        let text = text.and_then(|text| text.to_str().ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let held = Held {
        in_use: figure(c"InUse"),
        peak: figure(c"MaxInUse"),
        taken: figure(c"TotalAllocated"),
    };
    // SAFETY: nothing refers to it any more.
    unsafe { (api.ReleaseKeyValuePairs)(pairs) };
    Ok(held)
}
