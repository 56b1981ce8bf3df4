//! The routes under `/api/images`, and `/api/usage`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use shared::link::{AddressRange, safe_name};
use shared::object_key::ObjectKey;
use shared::problem;

use super::image_answer;
use crate::auth::{Authorized, Caller, scope};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::generate::KEEP_RESULTS_SECONDS;
use crate::publish::LinkOptions;
use crate::quota::Charge;
use crate::startup::App;
use crate::state::images::ImageRow;

const MAX_PAGE: usize = 100;

/// Ids are UUIDs; anything else is simply not there.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<ImageRow, ApiError> {
    let found = if is_id(id) {
        app.state.image(&caller.user_id, id).await?
    } else {
        None
    };
    found.ok_or(ApiError::Problem(problem::NOT_FOUND))
}

/// Query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /api/images?limit=&cursor=`.
pub async fn list(
    caller: Authorized<scope::ImagesRead>,
    query: Result<web::Query<ListQuery>, actix_web::Error>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.read(&caller.user_id, app.clock.nanos()).await?;
    let query = query
        .map_err(|_| ApiError::Invalid("the query has limit (1 to 100) and cursor".into()))?
        .into_inner();
    let limit = query.limit.unwrap_or(20);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::Invalid("limit must be 1 to 100".into()));
    }
    if query.cursor.as_deref().is_some_and(|cursor| !is_id(cursor)) {
        return Err(ApiError::Invalid("cursor is not one of ours".into()));
    }
    let (rows, more) = app
        .state
        .images(&caller.user_id, query.cursor.as_deref(), limit)
        .await?;
    let epoch = app.state.user(&caller.user_id).await?.link_epoch;
    let now = app.clock.seconds();
    let images: Vec<_> = rows
        .iter()
        .map(|row| image_answer(row, &app.publisher, epoch, &LinkOptions::default(), now))
        .collect::<Result<_, _>>()?;
    let next = rows.last().filter(|_| more).map(|row| row.id.clone());
    Ok(HttpResponse::Ok().json(serde_json::json!({ "images": images, "next": next })))
}

/// Body of a request for a link.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkBody {
    ttl: Option<u64>,
    ip: Option<String>,
    dl: Option<String>,
}

impl LinkBody {
    /// What it asks of a link to an object with this extension.
    fn options(self, extension: &str) -> Result<LinkOptions, ApiError> {
        let ip = match self.ip.as_deref() {
            Some(text) => Some(AddressRange::read(text).map_err(|_| {
                ApiError::Invalid(
                    "ip must be an IPv4 or IPv6 address, or a range ADDRESS/PREFIX whose other bits are zero"
                        .into(),
                )
            })?),
            None => None,
        };
        let dl = match self.dl.as_deref() {
            Some(text) => Some(safe_name(text, extension).ok_or_else(|| {
                ApiError::Invalid("dl cannot name a picture of this kind".into())
            })?),
            None => None,
        };
        Ok(LinkOptions {
            ttl: self.ttl,
            ip,
            dl,
        })
    }
}

/// `POST /api/images/{id}/link`.
pub async fn link(
    caller: Authorized<scope::ImagesRead>,
    id: web::Path<String>,
    body: SignedBody,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.write(&caller.user_id, app.clock.nanos()).await?;
    let body: LinkBody = if body.is_empty() {
        LinkBody::default()
    } else {
        crate::json::read_json(&body)?
    };
    let row = find(&app, &caller, &id).await?;
    let options = body.options(row.key.extension().unwrap_or(""))?;
    let epoch = app.state.user(&caller.user_id).await?.link_epoch;
    Ok(HttpResponse::Ok().json(image_answer(
        &row,
        &app.publisher,
        epoch,
        &options,
        app.clock.seconds(),
    )?))
}

/// `POST /api/images/{id}/keep`.
pub async fn keep(
    caller: Authorized<scope::ImagesWrite>,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    relocate(&app, &caller, &id, "kept").await
}

/// `DELETE /api/images/{id}/keep`.
pub async fn unkeep(
    caller: Authorized<scope::ImagesWrite>,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    relocate(&app, &caller, &id, "generated").await
}

/// Moves the object first and then its row: while they differ, a link to either key opens the object that is there.
async fn relocate(
    app: &App,
    caller: &Caller,
    id: &str,
    prefix: &str,
) -> Result<HttpResponse, ApiError> {
    app.limits.write(&caller.user_id, app.clock.nanos()).await?;
    let mut row = find(app, caller, id).await?;
    if !row.key.as_str().starts_with(prefix) {
        let to = row
            .key
            .counterpart()
            .ok_or(ApiError::Problem(problem::NOT_FOUND))?;
        app.store.rename(&row.key, &to).await?;
        row.expires = (prefix == "generated").then(|| app.clock.seconds() + KEEP_RESULTS_SECONDS);
        if !app.state.move_image(&row.id, &to, row.expires).await? {
            // Deleted while the object moved: what the move brought must not stay without a row.
            remove_object(app, &to).await?;
            return Err(ApiError::Problem(problem::NOT_FOUND));
        }
        row.key = to;
    }
    let epoch = app.state.user(&caller.user_id).await?.link_epoch;
    Ok(HttpResponse::Ok().json(image_answer(
        &row,
        &app.publisher,
        epoch,
        &LinkOptions::default(),
        app.clock.seconds(),
    )?))
}

/// `DELETE /api/images/{id}`: unlisted, then the object, then the row; a crash in between is settled at the next start.
pub async fn delete(
    caller: Authorized<scope::ImagesWrite>,
    id: web::Path<String>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.write(&caller.user_id, app.clock.nanos()).await?;
    let row = find(&app, &caller, &id).await?;
    app.state.unlist_image(&caller.user_id, &row.id).await?;
    remove_object(&app, &row.key).await?;
    app.state.remove_image(&caller.user_id, &row.id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes the object under its key and under the one it may be moving to.
pub(crate) async fn remove_object(app: &App, key: &ObjectKey) -> Result<(), ApiError> {
    app.store.delete(key).await?;
    if let Some(other) = key.counterpart() {
        app.store.delete(&other).await?;
    }
    Ok(())
}

/// `GET /api/usage`.
pub async fn usage(
    caller: Authorized<scope::BillingRead>,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    app.limits.read(&caller.user_id, app.clock.nanos()).await?;
    let user = app.state.user(&caller.user_id).await?;
    let charge = Charge {
        address: address.0,
        token: &caller.jti,
        user: &caller.user_id,
        milliunits: 0,
        allowed: app.limits.allowance(&user),
    };
    let now = app.clock.nanos();
    let limits = app.limits.usage(charge, user.stored_bytes, now).await;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "limits": limits })))
}
