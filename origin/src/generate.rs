//! THE PATH of a generation: `Caller → JobSpec → Reservation → Pixels → EncodedImage → StoredImage → SignedImage`.
//!
//! Each stage is one call, and takes what only the stage before can make. Whatever returns early before the accelerator
//! works gives back what was reserved, by dropping it; after that only a failure of ours does.

mod reference;
mod request;
mod stages;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::auth::{Authorized, scope};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::quota::Charge;
use crate::startup::App;

pub use request::{GenerateBody, read_json};
pub(crate) use stages::{store_objects, uuid_v7};

/// How long results are kept: 30 days, in seconds.
pub const KEEP_RESULTS_SECONDS: u64 = 30 * 24 * 3600;

/// `POST /api/generate`.
pub async fn generate(
    request: HttpRequest,
    caller: Authorized<scope::ImagesGenerate>,
    address: ClientAddress,
    body: SignedBody,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let owner = app.state.user(&caller.user_id).await?;
    if owner.suspended {
        return Err(ApiError::Suspended);
    }
    let limit = app.limits.storage_limit();
    if owner.stored_bytes >= limit {
        // Told before the accelerator works for pictures that nobody could keep.
        let used = owner.stored_bytes;
        return Err(ApiError::StorageQuota { limit, used });
    }
    let job = request::read(&request, &body, &app, &caller.user_id).await?;
    let charge = Charge {
        address: address.0,
        token: &caller.jti,
        user: &caller.user_id,
    };
    let mut reservation = app.limits.admit(charge, app.clock.nanos())?;
    let stored = match stages::make(&app, &caller.user_id, &job, &mut reservation).await {
        Ok(stored) => stored,
        Err(error) => {
            if error.is_ours() {
                reservation.refund();
            }
            return Err(error);
        }
    };
    let remaining = reservation.remaining;
    reservation.commit();
    let signed = stages::sign(&app, &stored, owner.link_epoch)?;
    stages::log(&app, &request, &caller, address, &job, &stored, remaining);
    Ok(HttpResponse::Ok().json(serde_json::json!({ "job": stored.job, "images": signed })))
}
