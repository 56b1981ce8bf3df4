//! All routes on one page. A handler's scope stands in its arguments ([`crate::auth::Authorized`]).

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig, delete, get, post};
use shared::problem;

use crate::auth::{signin, token_endpoint};
use crate::error::answer;
use crate::{deliver, generate, images, operator, studio};

/// Largest JSON body in bytes: a prompt of 2,000 characters in escapes, twice.
const MAX_JSON: usize = 64 * 1024;

/// The public listener.
pub fn public(config: &mut ServiceConfig) {
    let small = || web::PayloadConfig::new(MAX_JSON);
    config
        .app_data(small())
        .service(
            web::resource("/oauth/token")
                .app_data(web::PayloadConfig::new(token_endpoint::MAX_BODY))
                .route(post().to(token_endpoint::token))
                .default_service(web::to(post_only)),
        )
        .route("/.well-known/jwks.json", get().to(token_endpoint::jwks))
        .route(
            "/.well-known/oauth-authorization-server",
            get().to(token_endpoint::metadata),
        )
        .route("/auth/login", get().to(signin::login))
        .service(
            web::resource("/auth/logout")
                .route(post().to(signin::logout))
                .default_service(web::to(post_only)),
        )
        .service(
            web::resource("/api/generate")
                .route(post().to(generate::generate))
                .default_service(web::to(post_only)),
        )
        .route("/api/images", get().to(images::list))
        .route("/api/images/{id}", delete().to(images::delete))
        .route("/api/images/{id}/link", post().to(images::link))
        .route("/api/images/{id}/keep", post().to(images::keep))
        .route("/api/images/{id}/keep", delete().to(images::unkeep))
        .route("/api/usage", get().to(images::usage))
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
        .default_service(web::to(nothing));
}

async fn nothing() -> HttpResponse {
    answer(problem::NOT_FOUND)
}

async fn post_only() -> HttpResponse {
    let mut refused = answer(problem::METHOD_NOT_ALLOWED);
    let allow = actix_web::http::header::HeaderValue::from_static("POST");
    refused
        .headers_mut()
        .insert(actix_web::http::header::ALLOW, allow);
    refused
}
