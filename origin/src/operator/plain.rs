//! The operator listener's plain routes.

use actix_web::{HttpResponse, web};

use crate::startup::App;

/// `GET /metrics`.
pub async fn metrics(app: web::Data<App>) -> HttpResponse {
    app.metrics
        .queue_depth
        .set(i64::try_from(app.queued()).unwrap_or(i64::MAX));
    if let Ok(bytes) = app.state.stored_bytes().await {
        app.metrics.storage.set(bytes as f64);
    }
    if let Err(error) = crate::telemetry::ages::measure(&app).await {
        tracing::warn!(%error, "the keys' age is not known");
    }
    if let Ok(entries) = app.state.revoked_count().await {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        app.metrics.health.revocations.set(entries);
    }
    let away = app.limits.is_away().await;
    app.metrics.health.redis_away.set(i64::from(away));
    let now = app.clock.seconds();
    app.metrics.health.show_repeats(now).await;
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(app.metrics.render())
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// `GET /readyz`: state and store answer too.
pub async fn readyz(app: web::Data<App>) -> HttpResponse {
    let state = app
        .state
        .stored_bytes()
        .await
        .map(|_| ())
        .map_err(|error| error.code());
    let store = app.store.check().await.map_err(|error| error.code());
    let word = |part: Result<(), &'static str>| part.map_or_else(|code| code, |()| "ok");
    let mut answer = if state.is_ok() && store.is_ok() {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.json(serde_json::json!({ "state": word(state), "store": word(store) }))
}
