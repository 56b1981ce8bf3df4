//! All routes on one page. A handler is `guarded` by the scope in its first argument, or `open` ([`crate::auth::guard`]).

use actix_web::guard;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, Query, ServiceConfig, delete, post};
use actix_web::{HttpRequest, HttpResponse, Resource};
use shared::{problem, report};

use crate::auth::guard::Guard;
use crate::auth::{metadata, revocation, signin, token_endpoint};
use crate::error::ApiError;
use crate::json::shortened;
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
        .service(at("/.well-known/jwks.json", "GET, HEAD").route(get().open(metadata::jwks)))
        .service(
            at("/.well-known/oauth-authorization-server", "GET, HEAD")
                .route(get().open(metadata::server)),
        )
        .service(at("/auth/login", "GET, HEAD").route(get().open(signin::login)))
        .service(at("/auth/callback", "GET, HEAD").route(get().open(signin::callback)))
        .service(at("/auth/logout", "POST").route(post().open(signin::logout)))
        .service(at("/api/generate", "POST").route(post().guarded(generate::generate)))
        .service(
            at("/api/jobs/{id}", "GET, HEAD, DELETE")
                .route(get().guarded(jobs::get))
                .route(delete().guarded(jobs::cancel)),
        )
        .service(at("/api/jobs/{id}/events", "GET, HEAD").route(get().guarded(jobs::events)))
        .service(at("/api/images", "GET, HEAD").route(get().guarded(images::list)))
        .service(at("/api/images/{id}", "DELETE").route(delete().guarded(images::delete)))
        .service(at("/api/images/{id}/link", "POST").route(post().guarded(images::link)))
        .service(
            at("/api/images/{id}/keep", "POST, DELETE")
                .route(post().guarded(images::keep))
                .route(delete().guarded(images::unkeep)),
        )
        .service(at("/api/upload", "POST").route(post().guarded(upload::upload)))
        .service(at("/api/usage", "GET, HEAD").route(get().guarded(images::usage)))
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
        .service(at("/metrics", "GET, HEAD").route(get().open(operator::metrics)))
        .service(at("/healthz", "GET, HEAD").route(get().open(operator::healthz)))
        .service(at("/readyz", "GET, HEAD").route(get().open(operator::readyz)))
        .service(at("/admin/models", "GET, HEAD").route(get().guarded(catalogue::list)))
        .service(at("/admin/models/reload", "POST").route(post().guarded(catalogue::reload)))
        .service(at("/admin/models/{name}", "DELETE").route(delete().guarded(catalogue::unload)))
        .configure(operator::routes)
        .default_service(web::route().open(nothing));
}

async fn nothing(request: HttpRequest) -> HttpResponse {
    ApiError::Problem(problem::NOT_FOUND).answer_at(request.path())
}

/// A route for GET, and for HEAD, which is answered as GET is, without the body (RFC 9110 section 9.3.2).
pub(crate) fn get() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Query parameters of routes that take any.
const QUERIES: [(&str, &[&str]); 1] = [("/api/images", &["limit", "cursor"])];

/// Refuses query parameters that a route of the API does not know. Other routes ignore them: providers add some.
///
/// # Errors
/// `invalid_request`, which names the first.
pub(crate) fn known_query(request: &HttpRequest) -> Result<(), ApiError> {
    let Some(route) = request.match_pattern().filter(|it| it.starts_with("/api/")) else {
        return Ok(());
    };
    if request.query_string().is_empty() {
        return Ok(());
    }
    let known = QUERIES.iter().find(|(path, _)| *path == route);
    let known = known.map_or([].as_slice(), |(_, names)| names);
    let query = Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| ApiError::Invalid("the query cannot be read".into()))?;
    match query
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        None => Ok(()),
        Some((name, _)) => {
            let name = shortened(name);
            Err(ApiError::Invalid(match known {
                [] => format!("unknown query parameter `{name}`: this route takes none"),
                known => {
                    let known = known.join("`, `");
                    format!("unknown query parameter `{name}`, expected `{known}`")
                }
            }))
        }
    }
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
