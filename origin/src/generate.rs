//! THE PATH of a generation: `Caller → JobSpec → Reservation → Admitted → Pixels → EncodedImage → StoredImage → SignedImage`.
//!
//! Each stage is one call, and takes what only the stage before can make. Whatever returns early before anything ran
//! gives back what was reserved; what ran is paid. A job is admitted by its
//! request ([`generate`]) and carried out on its own ([`carry_out`]): a client who waits is told of its end.

mod admit;
mod idempotency;
mod objects;
mod observe;
mod prefer;
mod reference;
mod request;
mod stages;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::FutureExt;

use crate::auth::{Authorized, Caller, scope};
use crate::edge_trust::{ClientAddress, DecidedAtEdge, SignedBody};
use crate::error::ApiError;
use crate::jobs::{Ended, Live, ended_elsewhere, handed_over, render, under_way};
use crate::quota::Charge;
use crate::startup::App;
use crate::state::StateError;
use crate::telemetry::trace::Context;

pub(crate) use admit::again;
use admit::{Admitted, Origin};
use idempotency::Known;
pub(crate) use objects::{store_objects, uuid_v7};
use prefer::Preference;
pub use request::GenerateBody;

/// How long results are kept: 30 days, in seconds.
pub const KEEP_RESULTS_SECONDS: u64 = 30 * 24 * 3600;

/// When asking for a job again makes sense, in seconds.
const ASK_AGAIN_SECONDS: u64 = 1;

/// `POST /api/generate`.
pub async fn generate(
    caller: Authorized<scope::ImagesGenerate>,
    request: HttpRequest,
    address: ClientAddress,
    at_edge: DecidedAtEdge,
    body: SignedBody,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let preference = Preference::read(&request);
    let key = idempotency::read(&request, &body.0, &app.publisher.ring.get())?;
    // Held until the job is written down: of two equal requests at once, the second finds the first.
    let claim = match &key {
        Some(key) => {
            let claim = app.jobs.claim(&caller.user_id, &key.key.name).await;
            let claim = claim.ok_or(ApiError::Busy(1))?;
            if let Some(known) = idempotency::known(&app, &caller, key).await? {
                drop(claim);
                return replay(&app, &caller, &preference, known).await;
            }
            Some(claim)
        }
        None => None,
    };
    let owner = app.state.user(&caller.user_id).await?;
    if owner.suspended {
        return Err(ApiError::Suspended);
    }
    let allowed = app.limits.allowance(&owner);
    let limit = allowed.storage_bytes;
    if owner.stored_bytes >= limit {
        // Told before the accelerator works for pictures that nobody could keep.
        let used = owner.stored_bytes;
        return Err(ApiError::StorageQuota { limit, used });
    }
    let job = request::read(&request, &body, &app, &caller.user_id).await?;
    #[cfg(debug_assertions)]
    crate::startup::panic_for_tests("generate", &job.spec.prompt);
    app.check_budget(&job.spec).await?;
    let charge = Charge {
        address: address.0,
        token: &caller.jti,
        user: &caller.user_id,
        milliunits: job.cost_milliunits(),
        allowed: allowed.decided(at_edge.0),
    };
    let begun = app.clock.nanos();
    let admitted = app.limits.admit(charge, begun).await;
    let span = (begun, app.clock.nanos());
    let trace = Context::of(&request);
    app.tracer
        .stage(trace, "limits", span, Vec::new(), admitted.is_err());
    let reservation = admitted?;
    let origin = Origin::of(&request, &caller, address, &reservation);
    let can_return = key.is_some() || preference.is_async();
    let named = key.clone();
    // A client who leaves in the middle of it leaves a job that is admitted or none.
    let admission = admit::admit(
        app.get_ref().clone(),
        job,
        body.0,
        origin,
        reservation,
        key.map(|keyed| keyed.key).zip(claim),
        can_return,
    );
    let admission = app.jobs.spawn(async move {
        let live = admission.await?;
        Ok::<_, ApiError>(CancelOnLeave(live, !can_return))
    });
    let admitted = admission
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let leaving = match (admitted, &named) {
        (Err(ApiError::State(StateError::Exists)), Some(key)) => {
            // Another origin was asked the same at the same moment, and was first.
            let known = idempotency::known(&app, &caller, key).await?;
            let known = known.ok_or(ApiError::Busy(1))?;
            return replay(&app, &caller, &preference, known).await;
        }
        (admitted, _) => admitted?,
    };
    let answer = wait(&app, &caller, &preference, &leaving.0).await;
    leaving.stay();
    answer
}

