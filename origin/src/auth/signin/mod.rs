//! The studio's sign-in, as a back end for its page: the browser gets a cookie, tokens never leave this process.
//!
//! With a provider: authorization code with PKCE. What a sign-in needs on its way back (state, nonce, verifier) is made of
//! a cookie that lives ten minutes; the state keeps its hash, so that it counts once, at whichever origin it comes back. The callback answers with a page that goes on by itself,
//! because the session's cookie is SameSite=Strict and a redirect that began elsewhere would not carry it.

mod local;

use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use shared::problem::Problem;
use subtle::ConstantTimeEq;

use super::clients::random_token;
use super::provider::{Provider, encode};
use super::session::{self, digest};
use crate::edge_trust::ClientAddress;
use crate::error::ApiError;
use crate::startup::App;

pub use local::is_local_allowed;

const MINUTES: u64 = 10;

/// What a sign-in needs on its way back: hashes of its cookie, which only the browser has.
struct Transaction {
    state: String,
    nonce: String,
    verifier: String,
}

impl Transaction {
    fn of(cookie: &str) -> Self {
        let part =
            |what| URL_SAFE_NO_PAD.encode(digest(&format!("signet-sign-in {what} {cookie}")));
        Self {
            state: part("state"),
            nonce: part("nonce"),
            verifier: part("verifier"),
        }
    }
}

fn cookie_name(secure: bool) -> &'static str {
    if secure {
        "__Host-signet-sign-in"
    } else {
        "signet-sign-in"
    }
}

/// The transaction's cookie; without a value one that removes it. Lax: it must come along from the provider.
fn cookie(value: Option<String>, secure: bool) -> Cookie<'static> {
    let mut cookie = Cookie::build(cookie_name(secure), value.clone().unwrap_or_default())
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Lax)
        .max_age(time::Duration::minutes(MINUTES as i64))
        .finish();
    if value.is_none() {
        cookie.make_removal();
    }
    cookie
}

/// Where the provider sends the browser back to.
fn redirect_uri(app: &App) -> String {
    format!("{}/auth/callback", app.settings.server.url())
}

/// `GET /auth/login`: to the provider, or where there is none a local session.
pub async fn login(
    request: HttpRequest,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    if app.provider.is_none() && !is_local_allowed(&app) {
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
    match &app.provider {
        Some(provider) => send_away(&app, provider).await,
        None => local::start(&app).await,
    }
}

async fn send_away(app: &App, provider: &Provider) -> Result<HttpResponse, ApiError> {
    let now = app.clock.seconds();
    let endpoints = provider.endpoints(now).await.map_err(|error| {
        tracing::error!(%error, "nobody can sign in");
        ApiError::Problem(PROVIDER_AWAY)
    })?;
    let name = random_token();
    let transaction = Transaction::of(&name);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&transaction.verifier));
    let at = &endpoints.authorization_endpoint;
    let location = format!(
        "{at}{}response_type=code&client_id={}&redirect_uri={}&scope=openid&state={}&nonce={}&code_challenge={challenge}&code_challenge_method=S256",
        if at.contains('?') { '&' } else { '?' },
        encode(&provider.settings().client_id),
        encode(&redirect_uri(app)),
        transaction.state,
        transaction.nonce,
    );
    let ends = now + MINUTES * 60;
    app.state.begin_sign_in(digest(&name), ends, now).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, location))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(cookie(Some(name), app.settings.server.is_https()))
        .finish())
}

/// The provider does not answer.
const PROVIDER_AWAY: Problem = Problem::new(
    503,
    "provider_unavailable",
    "The sign-in provider does not answer.",
);

/// The provider's answer does not belong to a sign-in that this browser began here.
const SIGN_IN_FAILED: Problem = Problem::new(
    400,
    "sign_in_failed",
    "The sign-in did not work out; begin again.",
);

/// What the provider sends back with the browser.
#[derive(Debug, Deserialize)]
pub struct CallbackQuery {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
}

/// `GET /auth/callback`: the way back from the provider.
pub async fn callback(
    request: HttpRequest,
    query: Result<web::Query<CallbackQuery>, actix_web::Error>,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let Some(provider) = &app.provider else {
        return Err(ApiError::Problem(shared::problem::NOT_FOUND));
    };
    app.limits
        .token_endpoint(address.0, None, app.clock.nanos())
        .await?;
    let failed = || ApiError::Problem(SIGN_IN_FAILED);
    let query = query.map_err(|_| failed())?.into_inner();
    let secure = app.settings.server.is_https();
    let name = session::cookie_of(&request, cookie_name(secure)).ok_or_else(failed)?;
    let now = app.clock.seconds();
    // Taken out: it counts once, whatever comes of it.
    if !app.state.take_sign_in(digest(&name), now).await? {
        return Err(failed());
    }
    let transaction = Transaction::of(&name);
    let state = query.state.unwrap_or_default();
    if !bool::from(state.as_bytes().ct_eq(transaction.state.as_bytes())) {
        return Err(failed());
    }
    let away = |error| {
        tracing::warn!(%error, "a sign-in failed");
        ApiError::Problem(PROVIDER_AWAY)
    };
    let endpoints = provider.endpoints(now).await.map_err(away)?;
    let is_named = endpoints.authorization_response_iss_parameter_supported;
    match &query.iss {
        Some(iss) if *iss != provider.settings().issuer => return Err(failed()),
        None if is_named => return Err(failed()),
        _ => {}
    }
    // Without a code the person said no, or the provider did.
    let code = query.code.ok_or_else(failed)?;
    let redirect_uri = redirect_uri(&app);
    let redeemed = provider.redeem(
        &code,
        &transaction.verifier,
        &redirect_uri,
        &transaction.nonce,
        now,
    );
    let subject = redeemed.await.map_err(|error| {
        if error.is_away() {
            away(error)
        } else {
            tracing::warn!(%error, "a sign-in failed");
            failed()
        }
    })?;
    let user = app
        .state
        .user_of_subject(&subject.issuer, &subject.subject, now)
        .await?;
    if app.state.user(&user).await?.suspended {
        return Err(ApiError::Suspended);
    }
    let token = app.sessions.start(&user, now).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        ))
        .cookie(session::cookie(Some(token), secure))
        .cookie(cookie(None, secure))
        .content_type("text/html; charset=utf-8")
        .body(PAGE))
}

/// Goes on by itself: by then the browser stands on our site, and sends the session's cookie.
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=\"0;url=/\">\
<title>Signed in</title><p>You are signed in. <a href=\"/\">Go on</a>.</html>";

/// `POST /auth/logout`: ends the session.
pub async fn logout(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    if !session::is_same_origin(&request, &app.settings.server.origins()) {
        return Err(ApiError::CrossSite);
    }
    if let Some(token) = session::token_of(&request, app.settings.server.is_https()) {
        app.sessions.end(&token).await?;
    }
    Ok(HttpResponse::NoContent()
        .cookie(session::cookie(None, app.settings.server.is_https()))
        .finish())
}
