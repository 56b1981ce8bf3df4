//! The routes under `/api/jobs`.

use std::time::Duration;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use shared::problem;

use super::answers::{self, JobAnswer};
use super::{Ended, elsewhere, events as stream};
use crate::auth::{Authorized, Caller, scope};
use crate::error::ApiError;
use crate::images::is_id;
use crate::startup::App;
use crate::state::jobs::JobRow;

/// How long a cancel waits for the step that is being taken.
const STEP: Duration = Duration::from_secs(10);

async fn find(app: &App, caller: &Caller, id: &str) -> Result<JobRow, ApiError> {
    let found = if is_id(id) {
        app.state.job(&caller.user_id, id).await?
    } else {
        None
    };
    found.ok_or(ApiError::Problem(problem::NOT_FOUND))
}

/// The job as it stands, and its pictures once it is done.
async fn standing(app: &App, caller: &Caller, id: &str) -> Result<HttpResponse, ApiError> {
    if let Some(live) = app.jobs.find(&caller.user_id, id) {
        return Ok(HttpResponse::Ok().json(json!({ "job": JobAnswer::under_way(app, &live) })));
    }
    let row = find(app, caller, id).await?;
    let Some(ended) = Ended::of(&row) else {
        let job = JobAnswer::handed_over(app, &row.id, row.milliunits, row.running);
        let job = job.with_truncation(app).await;
        return Ok(HttpResponse::Ok().json(json!({ "job": job })));
    };
    let job = JobAnswer::ended(app, &row.id, row.milliunits, &ended);
    let mut answer = json!({ "job": job.with_truncation(app).await });
    if let (Ended::Done { .. }, Some(fields)) = (ended, answer.as_object_mut()) {
        let images = answers::images(app, &caller.user_id, &row.id).await?;
        fields.insert("images".into(), images);
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// `GET /api/jobs/{id}`.
pub async fn get(
    caller: Authorized<scope::ImagesRead>,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.read(&caller.user_id, app.clock.nanos()).await?;
    standing(&app, &caller, &id).await
}

/// `DELETE /api/jobs/{id}`: frees the accelerator at the next step. A job that ended stays as it is.
pub async fn cancel(
    caller: Authorized<scope::ImagesGenerate>,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.read(&caller.user_id, app.clock.nanos()).await?;
    if let Some(live) = app.jobs.find(&caller.user_id, &id) {
        live.cancel();
        let _ = tokio::time::timeout(STEP, live.ended()).await;
    } else if is_id(&id) && app.state.ask_to_cancel(Some(&caller.user_id), &id).await? {
        let ended = elsewhere::ended(&app, &caller.user_id, &id);
        if let Ok(ended) = tokio::time::timeout(STEP, ended).await {
            ended?;
        }
    }
    standing(&app, &caller, &id).await
}

/// `GET /api/jobs/{id}/events`: server-sent events until the job ends, 204 to who has heard of its end.
pub async fn events(
    caller: Authorized<scope::ImagesRead>,
    request: HttpRequest,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.read(&caller.user_id, app.clock.nanos()).await?;
    let mut answer = HttpResponse::Ok();
    answer
        .content_type("text/event-stream")
        // Whoever compresses would keep events until there is enough of them.
        .insert_header((header::CACHE_CONTROL, "no-store, no-transform"))
        // nginx would keep events until a buffer is full.
        .insert_header(("x-accel-buffering", "no"));
    let known = request.headers().get("last-event-id");
    let known = known.and_then(|value| value.to_str().ok().map(str::to_owned));
    let is_head = request.method() == Method::HEAD;
    if let Some(live) = app.jobs.find(&caller.user_id, &id) {
        if is_head {
            return Ok(answer.finish());
        }
        let place = live.stream().ok_or(ApiError::TooManyStreams)?;
        return Ok(answer.streaming(stream::of(app.get_ref().clone(), place, known)));
    }
    let row = find(&app, &caller, &id).await?;
    if row.end.is_some() && known.as_deref() == Some(stream::END) {
        return Ok(HttpResponse::NoContent()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish());
    }
    if is_head {
        return Ok(answer.finish());
    }
    let Some(ended) = Ended::of(&row) else {
        let events = elsewhere::events(&app, &caller.user_id, &row.id, row.milliunits)?;
        return Ok(answer.streaming(events));
    };
    Ok(answer.body(stream::last(&app, &caller.user_id, &row.id, row.milliunits, &ended).await))
}
