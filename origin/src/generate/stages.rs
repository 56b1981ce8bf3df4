//! The stages of an admitted job.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use shared::object_key::ObjectKey;

use super::KEEP_RESULTS_SECONDS;
use super::admit::{Admitted, Origin};
use crate::error::ApiError;
use crate::images::remove_object;
use crate::infer::{Format, Pixels, encode as encode_one};
use crate::jobs::Ended;
use crate::quota::Reservation;
use crate::schedule::{Done, JobHandle, Progress};
use crate::startup::App;
use crate::state::images::ImageRow;
use crate::state::jobs::JobEnd;
use crate::telemetry::GenerationLine;
use crate::telemetry::trace::Value;

/// Pictures in a file format, and how long they took.
#[derive(Debug)]
pub(super) struct EncodedImages {
    pictures: Vec<(Pixels, Bytes)>,
    format: Format,
    queue_ms: u64,
    run_ms: u64,
}

/// Tells the trace of a stage that began at `begun` (nanoseconds) and ends now.
fn traced(app: &App, job: &Admitted, stage: &'static str, begun: u64, failed: bool) {
    let span = (begun, app.clock.nanos());
    app.tracer
        .stage(job.origin.trace, stage, span, Vec::new(), failed);
}

/// The engine's stages, which are known once it is done.
fn trace_engine(app: &App, job: &Admitted, done: &Done) {
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

/// Pictures whose objects are there and whose rows are listed.
#[derive(Debug)]
pub(super) struct StoredImages {
    rows: Vec<ImageRow>,
    queue_ms: u64,
    run_ms: u64,
}

/// Waits for the engine.
pub(super) async fn run(app: &App, job: &mut Admitted) -> Result<Done, ApiError> {
    let handle = job.handle.take();
    let handle = handle.ok_or_else(|| ApiError::Internal("the job ran before".into()))?;
    let begun = app.clock.nanos();
    let outcome = watched(handle, job.reservation.as_mut()).await;
    match &outcome {
        Ok(done) => trace_engine(app, job, done),
        Err(_) => traced(app, job, "queue", begun, true),
    }
    let word = match &outcome {
        Ok(_) => "done",
        Err(ApiError::Cancelled) => "cancelled",
        Err(_) => "failed",
    };
    app.metrics.generations.with_label_values(&[word]).inc();
    outcome
}

/// Waits for the job, and tells the reservation how far the accelerator is with it.
async fn watched(
    handle: JobHandle,
    mut reservation: Option<&mut Reservation>,
) -> Result<Done, ApiError> {
    let mut progress = handle.progress();
    let mut outcome = pin!(handle.outcome());
    let done = loop {
        tokio::select! {
            biased;
            done = &mut outcome => break done,
            changed = progress.changed() => {
                if changed.is_err() {
                    // The outcome says the rest.
                    break outcome.await;
                }
                if let Progress::Running { step, steps } = *progress.borrow_and_update()
                    && let Some(reservation) = reservation.as_mut()
                {
                    reservation.progress(step, steps);
                }
            }
        }
    };
    // A quick job may be over before anybody saw it run.
    if let (Ok(_), Some(reservation)) = (&done, reservation) {
        reservation.start();
    }
    done.map_err(ApiError::from)
}

/// Encodes off the engine's thread and the request threads.
pub(super) async fn encode(
    app: &App,
    job: &Admitted,
    done: Done,
) -> Result<EncodedImages, ApiError> {
    let (format, model) = (job.spec.format, &job.spec.spec.model);
    let begun = app.clock.nanos();
    let Done {
        images,
        queued,
        ran,
        ..
    } = done;
    let (provenance, model) = (app.provenance.clone(), model.clone());
    let one = move |pixels: Pixels| {
        let mut file = encode_one(&pixels, format)?;
        if let Some(provenance) = &provenance {
            let marked = provenance.mark(file, format, &model);
            file = marked.map_err(|error| ApiError::Internal(format!("marking: {error}")))?;
        }
        Ok::<_, ApiError>((pixels, Bytes::from(file)))
    };
    let pictures = tokio::task::spawn_blocking(move || {
        images.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    })
    .await
    .map_err(|error| ApiError::Internal(error.to_string()))??;
    app.metrics
        .stage
        .with_label_values(&["encode"])
        .observe(seconds_since(app, begun));
    traced(app, job, "encode", begun, false);
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(EncodedImages {
        pictures,
        format,
        queue_ms: millis(queued),
        run_ms: millis(ran),
    })
}

fn seconds_since(app: &App, begun: u64) -> f64 {
    app.clock.nanos().saturating_sub(begun) as f64 / 1e9
}

/// Row pending, object, then row listed and job ended at once; a failure takes back what it wrote.
pub(super) async fn store(
    app: &App,
    job: &Admitted,
    encoded: EncodedImages,
) -> Result<StoredImages, ApiError> {
    let now = app.clock.seconds();
    let millis = app.clock.nanos() / 1_000_000;
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for (pixels, bytes) in encoded.pictures {
        let id = uuid_v7(millis);
        let (user, ending) = (&job.origin.user, encoded.format.extension());
        let key = ObjectKey::parse(&format!("generated/{user}/{id}.{ending}"))
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        rows.push(ImageRow {
            id,
            user_id: user.as_ref().into(),
            key,
            width: u32::try_from(pixels.width).unwrap_or(u32::MAX),
            height: u32::try_from(pixels.height).unwrap_or(u32::MAX),
            format: encoded.format.name().into(),
            bytes: bytes.len() as u64,
            seed: pixels.seed,
            model: job.spec.spec.model.clone(),
            created: now,
            expires: Some(now + KEEP_RESULTS_SECONDS),
            job_id: Some(job.id.clone()),
        });
        objects.push(bytes);
    }
    let stored = StoredImages {
        rows,
        queue_ms: encoded.queue_ms,
        run_ms: encoded.run_ms,
    };
    let begun = app.clock.nanos();
    let written = store_objects(app, &stored.rows, objects).await;
    traced(app, job, "store", begun, written.is_err());
    written?;
    let done = JobEnd::Done {
        queue_ms: stored.queue_ms,
        run_ms: stored.run_ms,
    };
    app.state
        .end_job(&job.id, done, app.clock.seconds())
        .await?;
    Ok(stored)
}

/// Reserves the rows and their bytes and writes the objects; the rows are left pending for the caller to list. What was
/// written is taken back when not all can be.
pub(crate) async fn store_objects(
    app: &App,
    rows: &[ImageRow],
    objects: Vec<Bytes>,
) -> Result<(), ApiError> {
    let Some(owner) = rows.first().map(|row| row.user_id.as_str()) else {
        return Ok(());
    };
    let limit = app
        .limits
        .allowance(&app.state.user(owner).await?)
        .storage_bytes;
    app.state.reserve_images(rows.to_vec(), limit).await?;
    let begun = app.clock.nanos();
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("reserved").await;
    for (row, bytes) in rows.iter().zip(objects) {
        if let Err(error) = app.store.put(&row.key, bytes).await {
            // What cannot be undone now stays pending, and is settled at the next start.
            for row in rows {
                if remove_object(app, &row.key).await.is_ok() {
                    let _ = app.state.remove_image(&row.user_id, &row.id).await;
                }
            }
            return Err(error.into());
        }
    }
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("stored").await;
    app.metrics
        .stage
        .with_label_values(&["store"])
        .observe(seconds_since(app, begun));
    Ok(())
}

/// Writes the end down, keeps or gives back the charge, and tells the log.
pub(super) async fn settle(
    app: &App,
    mut job: Admitted,
    made: Result<StoredImages, ApiError>,
) -> Ended {
    let reservation = job.reservation.take();
    let error = match made {
        Ok(stored) => {
            if let Some(reservation) = reservation {
                reservation.commit();
            }
            log(app, &job, &stored);
            return Ended::Done {
                queue_ms: stored.queue_ms,
                run_ms: stored.run_ms,
            };
        }
        Err(error) => error,
    };
    error.log();
    let ours = error.is_ours();
    if let Some(reservation) = reservation {
        if ours {
            reservation.refund();
        } else {
            drop(reservation);
        }
    }
    let (end, ended) = match error {
        // The job stays open: the next process settles it.
        ApiError::Stopping => return Ended::Stopped,
        ApiError::Cancelled => (JobEnd::Cancelled, Ended::Cancelled),
        error => {
            let problem = error.problem();
            let code = problem.code.to_owned();
            (JobEnd::Failed { code, retry: ours }, Ended::Failed(problem))
        }
    };
    if let Err(error) = app.state.end_job(&job.id, end, app.clock.seconds()).await {
        tracing::error!(%error, job = job.id, "a job's end could not be written down");
    }
    ended
}

/// One line a picture.
fn log(app: &App, job: &Admitted, stored: &StoredImages) {
    let latency_ms = stored.queue_ms + stored.run_ms;
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
    let pictures = u32::try_from(stored.rows.len()).unwrap_or(u32::MAX);
    let took = (latency_ms, stored.queue_ms);
    let before = prompt_hash.before.as_deref();
    app.watch
        .made(user, &prompt_hash.now, before, pictures, took);
    let repeats = &app.metrics.health.repeats;
    repeats.note(
        before.unwrap_or(&prompt_hash.now),
        user,
        app.clock.seconds(),
    );
    for row in &stored.rows {
        app.metrics.storage.add(row.bytes as f64);
        GenerationLine {
            user_id: user,
            ip: *address,
            now: app.clock.seconds(),
            prompt_hash: &prompt_hash.now,
            prompt_hash_before: before,
            output_key: row.key.as_str(),
            output_bytes: row.bytes,
            latency_ms,
            queue_ms: stored.queue_ms,
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

/// A UUID of version 7 (RFC 9562) at this time: ids of one user sort by age.
pub(crate) fn uuid_v7(millis: u64) -> String {
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random::<[u8; 10]>())
        .into_uuid()
        .to_string()
}
