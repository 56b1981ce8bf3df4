//! All routes on one page. A handler is `guarded` by the scope in its first argument, or `open` ([`crate::auth::guard`]).

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig, delete, get, head, post};
use actix_web::{HttpRequest, HttpResponse, Resource};
use shared::{problem, report};

use crate::auth::guard::Guard;
use crate::auth::{metadata, revocation, signin, token_endpoint};
use crate::error::ApiError;
use crate::middleware::Route;
use crate::{catalogue, deliver, edge_trust, generate, images, jobs, operator, studio, upload};

/// Largest JSON body in bytes: a prompt of 2,000 characters in escapes, twice.
const MAX_JSON: usize = 64 * 1024;

/// The public listener.
pub fn public(config: &mut ServiceConfig) {
    let form = || web::PayloadConfig::new(token_endpoint::MAX_BODY);
    config
        .app_data(web::PayloadConfig::new(MAX_JSON))
        .service(
            at("/oauth/token", "POST")
                .app_data(form())
                .route(post().open(token_endpoint::token)),
        )
        .service(
            at("/oauth/revoke", "POST")
                .app_data(form())
                .route(post().open(revocation::revoke)),
        )
        .service(
            at("/oauth/introspect", "POST")
                .app_data(form())
                .route(post().open(revocation::introspect)),
        )
        .service(at("/.well-known/jwks.json", "GET").route(get().open(metadata::jwks)))
        .service(
            at("/.well-known/oauth-authorization-server", "GET")
                .route(get().open(metadata::server)),
        )
        .service(at("/auth/login", "GET").route(get().open(signin::login)))
        .service(at("/auth/callback", "GET").route(get().open(signin::callback)))
        .service(at("/auth/logout", "POST").route(post().open(signin::logout)))
        .service(at("/api/generate", "POST").route(post().guarded(generate::generate)))
        .service(
            at("/api/jobs/{id}", "GET, DELETE")
                .route(get().guarded(jobs::get))
                .route(delete().guarded(jobs::cancel)),
        )
        .service(at("/api/jobs/{id}/events", "GET").route(get().guarded(jobs::events)))
        .service(at("/api/images", "GET").route(get().guarded(images::list)))
        .service(at("/api/images/{id}", "DELETE").route(delete().guarded(images::delete)))
        .service(at("/api/images/{id}/link", "POST").route(post().guarded(images::link)))
        .service(
            at("/api/images/{id}/keep", "POST, DELETE")
                .route(post().guarded(images::keep))
                .route(delete().guarded(images::unkeep)),
        )
        .service(at("/api/upload", "POST").route(post().guarded(upload::upload)))
        .service(at("/api/usage", "GET").route(get().guarded(images::usage)))
        .service(at(report::PATH, "POST").route(post().open(edge_trust::counts::take)))
        .configure(studio::routes)
        .default_service(web::route().open(nothing));
}

/// The images listener.
pub fn images(config: &mut ServiceConfig) {
    config.default_service(web::route().open(deliver::serve));
}

/// The operator listener.
pub fn operator(config: &mut ServiceConfig) {
    config
        .service(
            at("/metrics", "GET, HEAD")
                .route(get().open(operator::metrics))
                .route(head().open(operator::metrics)),
        )
        .service(
            at("/healthz", "GET, HEAD")
                .route(get().open(operator::healthz))
                .route(head().open(operator::healthz)),
        )
        .service(
            at("/readyz", "GET, HEAD")
                .route(get().open(operator::readyz))
                .route(head().open(operator::readyz)),
        )
        .service(at("/admin/models", "GET").route(get().guarded(catalogue::list)))
        .service(at("/admin/models/reload", "POST").route(post().guarded(catalogue::reload)))
        .service(at("/admin/models/{name}", "DELETE").route(delete().guarded(catalogue::unload)))
        .configure(operator::routes)
        .default_service(web::route().open(nothing));
}

async fn nothing(request: HttpRequest) -> HttpResponse {
    ApiError::Problem(problem::NOT_FOUND).answer_at(request.path())
}

/// A resource that answers methods it does not have with 405 and the ones it has.
pub(crate) fn at(path: &'static str, methods: &'static str) -> Resource {
    web::resource(path)
        .app_data(Route::new(path))
        .default_service(other_methods(methods))
}

/// Answers 405 and these methods.
pub(crate) fn other_methods(methods: &'static str) -> actix_web::Route {
    web::route().open(move |request: HttpRequest| async move {
        let mut refused = ApiError::Problem(problem::METHOD_NOT_ALLOWED).answer_at(request.path());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(methods));
        refused
    })
}
