//! What the operator's page asks and does. Each act is written down in the state and told to the log, with who did it.

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use shared::problem;
use shared::revocation::NEVER;

use super::Operator;
use crate::auth::clients::is_user_id;
use crate::error::ApiError;
use crate::images::is_id;
use crate::schedule::Progress;
use crate::startup::App;
use crate::state::StateError;
use crate::state::audit::{AuditRow, Change};
use crate::telemetry::RequestId;
use crate::watch::Gauges;

/// Rows of the lists.
const JOBS: usize = 50;
const AUDIT: u32 = 50;
const DECIDED: usize = 200;

/// `GET /admin/overview`: everything the page shows.
pub async fn overview(operator: Operator, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let stored = app.state.stored_bytes().await?;
    let queued = app.queued();
    let most = u32::try_from(DECIDED + 1).unwrap_or(u32::MAX);
    let decided = app.state.decided_users(most).await?;
    let more_decided = decided.len() > DECIDED;
    let decided: Vec<Value> = decided
        .into_iter()
        .take(DECIDED)
        .map(|(id, user)| {
            json!({ "user": id, "suspended": user.suspended, "link_epoch": user.link_epoch, "stored_bytes": user.stored_bytes })
        })
        .collect();
    let live = app.jobs.all();
    let under_way = live.len();
    let jobs: Vec<Value> = live.iter().take(JOBS).map(|live| job(live)).collect();
    let audit = app.state.audit(AUDIT).await?;
    let audit: Vec<Value> = audit.iter().map(AuditRow::to_json).collect();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({
            "operator": &*operator.client,
            "version": env!("CARGO_PKG_VERSION"),
            "stored_bytes": stored,
            "queued": queued,
            "under_way": under_way,
            "jobs": jobs,
            "decided": decided,
            "more_decided": more_decided,
            "audit": audit,
            "seen": app.watch.overview(Gauges { queued, stored }),
        })))
}

fn job(live: &crate::jobs::Live) -> Value {
    let cost = live.milliunits as f64 / 1000.0;
    match *live.progress.borrow() {
        Progress::Queued { position } => {
            json!({ "id": live.id, "user": &*live.user, "cost_units": cost, "status": "queued", "position": position })
        }
        Progress::Running { step, steps } => {
            json!({ "id": live.id, "user": &*live.user, "cost_units": cost, "status": "running", "step": step, "steps": steps })
        }
        Progress::Over => {
            json!({ "id": live.id, "user": &*live.user, "cost_units": cost, "status": "storing" })
        }
    }
}

/// Carries an act out, written down with who did it.
pub(super) async fn act(
    app: &App,
    request: &HttpRequest,
    operator: &Operator,
    (action, change): (&'static str, Change),
    subject: &str,
) -> Result<(), ApiError> {
    let id = request.extensions().get::<RequestId>().cloned();
    let row = AuditRow {
        at: app.clock.seconds(),
        actor: operator.client.to_string(),
        address: operator.address.clone(),
        action: action.into(),
        subject: subject.into(),
        request_id: id.map(|id| id.0).unwrap_or_default(),
    };
    Ok(app.state.act(row, change).await?)
}

fn done() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// `POST /admin/users/{id}/{act}`: `suspend` (nothing of theirs opens and nothing is made for them), `resume`, or
/// `revoke-links` (every link of theirs that was signed so far is refused). The edge is told at once. 404
/// `unknown_user` where there is no such user.
pub async fn decide(
    operator: Operator,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let (id, action) = path.into_inner();
    let known = match action.as_str() {
        "suspend" => ("suspend", Change::Suspend(NEVER)),
        "resume" => ("resume", Change::Resume),
        "revoke-links" => ("revoke-links", Change::RevokeLinks),
        _ => return Err(ApiError::Problem(problem::NOT_FOUND)),
    };
    if !is_user_id(&id) {
        return Err(StateError::NoUser.into());
    }
    act(&app, &request, &operator, known, &id).await?;
    app.decided.notify_one();
    Ok(done())
}

/// `POST /admin/jobs/{id}/cancel`: frees the accelerator at the next step; a job that has ended is 404.
pub async fn cancel(
    operator: Operator,
    request: HttpRequest,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let known = Some(id.as_str()).filter(|id| is_id(id));
    let live = known.and_then(|id| app.jobs.any(id));
    let is_there = match (&live, known) {
        (Some(_), _) => true,
        (None, Some(id)) => app.state.ask_to_cancel(None, id).await?,
        (None, None) => false,
    };
    if !is_there {
        return Err(ApiError::Problem(problem::NOT_FOUND));
    }
    let cancel = ("cancel", Change::Elsewhere);
    act(&app, &request, &operator, cancel, &id).await?;
    if let Some(live) = live {
        live.cancel();
    }
    Ok(done())
}
