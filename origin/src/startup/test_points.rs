//! Points at which a test can have the service fail. Release builds have none.

/// In debug builds a test can have a handler panic (`SIGNET_TEST_PANIC_AT`), with a message that must not be seen.
#[allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "not in release builds"
)]
pub fn panic_for_tests(point: &str, message: &str) {
    if std::env::var("SIGNET_TEST_PANIC_AT").is_ok_and(|wanted| wanted == point) {
        panic!("{message}");
    }
}

/// In debug builds a test can have origins beat faster (`SIGNET_TEST_BEAT_MS`).
#[allow(clippy::disallowed_methods, reason = "not in release builds")]
pub fn beat_for_tests() -> Option<std::time::Duration> {
    let beat = std::env::var("SIGNET_TEST_BEAT_MS").ok()?;
    beat.parse().ok().map(std::time::Duration::from_millis)
}

/// In debug builds a test can stop the service at a named point (`SIGNET_TEST_PAUSE_AT`), to kill it there.
#[allow(clippy::disallowed_methods, reason = "not in release builds")]
pub async fn pause_for_tests(point: &str) {
    if std::env::var("SIGNET_TEST_PAUSE_AT").is_ok_and(|wanted| wanted == point) {
        tracing::warn!(point, "paused for a test");
        std::future::pending::<()>().await;
    }
}
