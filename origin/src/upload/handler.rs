//! `POST /api/upload`: `Caller → Bytes → SanitisedImage → ImageRow → answer`.

use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use shared::object_key::ObjectKey;
use shared::problem;

use super::{SanitisedImage, UploadError, receive};
use crate::auth::{Authorized, Caller, scope};
use crate::edge_trust::is_signed;
use crate::error::ApiError;
use crate::generate::{KEEP_RESULTS_SECONDS, store_objects, uuid_v7};
use crate::images::image_answer;
use crate::publish::LinkOptions;
use crate::startup::App;
use crate::state::images::ImageRow;

/// What the sender gets to know.
#[derive(Debug, Serialize)]
struct UploadAnswer {
    id: String,
    key: String,
    url: String,
    expires_at: String,
    width: u32,
    height: u32,
    bytes: u64,
}

/// `POST /api/upload`.
pub async fn upload(
    caller: Authorized<scope::UploadsWrite>,
    request: HttpRequest,
    body: Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let outcome = accept(&request, &caller, body, &app).await;
    let verdict = match &outcome {
        Ok(_) => "accepted",
        Err(ApiError::Upload(error)) => error.code(),
        Err(_) => "refused",
    };
    app.metrics.uploads.with_label_values(&[verdict]).inc();
    outcome
}

async fn accept(
    request: &HttpRequest,
    caller: &Caller,
    body: Payload,
    app: &App,
) -> Result<HttpResponse, ApiError> {
    let owner = app.state.user(&caller.user_id).await?;
    if owner.suspended {
        return Err(ApiError::Suspended);
    }
    app.limits
        .upload(&caller.user_id, app.clock.nanos())
        .await?;
    let signed = |whole: Option<&[u8]>| is_signed(request, whole);
    let file = receive(request.headers(), body, app.uploads.settings(), signed).await?;
    let uploads = app.uploads.of(&caller.user_id);
    let looked_at = uploads.look_at(&file)?;
    app.limits
        .upload_work(&caller.user_id, looked_at.units(), app.clock.nanos())
        .await?;
    let image = uploads.draw(file, &looked_at).await?;
    let row = store(app, &caller.user_id, image).await?;
    let now = app.clock.seconds();
    let signed = image_answer(
        &row,
        &app.publisher,
        owner.link_epoch,
        &LinkOptions::default(),
        now,
    )?;
    Ok(HttpResponse::Ok().json(UploadAnswer {
        id: signed.id,
        key: signed.key,
        url: signed.url,
        expires_at: signed.expires_at,
        width: signed.width,
        height: signed.height,
        bytes: signed.bytes,
    }))
}

/// Row pending and charged, object, row stored, as for a generated picture.
async fn store(app: &App, user: &str, image: SanitisedImage) -> Result<ImageRow, ApiError> {
    let now = app.clock.seconds();
    let id = uuid_v7(app.clock.nanos() / 1_000_000);
    let key = ObjectKey::parse(&format!("uploads/{user}/{id}.png"))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let row = ImageRow {
        id,
        user_id: user.into(),
        key,
        width: image.width,
        height: image.height,
        format: "png".into(),
        bytes: image.png.len() as u64,
        seed: 0,
        model: String::new(),
        created: now,
        expires: Some(now + KEEP_RESULTS_SECONDS),
        job_id: None,
    };
    // To its end even if the client leaves: a dropped request must not leave a row pending.
    let (stored, whole) = (row.clone(), app.clone());
    let task = app.jobs.spawn(async move {
        store_objects(&whole, std::slice::from_ref(&stored), vec![image.png]).await?;
        Ok::<_, ApiError>(whole.state.commit_images(vec![stored.id]).await?)
    });
    task.await
        .map_err(|error| ApiError::Internal(error.to_string()))??;
    app.metrics.storage.add(row.bytes as f64);
    Ok(row)
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::NotSigned => Self::Problem(problem::EDGE_ONLY),
            error => Self::Upload(error),
        }
    }
}
