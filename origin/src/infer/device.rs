//! Who may use the devices: everybody at once, but for a CUDA graph that is captured. While it is,
//! what another thread allocates or loads on any GPU would break the capture, or fail itself.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static DEVICES: RwLock<()> = RwLock::new(());

/// Held for as long as ONNX Runtime is at work, by one call after the other and never by two in
/// each other.
pub fn share() -> RwLockReadGuard<'static, ()> {
    DEVICES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until nothing is at work, and keeps it so.
pub fn keep_alone() -> RwLockWriteGuard<'static, ()> {
    DEVICES.write().unwrap_or_else(PoisonError::into_inner)
}
