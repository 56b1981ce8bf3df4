//! The studio's sign-in. Without a provider: a local one, on loopback only.

use std::net::IpAddr;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::session;
use crate::edge_trust::ClientAddress;
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

/// `GET /auth/login`: starts a local session and goes on to the studio.
pub async fn login(
    request: HttpRequest,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    if !is_local_allowed(&app) {
        return Err(ApiError::Problem(shared::problem::NOT_FOUND));
    }
    app.limits
        .token_endpoint(address.0, None, app.clock.nanos())
        .await?;
    // A link on a foreign page must not sign anybody in.
    let site = request
        .headers()
        .get("sec-fetch-site")
        .and_then(|value| value.to_str().ok());
    if matches!(site, Some("cross-site")) {
        return Err(ApiError::CrossSite);
    }
    let token = app.sessions.start(LOCAL_USER, app.clock.seconds());
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(session::cookie(Some(token), app.settings.server.is_https()))
        .finish())
}

/// `POST /auth/logout`: ends the session.
pub async fn logout(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    if !session::is_same_origin(&request, &app.settings.server.origins()) {
        return Err(ApiError::CrossSite);
    }
    if let Some(token) = session::token_of(&request, app.settings.server.is_https()) {
        app.sessions.end(&token);
    }
    Ok(HttpResponse::NoContent()
        .cookie(session::cookie(None, app.settings.server.is_https()))
        .finish())
}
