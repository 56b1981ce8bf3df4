//! How a job looks in an answer.

use serde::Serialize;
use serde_json::{Value, json};
use shared::problem::Problem;

use super::{Ended, Live};
use crate::error::ApiError;
use crate::images::image_answer;
use crate::publish::LinkOptions;
use crate::schedule::Progress;
use crate::startup::App;

/// A job, open or ended.
#[derive(Debug, Default, Serialize)]
pub struct JobAnswer {
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_ms: Option<u64>,
    cost_units: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(flatten)]
    standing: Option<Standing>,
}

/// What a job has that can be asked for; what does not apply at the moment is null.
#[derive(Debug, Serialize)]
struct Standing {
    queue_position: Option<usize>,
    step: Option<usize>,
    steps: Option<usize>,
    status_url: String,
    events_url: String,
    cancel_url: String,
}

/// Where a job is asked for.
pub fn status_url(app: &App, id: &str) -> String {
    format!("{}/api/jobs/{id}", app.settings.server.url())
}

impl JobAnswer {
    fn new(id: &str, milliunits: u64) -> Self {
        Self {
            id: id.into(),
            cost_units: milliunits as f64 / 1000.0,
            ..Self::default()
        }
    }

    fn standing(mut self, app: &App, progress: Progress) -> Self {
        let status_url = status_url(app, &self.id);
        let (queue_position, step) = match progress {
            Progress::Queued { position } => (Some(position), None),
            Progress::Running { step, steps } => (None, Some((step, steps))),
            Progress::Over => (None, None),
        };
        let (step, steps) = step.unzip();
        self.standing = Some(Standing {
            queue_position,
            step,
            steps,
            events_url: format!("{status_url}/events"),
            cancel_url: status_url.clone(),
            status_url,
        });
        self
    }

    /// A job that waits or runs.
    pub fn under_way(app: &App, live: &Live) -> Self {
        let progress = *live.progress.borrow();
        let mut answer = Self::new(&live.id, live.milliunits).standing(app, progress);
        answer.truncated = (!live.truncated.is_empty()).then(|| json!(live.truncated));
        answer.status = match progress {
            Progress::Queued { .. } => "queued",
            // Once it is over its pictures are being encoded and stored.
            Progress::Running { .. } | Progress::Over => "running",
        };
        answer
    }

    /// A job that another process has, or that nobody has begun with again.
    pub fn handed_over(app: &App, id: &str, milliunits: u64, running: bool) -> Self {
        let mut answer = Self::new(id, milliunits).standing(app, Progress::Over);
        answer.status = if running { "running" } else { "queued" };
        answer
    }

    /// A job that ended, with the addresses it still has.
    pub fn ended(app: &App, id: &str, milliunits: u64, ended: &Ended) -> Self {
        let mut answer = Self::new(id, ended.cost(milliunits)).standing(app, Progress::Over);
        answer.end(ended);
        answer
    }

    /// With what was written down of its prompts. Where that cannot be read now, the job's own address tells it.
    pub async fn with_truncation(mut self, app: &App) -> Self {
        let told = app.state.truncation(&self.id).await.ok().flatten();
        self.truncated = told.and_then(|told| serde_json::from_str(&told).ok());
        self
    }

    fn end(&mut self, ended: &Ended) {
        match ended {
            Ended::Done { queue_ms, run_ms } => {
                self.status = "done";
                (self.queue_ms, self.run_ms) = (Some(*queue_ms), Some(*run_ms));
            }
            Ended::Failed(problem, _) => {
                self.status = "failed";
                self.error = Some(json!({ "code": problem.code, "title": problem.title }));
            }
            Ended::Cancelled(_) => self.status = "cancelled",
            Ended::Stopped => self.status = "queued",
        }
    }
}

/// Where to ask for a job under way, and how it stands.
pub(crate) fn under_way(app: &App, live: &Live) -> (String, Value) {
    let job = JobAnswer::under_way(app, live);
    (status_url(app, &live.id), json!({ "job": job }))
}

