//! From a charged request to a job: written down, taken by the queue, begun.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpRequest};
use serde::{Deserialize, Serialize};

use super::request::{self, JobSpec};
use super::uuid_v7;
use crate::auth::Caller;
use crate::edge_trust::ClientAddress;
use crate::error::ApiError;
use crate::infer::Truncated;
use crate::jobs::{Claim, Live};
use crate::quota::Reservation;
use crate::schedule::{JobHandle, JobSpec as Wanted, QueueError};
use crate::startup::App;
use crate::state::jobs::{JobRow, RequestKey};
use crate::telemetry::RequestId;
use crate::telemetry::trace::Context;

/// Where a job came from: what its line in the log tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Origin {
    #[serde(skip)]
    pub(super) user: Arc<str>,
    pub(super) address: IpAddr,
    pub(super) request_id: String,
    pub(super) remaining: u64,
    /// The request's span, whose children the stages are.
    #[serde(default)]
    pub(super) trace: Option<Context>,
}

impl Origin {
    pub(super) fn of(
        request: &HttpRequest,
        caller: &Caller,
        address: ClientAddress,
        reservation: &Reservation,
    ) -> Self {
        let id = request.extensions().get::<RequestId>().cloned();
        Self {
            user: Arc::clone(&caller.user_id),
            address: address.0,
            request_id: id.map(|id| id.0).unwrap_or_default(),
            remaining: reservation.remaining,
            trace: Context::of(request),
        }
    }
}

/// A job's request as it is written down: the body as it came, and the seed that was drawn for it.
#[derive(Serialize, Deserialize)]
struct Written {
    body: String,
    seed: u64,
    origin: Origin,
}

/// A job that the queue took.
pub(super) struct Admitted {
    pub(super) id: String,
    pub(super) spec: JobSpec,
    pub(super) origin: Origin,
    /// Taken by the stage that waits.
    pub(super) handle: Option<JobHandle>,
    /// What it was admitted at.
    pub(super) reservation: Reservation,
}

/// Writes the job down, and begins it once the queue took it.
///
/// # Errors
/// The queue refuses, or the state cannot record the job; then nothing was charged.
pub(super) async fn admit(
    app: App,
    spec: JobSpec,
    body: Bytes,
    origin: Origin,
    mut reservation: Reservation,
    keyed: Option<(RequestKey, Claim)>,
    handed_over: bool,
) -> Result<Arc<Live>, ApiError> {
    let id = uuid_v7(app.clock.nanos() / 1_000_000);
    let written = Written {
        body: String::from_utf8_lossy(&body).into_owned(),
        seed: spec.spec.seed,
        origin: origin.clone(),
    };
    let request =
        serde_json::to_string(&written).map_err(|error| ApiError::Internal(error.to_string()))?;
    let (key, claim) = keyed.unzip();
    let row = JobRow {
        id: id.clone(),
        user_id: origin.user.as_ref().into(),
        created: app.clock.seconds(),
        request: Some(request),
        handed_over,
        starts: 1,
        key,
        milliunits: spec.cost_milliunits(),
        charge: reservation.write(),
        running: false,
        end: None,
    };
    if let Err(error) = app.state.open_job(row).await {
        reservation.unwritten();
        return Err(error.into());
    }
    // An equal request finds the row from now on, whatever the job waits for.
    drop(claim);
    let mut job = Admitted {
        id: id.clone(),
        spec,
        origin,
        handle: None,
        reservation,
    };
    match submit(&app, &mut job).await {
        Ok(live) => Ok(begin(app, job, live)),
        Err(error) => {
            app.state.forget_job(&id).await?;
            job.reservation.refund();
            Err(error)
        }
    }
}

/// Gives the job to the queue.
async fn submit(app: &App, job: &mut Admitted) -> Result<Live, ApiError> {
    let mut image = job.spec.spec.clone();
    let weight = job.reservation.weight;
    let left = Duration::from_secs(app.settings.queue.deadline_seconds);
    let refused = |error| refused(app, &error);
    // Before anything is read for it.
    let probe = job.spec.probe();
    app.queue_for(&probe, &job.origin.user, weight)?
        .check(&probe, left, &job.origin.user, weight)
        .map_err(refused)?;
    if let Some(reference) = &job.spec.reference {
        image.init = Some(reference.load(app, &image).await?);
    }
    let wanted = Wanted {
        image,
        deadline: Some(Instant::now() + left),
    };
    let handle = app
        .queue_for(&wanted.image, &job.origin.user, weight)?
        .submit(wanted, &job.origin.user, weight)
        .map_err(refused)?;
    let (user, cost) = (Arc::clone(&job.origin.user), job.spec.cost_milliunits());
    // Read they are, however it goes on.
    let reading = job.spec.reading_milliunits();
    job.reservation.worked(reading, cost);
    let mut live = Live::new(job.id.clone(), user, cost, &handle);
    live.truncated = truncated(app, job);
    job.handle = Some(handle);
    Ok(live)
}

fn refused(app: &App, error: &QueueError) -> ApiError {
    let refused = app.metrics.generations.with_label_values(&["refused"]);
    refused.inc();
    match error {
        QueueError::Stopping => ApiError::Stopping,
        QueueError::TooLarge { .. } | QueueError::OverBudget { .. } => ApiError::TooLarge,
        QueueError::OverDeadline { .. } => ApiError::OverDeadline,
        error => ApiError::Busy(error.retry_after_seconds()),
    }
}

fn begin(app: App, job: Admitted, live: Live) -> Arc<Live> {
    let jobs = app.jobs.clone();
    jobs.begin(live, super::carry_out(app, job))
}

/// The job's prompts that are longer than its model takes, written down for its answers.
fn truncated(app: &App, job: &Admitted) -> Vec<Truncated> {
    let truncated = app.engine.truncated(&job.spec.spec);
    if !truncated.is_empty() {
        let told = serde_json::json!(truncated).to_string();
        app.state.note_truncation(&job.id, told);
    }
    truncated
}

/// Begins a job once more that another process wrote down.
///
/// # Errors
/// The queue refuses, or the request cannot be carried out any more.
pub(crate) async fn again(app: &App, row: &JobRow) -> Result<(), ApiError> {
    let written: Written = serde_json::from_str(row.request.as_deref().unwrap_or(""))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let spec = request::parse(
        written.body.as_bytes(),
        Some(written.seed),
        app,
        &row.user_id,
    )
    .await?;
    let mut job = Admitted {
        id: row.id.clone(),
        spec,
        origin: Origin {
            user: row.user_id.as_str().into(),
            ..written.origin
        },
        handle: None,
        reservation: app.limits.resume(row),
    };
    let live = submit(app, &mut job).await?;
    begin(app.clone(), job, live);
    Ok(())
}
