//! The operator listener: what machines read ([`plain`]), and what people see and do ([`page`], [`admin`]), which needs
//! the scope `admin`, on loopback too.

mod access;
mod admin;
mod page;
mod plain;

pub use access::Operator;
pub use page::OperatorPage;
pub use plain::{healthz, metrics, readyz};

use actix_web::web::{self, ServiceConfig, delete, post};

use crate::auth::guard::Guard;
use crate::routes::{at, get, other_methods};

/// Largest body of a call: a client's id and secret.
const MAX_BODY: usize = 4 * 1024;

/// Routes of the page and its calls.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(
            web::resource(["/", "/admin"])
                .route(get().open(page::page))
                .default_service(other_methods("GET, HEAD")),
        )
        .service(at("/operator/{version}/{file}", "GET, HEAD").route(get().open(page::file)))
        .service(
            web::resource("/admin/session")
                .route(post().open(access::sign_in))
                .route(delete().open(access::sign_out))
                .default_service(other_methods("POST, DELETE")),
        )
        .service(at("/admin/overview", "GET, HEAD").route(get().guarded(admin::overview)))
        .service(at("/admin/users/{id}/{act}", "POST").route(post().guarded(admin::decide)))
        .service(at("/admin/jobs/{id}/cancel", "POST").route(post().guarded(admin::cancel)));
}
