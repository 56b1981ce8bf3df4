//! What operators are told of a job: its stages in the trace, a line a picture in the log.

use std::time::Duration;

use super::admit::{Admitted, Origin};
use crate::schedule::Done;
use crate::startup::App;
use crate::state::images::ImageRow;
use crate::telemetry::GenerationLine;
use crate::telemetry::trace::Value;

/// Tells the trace of a stage that began at `begun` (nanoseconds) and ends now.
pub(super) fn traced(app: &App, job: &Admitted, stage: &'static str, begun: u64, failed: bool) {
    let span = (begun, app.clock.nanos());
    app.tracer
        .stage(job.origin.trace, stage, span, Vec::new(), failed);
}

/// The engine's stages, which are known once it is done.
pub(super) fn trace_engine(app: &App, job: &Admitted, done: &Done) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let ended = app.clock.nanos();
    let begun = ended.saturating_sub(nanos(done.ran));
    let decoded = ended.saturating_sub(nanos(done.decode));
    let texted = begun + nanos(done.text);
    let steps = ("signet.steps", Value::Number(job.spec.spec.steps as u64));
    let pictures = ("signet.pictures", Value::Number(done.images.len() as u64));
    let stage = |name, span, attributes| {
        app.tracer
            .stage(job.origin.trace, name, span, attributes, false);
    };
    let queued = begun.saturating_sub(nanos(done.queued));
    stage("queue", (queued, begun), Vec::new());
    stage("text", (begun, texted), Vec::new());
    // With the steps of others between its own.
    stage("denoise", (texted, decoded), vec![steps]);
    stage("decode", (decoded, ended), vec![pictures]);
}

/// One line a picture, and what is counted of them. Times in milliseconds.
pub(super) fn log(app: &App, job: &Admitted, rows: &[ImageRow], queue_ms: u64, run_ms: u64) {
    let latency_ms = queue_ms + run_ms;
    app.metrics.generation.observe(latency_ms as f64 / 1000.0);
    let (spec, cost) = (&job.spec.spec, job.spec.cost_milliunits());
    let Origin {
        user,
        address,
        request_id,
        remaining,
        ..
    } = &job.origin;
    let prompt_hash = app.prompt_hasher.hash(&spec.prompt);
    let pictures = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let took = (latency_ms, queue_ms);
    let before = prompt_hash.before.as_deref();
    app.watch
        .made(user, &prompt_hash.now, before, pictures, took);
    let repeats = &app.metrics.health.repeats;
    repeats.note(
        before.unwrap_or(&prompt_hash.now),
        user,
        app.clock.seconds(),
    );
    for row in rows {
        app.metrics.storage.add(row.bytes as f64);
        GenerationLine {
            user_id: user,
            ip: *address,
            prompt_hash: &prompt_hash.now,
            prompt_hash_before: before,
            output_key: row.key.as_str(),
            output_bytes: row.bytes,
            latency_ms,
            queue_ms,
            model: &row.model,
            seed: row.seed,
            steps: spec.steps,
            cost_units: cost as f64 / 1000.0,
            rate_limit_remaining: *remaining,
            request_id,
        }
        .write();
    }
}

/// Seconds since `begun` (nanoseconds).
pub(super) fn seconds_since(app: &App, begun: u64) -> f64 {
    app.clock.nanos().saturating_sub(begun) as f64 / 1e9
}
