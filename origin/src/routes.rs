//! All routes on one page. A handler's scope stands in its arguments ([`crate::auth::Authorized`]).

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig, delete, get, post};
use actix_web::{HttpResponse, Resource};
use shared::{problem, report};

use crate::auth::{metadata, revocation, signin, token_endpoint};
use crate::error::answer;
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
                .route(post().to(token_endpoint::token)),
        )
        .service(
            at("/oauth/revoke", "POST")
                .app_data(form())
                .route(post().to(revocation::revoke)),
        )
        .service(
            at("/oauth/introspect", "POST")
                .app_data(form())
                .route(post().to(revocation::introspect)),
        )
        .service(at("/.well-known/jwks.json", "GET").route(get().to(metadata::jwks)))
        .service(
            at("/.well-known/oauth-authorization-server", "GET").route(get().to(metadata::server)),
        )
        .service(at("/auth/login", "GET").route(get().to(signin::login)))
        .service(at("/auth/callback", "GET").route(get().to(signin::callback)))
        .service(at("/auth/logout", "POST").route(post().to(signin::logout)))
        .service(at("/api/generate", "POST").route(post().to(generate::generate)))
        .service(
            at("/api/jobs/{id}", "GET, DELETE")
                .route(get().to(jobs::get))
                .route(delete().to(jobs::cancel)),
        )
        .service(at("/api/jobs/{id}/events", "GET").route(get().to(jobs::events)))
        .service(at("/api/images", "GET").route(get().to(images::list)))
        .service(at("/api/images/{id}", "DELETE").route(delete().to(images::delete)))
        .service(at("/api/images/{id}/link", "POST").route(post().to(images::link)))
        .service(
            at("/api/images/{id}/keep", "POST, DELETE")
                .route(post().to(images::keep))
                .route(delete().to(images::unkeep)),
        )
        .service(at("/api/upload", "POST").route(post().to(upload::upload)))
        .service(at("/api/usage", "GET").route(get().to(images::usage)))
        .service(at(report::PATH, "POST").route(post().to(edge_trust::counts::take)))
        .configure(studio::routes)
        .default_service(web::to(nothing));
}

/// The images listener.
pub fn images(config: &mut ServiceConfig) {
    config.default_service(web::route().to(deliver::serve));
}

/// The operator listener.
pub fn operator(config: &mut ServiceConfig) {
    config
        .route("/metrics", get().to(operator::metrics))
        .route("/healthz", get().to(operator::healthz))
        .route("/readyz", get().to(operator::readyz))
        .service(at("/admin/models", "GET").route(get().to(catalogue::list)))
        .service(at("/admin/models/reload", "POST").route(post().to(catalogue::reload)))
        .service(at("/admin/models/{name}", "DELETE").route(delete().to(catalogue::unload)))
        .configure(operator::routes)
        .default_service(web::to(nothing));
}

async fn nothing() -> HttpResponse {
    answer(problem::NOT_FOUND)
}

/// A resource that answers methods it does not have with 405 and the ones it has.
fn at(path: &'static str, methods: &'static str) -> Resource {
    let route = Route::new(path);
    web::resource(path)
        .app_data(route)
        .default_service(web::to(move || async move {
            let mut refused = answer(problem::METHOD_NOT_ALLOWED);
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(methods));
            refused
        }))
}
