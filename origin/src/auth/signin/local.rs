//! The sign-in without a provider, on loopback only.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::header;

use crate::auth::session;
use crate::error::ApiError;
use crate::startup::App;

/// The one user of the local sign-in.
const LOCAL_USER: &str = "local";

/// Whether the studio may sign people in without a provider: configured so, the service bound to and named as this
/// machine. Behind the demo's edge the API's own host is loopback, and so is whoever can reach it.
pub fn is_local_allowed(app: &App) -> bool {
    let host = |url: &str| {
        let authority = url
            .split("://")
            .nth(1)
            .unwrap_or("")
            .split('/')
            .next()
            .unwrap_or("")
            .to_owned();
        match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or("").to_owned(),
            None => authority.split(':').next().unwrap_or("").to_owned(),
        }
    };
    let is_loopback =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    app.settings.auth.local_sign_in
        && app.settings.server.bind.ip().is_loopback()
        && is_loopback(&host(&app.settings.server.url()))
}

/// Starts a local session and goes on to the studio.
pub(super) async fn start(app: &App) -> Result<HttpResponse, ApiError> {
    let token = app.sessions.start(LOCAL_USER, app.clock.seconds()).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(session::cookie(Some(token), app.settings.server.is_https()))
        .finish())
}
