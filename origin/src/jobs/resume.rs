//! What a crash or a stop left open, settled by the next process, or by another that lives: every job is finished or
//! reported failed, none twice.

use std::time::Duration;

use crate::error::ApiError;
use crate::generate;
use crate::images::remove_object;
use crate::quota::Reservation;
use crate::startup::App;
use crate::state::StateError;
use crate::state::images::ImageRow;
use crate::state::jobs::{JobEnd, JobRow};
use crate::state::living::LeftJob;
use crate::storage::StoreError;

/// A job that ended this many processes is not begun again.
const STARTS: u32 = 3;
/// Ended jobs, and their idempotency keys, are remembered so long, in seconds.
const REMEMBERED: u64 = 24 * 3600;

/// Settles what jobs that were left had written: all pictures of a job there, and it is done; otherwise what is there
/// goes. The jobs to carry out again, this process's own from now on, are returned.
///
/// # Errors
/// State or store do not answer.
pub(crate) async fn settle(app: &App) -> Result<Vec<JobRow>, ApiError> {
    let mut again = Vec::new();
    for job in app.state.adopt_jobs().await? {
        match settle_one(app, &job).await {
            Ok(true) => again.push(job.row),
            Ok(false) => {}
            // Another try comes with the next beat, here or elsewhere; who is alone does not start.
            Err(error) if app.state.is_shared() => {
                error.log();
                if let Err(error) = app.state.let_go(&job.row.id).await {
                    tracing::error!(%error, job = job.row.id, "a job could not be let go");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(again)
}

/// Whether the job is to be carried out again.
async fn settle_one(app: &App, left: &LeftJob) -> Result<bool, ApiError> {
    let job = &left.row;
    let mut charge = app.limits.resume(job);
    let rows = app.state.images_of_job(&job.id).await?;
    if !rows.is_empty() && all_there(app, &rows).await? {
        let done = JobEnd::Done {
            queue_ms: 0,
            run_ms: 0,
        };
        super::end(app, &job.id, done, &mut charge).await?;
        return Ok(false);
    }
    for row in rows {
        remove_object(app, &row.key).await?;
        app.state.remove_image(&row.user_id, &row.id).await?;
    }
    if left.cancelling {
        super::end(app, &job.id, JobEnd::Cancelled, &mut charge).await?;
    } else if job.handed_over && job.starts < STARTS {
        return Ok(true);
    } else {
        end(app, job, "interrupted", charge).await?;
    }
    Ok(false)
}

async fn all_there(app: &App, rows: &[ImageRow]) -> Result<bool, StoreError> {
    for row in rows {
        match app.store.head(&row.key).await {
            Ok(info) if info.size == row.bytes => {}
            Ok(_) | Err(StoreError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

async fn end(
    app: &App,
    job: &JobRow,
    code: &str,
    mut charge: Reservation,
) -> Result<(), StateError> {
    let end = JobEnd::Failed {
        code: code.into(),
        retry: true,
    };
    tracing::warn!(job = job.id, code, "a job could not be carried out again");
    super::end(app, &job.id, end, &mut charge).await.map(|_| ())
}

/// Carries the jobs out again, one admitted after the other.
pub(crate) fn resume(app: &App, jobs: Vec<JobRow>) {
    if jobs.is_empty() {
        return;
    }
    let (app, tasks) = (app.clone(), app.jobs.clone());
    tasks.spawn(async move {
        for job in jobs {
            if let Err(error) = once_more(&app, &job).await {
                let code = error.problem().code;
                let charge = app.limits.resume(&job);
                if let Err(error) = end(&app, &job, code, charge).await {
                    tracing::error!(%error, "a job's end could not be written down");
                }
            }
        }
    });
}

/// Forgets old jobs, now and once an hour.
pub(crate) async fn forget_regularly(app: App) {
    loop {
        let before = app.clock.seconds().saturating_sub(REMEMBERED);
        if let Err(error) = app.state.forget_old_jobs(before).await {
            tracing::error!(%error, "old jobs could not be forgotten");
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

async fn once_more(app: &App, job: &JobRow) -> Result<(), ApiError> {
    match app.state.restart_job(&job.id).await? {
        None => return Ok(()),
        Some(true) => {
            let mut charge = app.limits.resume(job);
            super::end(app, &job.id, JobEnd::Cancelled, &mut charge).await?;
            return Ok(());
        }
        Some(false) => {}
    }
    loop {
        match generate::again(app, job).await {
            Err(ApiError::Busy(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            // The process stops again: the job stays open.
            Err(ApiError::Stopping) => return Ok(()),
            other => return other,
        }
    }
}
