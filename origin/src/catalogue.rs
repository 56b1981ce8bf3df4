//! Models while the service runs: listed, read anew, taken out. By `/admin/models` on the operator listener, and by
//! SIGHUP.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::ApiError;
use crate::infer::Changes;
use crate::operator::Operator;
use crate::startup::App;

/// `GET /admin/models`: what serves, and which folders were refused.
pub async fn list(_: Operator, app: web::Data<App>) -> HttpResponse {
    let models: Vec<Value> = (app.engine.models().iter().enumerate())
        .map(|(i, model)| {
            json!({
                "name": model.name, "default": i == 0, "folder": app.engine.folder(&model.name),
                "width": model.width, "height": model.height, "steps": model.steps,
                "guidance_scale": model.guidance_scale, "scheduler": model.scheduler,
            })
        })
        .collect();
    HttpResponse::Ok()
        .json(json!({ "device": app.engine.device(), "models": models, "refused": refused(&app) }))
}

/// `POST /admin/models/reload`: reads the folders of `infer.models` anew.
///
/// # Errors
/// `no_model` when none would be left; then all stays as it was.
pub async fn reload(_: Operator, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let changes = read_anew(&app).await?;
    Ok(HttpResponse::Ok().json(json!({
        "loaded": changes.loaded, "unloaded": changes.unloaded, "kept": changes.kept, "refused": refused(&app),
    })))
}

/// `DELETE /admin/models/{name}`: takes a model out until the folders are read anew.
///
/// # Errors
/// `unknown_model`, `last_model`.
pub async fn unload(
    _: Operator,
    name: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.engine.unload(&name)?;
    tracing::info!(model = name.as_str(), "unloaded by an operator");
    Ok(HttpResponse::NoContent().finish())
}

/// Reads the folders anew at every SIGHUP.
///
/// # Errors
/// The system gives no signal handler.
pub fn follow_hangups(app: App) -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Err(error) = read_anew(&app).await {
                error.log();
            }
        }
    });
    Ok(())
}

/// Loading takes seconds of CPU, so it is kept off the async threads.
async fn read_anew(app: &App) -> Result<Changes, ApiError> {
    let engine = app.engine.clone();
    let changes = tokio::task::spawn_blocking(move || engine.reload())
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))??;
    let Changes {
        loaded,
        unloaded,
        kept,
    } = &changes;
    tracing::info!(?loaded, ?unloaded, ?kept, "models were read anew");
    complain(app);
    Ok(changes)
}

/// Names the folders that were refused.
pub fn complain(app: &App) {
    for (folder, error) in app.engine.refused() {
        tracing::error!(folder = %folder.display(), %error, "a model was refused");
    }
}

fn refused(app: &App) -> Vec<Value> {
    let refused = app.engine.refused();
    let rows = refused.iter().map(|(folder, error)| {
        json!({ "folder": folder, "code": error.code(), "reason": error.to_string() })
    });
    rows.collect()
}
