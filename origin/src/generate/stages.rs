//! The stages of an admitted job.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use shared::object_key::ObjectKey;

use super::KEEP_RESULTS_SECONDS;
use super::admit::Admitted;
use super::objects::{store_objects, uuid_v7};
use super::observe::{log, seconds_since, trace_engine, traced};
use crate::error::ApiError;
use crate::images::remove_object;
use crate::infer::{Format, Pixels, encode as encode_one};
use crate::jobs::{self, Ended};
use crate::quota::Reservation;
use crate::schedule::{Done, JobHandle};
use crate::startup::App;
use crate::state::images::ImageRow;
use crate::state::jobs::JobEnd;

/// Pictures in a file format, and how long they took.
#[derive(Debug)]
pub(super) struct EncodedImages {
    pictures: Vec<(Pixels, Bytes)>,
    format: Format,
    queue_ms: u64,
    run_ms: u64,
}

/// Pictures whose objects are there and whose rows are listed.
#[derive(Debug)]
pub(super) struct StoredImages {
    rows: Vec<ImageRow>,
    queue_ms: u64,
    run_ms: u64,
}

/// How often the row of a job that runs is told how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Waits for the engine.
pub(super) async fn run(app: &App, job: &mut Admitted) -> Result<Done, ApiError> {
    let handle = job.handle.take();
    let handle = handle.ok_or_else(|| ApiError::Internal("the job ran before".into()))?;
    let begun = app.clock.nanos();
    let outcome = watched(app, &job.id, handle, &mut job.reservation).await;
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

/// Waits for the job, and tells its reservation and its row how far the accelerator is with it.
async fn watched(
    app: &App,
    id: &str,
    handle: JobHandle,
    reservation: &mut Reservation,
) -> Result<Done, ApiError> {
    let (mut progress, meter) = (handle.progress(), handle.meter());
    let mut ticks = tokio::time::interval(NOTE_EVERY);
    let mut noted = 0;
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
                progress.borrow_and_update();
                let (part, _) = meter.read();
                // The first steps at once; then by time, since progress is that of the slowest picture.
                if noted > 0 || part == 0 {
                    continue;
                }
            }
            _ = ticks.tick() => {}
        }
        let (part, whole) = meter.read();
        if part > noted {
            noted = part;
            reservation.worked(part, whole);
            note(app, id, reservation).await;
        }
    };
    let done = done.map_err(ApiError::from);
    let (part, whole) = meter.read();
    match &done {
        Ok(_) => reservation.worked(1, 1),
        Err(error) if error.made_nothing() => reservation.idled(),
        Err(_) => reservation.worked(part, whole),
    }
    done
}

/// Tells a job's row how much of it ran.
async fn note(app: &App, id: &str, reservation: &Reservation) {
    let ran = reservation.kept().unwrap_or(0);
    if let Err(error) = app.state.job_ran(id, ran).await {
        tracing::warn!(code = error.code(), %error, "how far a job is could not be written down");
    }
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
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(EncodedImages {
        pictures,
        format,
        queue_ms: millis(queued),
        run_ms: millis(ran),
    })
}

/// Row pending, object, then row listed and job ended at once; a failure takes back what it wrote.
pub(super) async fn store(
    app: &App,
    job: &mut Admitted,
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
    if !jobs::end(app, &job.id, done, &mut job.reservation).await? {
        give_up(app, &stored.rows).await?;
        return Err(ApiError::Stopping);
    }
    Ok(stored)
}

/// Another origin took the job over, since this one stood still: the pictures are its own affair. An object that was
/// written behind its row is left to the sweep.
async fn give_up(app: &App, rows: &[ImageRow]) -> Result<(), ApiError> {
    let ids = rows.iter().map(|row| row.id.clone()).collect();
    for row in app.state.take_back(ids).await? {
        remove_object(app, &row.key).await?;
    }
    Ok(())
}

/// Writes the end down, with what stays charged, and tells the log.
pub(super) async fn settle(
    app: &App,
    mut job: Admitted,
    made: Result<StoredImages, ApiError>,
) -> Ended {
    let error = match made {
        Ok(stored) => {
            log(app, &job, &stored.rows, stored.queue_ms, stored.run_ms);
            return Ended::Done {
                queue_ms: stored.queue_ms,
                run_ms: stored.run_ms,
            };
        }
        Err(error) => error,
    };
    error.log();
    let cost = job.reservation.kept().unwrap_or(0);
    let (end, ended) = match error {
        // The job stays open, and what it reserved with it: the next process settles both.
        ApiError::Stopping => {
            if cost > 0 {
                note(app, &job.id, &job.reservation).await;
            }
            return Ended::Stopped;
        }
        ApiError::Cancelled => (JobEnd::Cancelled, Ended::Cancelled(cost)),
        error => {
            let (problem, retry) = (error.problem(), error.is_ours());
            let code = problem.code.to_owned();
            (JobEnd::Failed { code, retry }, Ended::Failed(problem, cost))
        }
    };
    if let Err(error) = jobs::end(app, &job.id, end, &mut job.reservation).await {
        tracing::error!(%error, job = job.id, "a job's end could not be written down");
        // Nothing works on it any more. The next start counts it again, and ends it.
        job.reservation.settled();
    }
    ended
}