/// As [`under_way`], of a job that this process does not have.
pub(crate) async fn handed_over(
    app: &App,
    id: &str,
    milliunits: u64,
    running: bool,
) -> (String, Value) {
    let job = JobAnswer::handed_over(app, id, milliunits, running);
    let job = job.with_truncation(app).await;
    (status_url(app, id), json!({ "job": job }))
}

/// A finished generation: the job and its pictures with fresh links.
///
/// # Errors
/// What made the job end otherwise.
pub(crate) async fn render(
    app: &App,
    user: &str,
    id: &str,
    milliunits: u64,
    ended: &Ended,
) -> Result<Value, ApiError> {
    match ended {
        Ended::Done { .. } => {
            let mut job = JobAnswer::new(id, milliunits);
            job.end(ended);
            let job = job.with_truncation(app).await;
            Ok(json!({ "job": job, "images": images(app, user, id).await? }))
        }
        // Told with what is used by now.
        Ended::Failed(problem, _) if problem.code == "storage_quota" => {
            let owner = app.state.user(user).await?;
            Err(ApiError::StorageQuota {
                limit: app.limits.allowance(&owner).storage_bytes,
                used: owner.stored_bytes,
            })
        }
        Ended::Failed(problem, 0) => Err(ApiError::Problem(*problem)),
        Ended::Failed(problem, _) => Err(ApiError::Charged(*problem)),
        Ended::Cancelled(0) => Err(ApiError::Cancelled),
        Ended::Cancelled(_) => Err(ApiError::Charged(ApiError::Cancelled.problem())),
        Ended::Stopped => Err(ApiError::Stopping),
    }
}

/// The job's pictures that are still there, with fresh links.
///
/// # Errors
/// The state's own.
pub async fn images(app: &App, user: &str, id: &str) -> Result<Value, ApiError> {
    let rows = app.state.images_of_job(id).await?;
    let epoch = app.state.user(user).await?.link_epoch;
    let now = app.clock.seconds();
    let images = rows
        .iter()
        .map(|row| image_answer(row, &app.publisher, epoch, &LinkOptions::default(), now));
    Ok(json!(images.collect::<Result<Vec<_>, _>>()?))
}

/// What the code of a failed job, as it was written down, means.
pub(crate) fn job_problem(code: &str) -> Problem {
    if let Some(problem) = crate::provider::problem(code) {
        return problem;
    }
    let (status, code, title) = match code {
        "storage_quota" => (
            429,
            "storage_quota",
            "The storage quota is used up; delete pictures first.",
        ),
        "not_found" => (404, "not_found", "There is nothing here."),
        "invalid_request" => (400, "invalid_request", "The request is not valid."),
        "unknown_model" => (404, "unknown_model", "No such model is loaded."),
        "not_finite" => (
            500,
            "not_finite",
            "The model gave numbers that are no picture.",
        ),
        "out_of_memory" => (
            500,
            "out_of_memory",
            "The device has no memory for this picture.",
        ),
        "too_large" => (
            400,
            "too_large",
            "A picture of this size needs more memory than the service gives one; ask for a smaller one.",
        ),
        "over_deadline" => (
            400,
            "over_deadline",
            "At the speed measured here the job cannot be done before its deadline; ask for fewer steps, pictures or pixels.",
        ),
        "deadline" => (
            504,
            "deadline",
            "The job was not done in time; what ran of it is charged.",
        ),
        "interrupted" => (
            503,
            "interrupted",
            "The service was restarted before the job was done.",
        ),
        "store_unavailable" => (503, "store_unavailable", "The image store does not answer."),
        "store_full" => (507, "store_full", "The image store has no room left."),
        "state_unavailable" => (
            503,
            "state_unavailable",
            "The service cannot record the request.",
        ),
        "state_full" => (507, "state_full", "The service has no room left."),
        _ => (500, "generation_failed", "The picture could not be made."),
    };
    Problem {
        status,
        code,
        title,
    }
}
