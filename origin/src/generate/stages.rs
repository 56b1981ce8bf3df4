//! The stages of a generation.

use std::pin::pin;

use actix_web::{HttpMessage, HttpRequest, web};
use bytes::Bytes;
use serde::Serialize;
use shared::object_key::ObjectKey;

use super::KEEP_RESULTS_SECONDS;
use super::request::JobSpec;
use crate::auth::Caller;
use crate::edge_trust::ClientAddress;
use crate::error::ApiError;
use crate::images::{ImageAnswer, image_answer, remove_object};
use crate::infer::{Format, Pixels, encode as encode_one};
use crate::publish::LinkWish;
use crate::quota::Reservation;
use crate::schedule::{Done, JobHandle, JobSpec as Wanted, Progress};
use crate::startup::App;
use crate::state::images::ImageRow;
use crate::telemetry::{GenerationLine, RequestId};

/// Pictures in a file format, and how long they took.
#[derive(Debug)]
struct EncodedImages {
    pictures: Vec<(Pixels, Bytes)>,
    format: Format,
    queue_ms: u64,
    run_ms: u64,
}

/// Pictures whose objects are there and whose rows are listed.
#[derive(Debug)]
pub(super) struct StoredImages {
    pub(super) rows: Vec<ImageRow>,
    pub(super) job: JobAnswer,
}

/// A finished job as the answer tells it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JobAnswer {
    id: String,
    status: &'static str,
    queue_ms: u64,
    run_ms: u64,
    cost_units: f64,
}

/// Weight of a user among others; plans will differ.
const WEIGHT: u32 = 1;

/// All that a job makes: pixels, files, objects.
pub(super) async fn make(
    app: &App,
    user: &str,
    job: &JobSpec,
    reservation: &mut Reservation,
) -> Result<StoredImages, ApiError> {
    let pixels = run(app, user, job, reservation).await?;
    let encoded = encode(app, pixels, job.format).await?;
    store(app, user, job, encoded).await
}

/// Waits for the job, and tells the reservation when the accelerator begins with it.
async fn watched(handle: JobHandle, reservation: &mut Reservation) -> Result<Done, ApiError> {
    let mut progress = handle.progress();
    let mut outcome = pin!(handle.outcome());
    let early = tokio::select! {
        biased;
        done = &mut outcome => Some(done),
        running = progress.wait_for(|now| matches!(now, Progress::Running { .. })) => {
            if running.is_ok() {
                reservation.start();
            }
            None
        }
    };
    let done = match early {
        Some(done) => done,
        None => outcome.await,
    };
    // A quick job may be over before anybody saw it run.
    if done.is_ok() {
        reservation.start();
    }
    done.map_err(ApiError::from)
}

/// Waits for the engine. Dropping the future, as when the client leaves, cancels the job.
async fn run(
    app: &App,
    user: &str,
    job: &JobSpec,
    reservation: &mut Reservation,
) -> Result<Done, ApiError> {
    let mut image = job.spec.clone();
    if let Some(reference) = &job.reference {
        image.init = Some(reference.load(app, &image).await?);
    }
    let wanted = Wanted {
        image,
        deadline: None,
    };
    let outcome = match app.queue.submit(wanted, user, WEIGHT) {
        Ok(handle) => watched(handle, reservation).await,
        Err(error) => Err(ApiError::Busy(error.retry_after_seconds())),
    };
    let word = match &outcome {
        Ok(_) => "done",
        Err(ApiError::Busy(_)) => "refused",
        Err(ApiError::Cancelled) => "cancelled",
        Err(_) => "failed",
    };
    app.metrics.generations.with_label_values(&[word]).inc();
    outcome
}

