//! The operator listener: what machines read ([`plain`]), and what people see and do ([`page`], [`admin`]), which needs
//! the scope `admin`, on loopback too.

mod access;
mod admin;
mod page;
mod plain;

pub use access::{Operator, Operators};
pub use page::OperatorPage;
pub use plain::{healthz, metrics, readyz};

use actix_web::web::{self, ServiceConfig, delete, get, head, post};

/// Largest body of a call: a client's id and secret.
const MAX_BODY: usize = 4 * 1024;

/// Routes of the page and its calls.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(
            web::resource(["/", "/admin"])
                .route(get().to(page::page))
                .route(head().to(page::page)),
        )
        .route("/operator/{version}/{file}", get().to(page::file))
        .service(
            web::resource("/admin/session")
                .route(post().to(access::sign_in))
                .route(delete().to(access::sign_out)),
        )
        .route("/admin/overview", get().to(admin::overview))
        .route("/admin/users/{id}/{act}", post().to(admin::decide))
        .route("/admin/jobs/{id}/cancel", post().to(admin::cancel));
}
