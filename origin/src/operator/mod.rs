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

use crate::auth::guard::Guard;

/// Largest body of a call: a client's id and secret.
const MAX_BODY: usize = 4 * 1024;

/// Routes of the page and its calls.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(
            web::resource(["/", "/admin"])
                .route(get().open(page::page))
                .route(head().open(page::page)),
        )
        .route("/operator/{version}/{file}", get().open(page::file))
        .service(
            web::resource("/admin/session")
                .route(post().open(access::sign_in))
                .route(delete().open(access::sign_out)),
        )
        .route("/admin/overview", get().guarded(admin::overview))
        .route("/admin/users/{id}/{act}", post().guarded(admin::decide))
        .route("/admin/jobs/{id}/cancel", post().guarded(admin::cancel));
}
