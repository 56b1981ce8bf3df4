//! Time for the rest of the Worker, which takes it as an argument.

/// Unix seconds now. Workers' clock stands still while no I/O happens; seconds are all that links and signatures need.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds since 1970 are positive and far below 2^53"
)]
pub fn now() -> u64 {
    (js_sys::Date::now() / 1000.0) as u64
}

/// Unix milliseconds, as JavaScript gives them.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds since 1970 are positive and far below 2^53"
)]
pub fn milliseconds(now: f64) -> u64 {
    now as u64
}