/// Encodes off the request threads.
async fn encode(app: &App, done: Done, format: Format) -> Result<EncodedImages, ApiError> {
    let begun = app.clock.nanos();
    let Done {
        images,
        queued,
        ran,
        ..
    } = done;
    let pictures = web::block(move || {
        images
            .into_iter()
            .map(|pixels| encode_one(&pixels, format).map(|bytes| (pixels, Bytes::from(bytes))))
            .collect::<Result<Vec<_>, _>>()
    })
    .await
    .map_err(|error| ApiError::Internal(error.to_string()))??;
    app.metrics
        .stage
        .with_label_values(&["encode"])
        .observe(seconds_since(app, begun));
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

/// Row pending, object, row stored; a failure takes back what it wrote.
async fn store(
    app: &App,
    user: &str,
    job: &JobSpec,
    encoded: EncodedImages,
) -> Result<StoredImages, ApiError> {
    let now = app.clock.seconds();
    let millis = app.clock.nanos() / 1_000_000;
    let mut rows = Vec::with_capacity(encoded.pictures.len());
    for (pixels, bytes) in &encoded.pictures {
        let id = uuid_v7(millis);
        let key = ObjectKey::parse(&format!(
            "generated/{user}/{id}.{}",
            encoded.format.extension()
        ))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
        rows.push(ImageRow {
            id,
            user_id: user.into(),
            key,
            width: u32::try_from(pixels.width).unwrap_or(u32::MAX),
            height: u32::try_from(pixels.height).unwrap_or(u32::MAX),
            format: encoded.format.name().into(),
            bytes: bytes.len() as u64,
            seed: pixels.seed,
            model: job.spec.model.clone(),
            created: now,
            expires: Some(now + KEEP_RESULTS_SECONDS),
        });
    }
    let objects: Vec<Bytes> = encoded
        .pictures
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    store_objects(app, rows.clone(), objects).await?;
    let job = JobAnswer {
        id: uuid_v7(millis),
        status: "done",
        queue_ms: encoded.queue_ms,
        run_ms: encoded.run_ms,
        cost_units: job.cost_milliunits() as f64 / 1000.0,
    };
    Ok(StoredImages { rows, job })
}

/// Reserves the rows, writes their objects and settles the rows, all in one task that goes on even if the client leaves:
/// a dropped request must not leave rows pending.
pub(crate) async fn store_objects(
    app: &App,
    rows: Vec<ImageRow>,
    objects: Vec<Bytes>,
) -> Result<(), ApiError> {
    let app = app.clone();
    let task = async move {
        let limit = app.limits.storage_limit();
        app.state.reserve_images(rows.clone(), limit).await?;
        write_objects(&app, &rows, objects).await
    };
    tokio::spawn(task)
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?
}

async fn write_objects(app: &App, rows: &[ImageRow], objects: Vec<Bytes>) -> Result<(), ApiError> {
    let begun = app.clock.nanos();
    let mut written = Ok(());
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("reserved").await;
    for (row, bytes) in rows.iter().zip(objects) {
        written = app.store.put(&row.key, bytes).await.map(|_| ());
        if written.is_err() {
            break;
        }
    }
    #[cfg(debug_assertions)]
    crate::startup::pause_for_tests("stored").await;
    match written {
        Ok(()) => {
            app.state
                .commit_images(rows.iter().map(|row| row.id.clone()).collect())
                .await?;
            app.metrics
                .stage
                .with_label_values(&["store"])
                .observe(seconds_since(app, begun));
            Ok(())
        }
        Err(error) => {
            // What cannot be undone now stays pending, and is settled at the next start.
            for row in rows {
                if remove_object(app, &row.key).await.is_ok() {
                    let _ = app.state.remove_image(&row.user_id, &row.id).await;
                }
            }
            Err(error.into())
        }
    }
}

/// Signs a link to each picture.
pub(super) fn sign(
    app: &App,
    stored: &StoredImages,
    epoch: u64,
) -> Result<Vec<ImageAnswer>, ApiError> {
    let now = app.clock.seconds();
    stored
        .rows
        .iter()
        .map(|row| image_answer(row, &app.publisher, epoch, &LinkWish::default(), now))
        .collect()
}

/// One line a picture.
pub(super) fn log(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
    address: ClientAddress,
    job: &JobSpec,
    stored: &StoredImages,
    remaining: u64,
) {
    let request_id = request
        .extensions()
        .get::<RequestId>()
        .map(|id| id.0.clone())
        .unwrap_or_default();
    let latency_ms = stored.job.queue_ms + stored.job.run_ms;
    app.metrics.generation.observe(latency_ms as f64 / 1000.0);
    for row in &stored.rows {
        app.metrics.storage.add(row.bytes as f64);
        GenerationLine {
            user_id: &caller.user_id,
            ip: address.0,
            now: app.clock.seconds(),
            prompt_hash: &app.prompt_hasher.hash(&job.spec.prompt),
            output_key: row.key.as_str(),
            output_bytes: row.bytes,
            latency_ms,
            queue_ms: stored.job.queue_ms,
            model: &row.model,
            seed: row.seed,
            steps: job.spec.steps,
            cost_units: stored.job.cost_units,
            rate_limit_remaining: remaining,
            request_id: &request_id,
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
