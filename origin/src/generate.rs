//! THE PATH of a generation: `Caller → JobSpec → Reservation → Pixels → EncodedImage → StoredImage → SignedImage`.
//!
//! Each stage is one call, and takes what only the stage before can make. Whatever returns early gives back what was
//! reserved, by dropping it.

mod request;
mod stages;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::auth::{Authorized, scope};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::quota::Charge;
use crate::startup::App;

pub use request::{GenerateBody, read_json};

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
    let job = request::read(&request, &body, &app)?;
    let charge = Charge {
        address: address.0,
        token: &caller.jti,
        user: &caller.user_id,
    };
    let reservation = app.limits.admit(charge, app.clock.nanos())?;
    let pixels = stages::run(&app, &caller.user_id, &job).await?;
    let encoded = stages::encode(&app, pixels, job.format).await?;
    let stored = stages::store(&app, &caller.user_id, &job, encoded).await?;
    let remaining = reservation.remaining;
    reservation.commit();
    let signed = stages::sign(&app, &stored, owner.link_epoch)?;
    stages::log(&app, &request, &caller, address, &job, &stored, remaining);
    Ok(HttpResponse::Ok().json(serde_json::json!({ "job": stored.job, "images": signed })))
}