/// What happens to an admitted job, whoever waits for it.
async fn carry_out(app: App, mut job: Admitted) -> Ended {
    let made = AssertUnwindSafe(make(&app, &mut job)).catch_unwind().await;
    let made = made.unwrap_or_else(|_| Err(ApiError::Internal(format!("job {} panicked", job.id))));
    stages::settle(&app, job, made).await
}

async fn make(app: &App, job: &mut Admitted) -> Result<stages::StoredImages, ApiError> {
    #[cfg(debug_assertions)]
    crate::startup::panic_for_tests("make", &job.spec.spec.prompt);
    let pixels = stages::run(app, job).await?;
    let encoded = stages::encode(app, job, pixels).await?;
    stages::store(app, job, encoded).await
}

/// The finished generation when it is done in time; else where to ask for it.
async fn wait(
    app: &App,
    caller: &Caller,
    preference: &Preference,
    live: &Arc<Live>,
) -> Result<HttpResponse, ApiError> {
    if let Ok(ended) = tokio::time::timeout(preference.wait(), live.ended()).await {
        let done = render(app, &caller.user_id, &live.id, live.milliunits, &ended).await?;
        return Ok(HttpResponse::Ok().json(done));
    }
    app.state.hand_job_over(&live.id).await?;
    Ok(accepted(preference, under_way(app, live)))
}

/// Where to ask for a job.
fn accepted(preference: &Preference, (location, job): (String, serde_json::Value)) -> HttpResponse {
    let mut answer = HttpResponse::Accepted();
    answer.insert_header((header::LOCATION, location));
    answer.insert_header((header::RETRY_AFTER, ASK_AGAIN_SECONDS));
    if preference.is_async() {
        answer.insert_header(("preference-applied", "respond-async"));
    }
    answer.json(job)
}

/// The answer to a request that was made before under the same key: the same job, its links signed afresh. Whatever
/// became of that job, this request is not charged.
async fn replay(
    app: &App,
    caller: &Caller,
    preference: &Preference,
    known: Known,
) -> Result<HttpResponse, ApiError> {
    let answer = stands(app, caller, preference, known).await;
    let mut answer = answer.map_err(ApiError::uncharged)?;
    answer.headers_mut().insert(
        header::HeaderName::from_static("idempotency-replayed"),
        header::HeaderValue::from_static("true"),
    );
    Ok(answer)
}

/// How the job of an earlier request stands, once it ended or the wait is over.
async fn stands(
    app: &App,
    caller: &Caller,
    preference: &Preference,
    known: Known,
) -> Result<HttpResponse, ApiError> {
    Ok(match known {
        Known::Live(live) => wait(app, caller, preference, &live).await?,
        Known::Ended(id, milliunits, ended) => {
            HttpResponse::Ok().json(render(app, &caller.user_id, &id, milliunits, &ended).await?)
        }
        Known::HandedOver(id, milliunits, running) => {
            let ended = ended_elsewhere(app, &caller.user_id, &id);
            match tokio::time::timeout(preference.wait(), ended).await {
                Ok(ended) => {
                    // Its admission was given up in the meantime: this request may be the first.
                    let ended = ended?.ok_or(ApiError::Busy(1))?;
                    let done = render(app, &caller.user_id, &id, milliunits, &ended).await?;
                    HttpResponse::Ok().json(done)
                }
                Err(_) => {
                    let job = handed_over(app, &id, milliunits, running).await;
                    accepted(preference, job)
                }
            }
        }
    })
}

/// Cancels a job whose only possible reader left: the future of its request was dropped.
struct CancelOnLeave(Arc<Live>, bool);

impl CancelOnLeave {
    fn stay(mut self) {
        self.1 = false;
    }
}

impl Drop for CancelOnLeave {
    fn drop(&mut self) {
        if self.1 {
            self.0.cancel();
        }
    }
}
