//! Who operates: a bearer token with the scope `admin`, or a session that began with the id and secret of a client that
//! may have it. The session's cookie is another one than the studio's: neither counts where the other does.

use std::pin::Pin;
use std::sync::Arc;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, web};
use serde::Deserialize;

use crate::auth::clients::random_token;
use crate::auth::session::digest;
use crate::auth::{Authorized, Scope, Scopes, known_client, scope, session};
use crate::error::ApiError;
use crate::secret::Secret;
use crate::startup::App;
use crate::state::audit::Change;
use crate::state::sessions::{Kind, SessionRow};

/// Seconds of a session: a working day.
const LIFE: u64 = 8 * 3600;

/// Whoever operates, recognised.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The client.
    pub client: Arc<str>,
    /// The peer's address, for the audit.
    pub address: String,
}

impl FromRequest for Operator {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let address = peer(request);
        if request.headers().contains_key(header::AUTHORIZATION) {
            let bearer = Authorized::<scope::Admin>::from_request(request, payload);
            return Box::pin(async move {
                let client = Arc::clone(&bearer.await?.client_id);
                Ok(Self { client, address })
            });
        }
        let found = of_session(request);
        Box::pin(async move {
            let (app, token) = found?;
            let now = app.clock.seconds();
            let session = app.state.session(Kind::Operator, digest(&token), now);
            let client = session.await?.ok_or(ApiError::Anonymous)?.client_id;
            // A client that was disabled, or lost the scope, is out at once.
            let row = app.state.client(&client).await?;
            let may =
                |scopes: &str| Scopes::parse(scopes).is_ok_and(|set| set.has(scope::Admin::NAME));
            let row = row.filter(|row| !row.disabled);
            if let Some(row) = &row
                && app.state.user(&row.user_id).await?.suspended
            {
                return Err(ApiError::Suspended);
            }
            match row {
                None => Err(ApiError::Unauthorized),
                Some(row) if may(&row.scopes) => Ok(Self {
                    client: client.into(),
                    address,
                }),
                Some(_) => Err(ApiError::Scope(scope::Admin::NAME)),
            }
        })
    }
}

fn of_session(request: &HttpRequest) -> Result<(web::Data<App>, String), ApiError> {
    let app = request.app_data::<web::Data<App>>();
    let app = app.ok_or_else(|| ApiError::Internal("no app data".into()))?;
    let token = session::cookie_of(request, cookie_name(request));
    let token = token.ok_or(ApiError::Anonymous)?;
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !safe && !is_own_page(request) {
        return Err(ApiError::CrossSite);
    }
    Ok((app.clone(), token))
}

fn peer(request: &HttpRequest) -> String {
    let peer = request.peer_addr();
    peer.map_or_else(String::new, |peer| peer.ip().to_canonical().to_string())
}

/// The host as the browser named it. The listener answers only to names it knows.
fn host(request: &HttpRequest) -> String {
    let value = request.headers().get(header::HOST);
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or("").to_ascii_lowercase()
}

fn is_secure(request: &HttpRequest) -> bool {
    // Plain http is for this machine alone; under any other name there is TLS in front.
    !crate::config::is_loopback_host(crate::config::host_of(&host(request)))
}

fn cookie_name(request: &HttpRequest) -> &'static str {
    if is_secure(request) {
        "__Host-signet-operator"
    } else {
        "signet-operator"
    }
}

fn cookie(request: &HttpRequest, token: Option<String>) -> Cookie<'static> {
    let mut cookie = Cookie::build(cookie_name(request), token.clone().unwrap_or_default())
        .path("/")
        .http_only(true)
        .secure(is_secure(request))
        .same_site(SameSite::Strict)
        .finish();
    if token.is_none() {
        cookie.make_removal();
    }
    cookie
}

/// Whether a call comes from the page itself: its own `Origin`, and the header that no form and no foreign script can
/// send.
fn is_own_page(request: &HttpRequest) -> bool {
    let scheme = if is_secure(request) { "https" } else { "http" };
    session::is_same_origin(request, &[format!("{scheme}://{}", host(request))])
}

/// What a sign-in sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    client_id: String,
    client_secret: Secret,
}

/// `POST /admin/session`: begins a session for a client with the scope `admin`.
pub async fn sign_in(
    request: HttpRequest,
    body: web::Bytes,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    if !is_own_page(&request) {
        return Err(ApiError::CrossSite);
    }
    let sign_in: SignIn = crate::json::read_json(&body)?;
    let now = app.clock.nanos();
    let address = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let address = address.ok_or_else(|| ApiError::Internal("no peer address".into()))?;
    let limits = &app.limits;
    limits
        .token_endpoint(address, Some(&sign_in.client_id), now)
        .await?;
    let client = known_client(&app, &sign_in.client_id, sign_in.client_secret).await?;
    let client = client.ok_or(ApiError::Unauthorized)?;
    limits.token_granted(address, &client.id, now).await;
    if !Scopes::parse(&client.scopes).is_ok_and(|set| set.has(scope::Admin::NAME)) {
        return Err(ApiError::Scope(scope::Admin::NAME));
    }
    let operator = Operator {
        client: client.id.as_str().into(),
        address: address.to_string(),
    };
    let sign_in = ("sign-in", Change::Elsewhere);
    super::admin::act(&app, &request, &operator, sign_in, &client.id).await?;
    let (token, now) = (random_token(), app.clock.seconds());
    let row = SessionRow {
        user_id: client.user_id,
        client_id: client.id,
        ends: now + LIFE,
    };
    let begun = app
        .state
        .begin_session(Kind::Operator, digest(&token), row, now);
    begun.await?;
    Ok(HttpResponse::NoContent()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(cookie(&request, Some(token)))
        .finish())
}

/// `DELETE /admin/session`: ends it.
pub async fn sign_out(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    if !is_own_page(&request) {
        return Err(ApiError::CrossSite);
    }
    if let Some(token) = session::cookie_of(&request, cookie_name(&request)) {
        let ended = app.state.end_session(Kind::Operator, digest(&token));
        ended.await?;
    }
    Ok(HttpResponse::NoContent()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(cookie(&request, None))
        .finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn at(host: &str) -> TestRequest {
        TestRequest::default().insert_header((header::HOST, host))
    }

    #[test]
    fn the_cookie_is_closed_to_scripts_and_other_sites_and_secure_off_this_machine() {
        for (host, expected) in [
            (
                "ops.example.com",
                "__Host-signet-operator=t; HttpOnly; SameSite=Strict; Secure; Path=/",
            ),
            (
                "127.0.0.1:9090",
                "signet-operator=t; HttpOnly; SameSite=Strict; Path=/",
            ),
            (
                "[::1]:9090",
                "signet-operator=t; HttpOnly; SameSite=Strict; Path=/",
            ),
            (
                "localhost:9090",
                "signet-operator=t; HttpOnly; SameSite=Strict; Path=/",
            ),
        ] {
            let request = at(host).to_http_request();
            assert_eq!(cookie(&request, Some("t".into())).to_string(), expected);
        }
    }

    #[test]
    fn only_the_page_itself_may_act() {
        let from = |host: &str, origin: &str, header: &str| {
            let request = at(host)
                .insert_header((header::ORIGIN, origin))
                .insert_header(("signet-studio", header));
            is_own_page(&request.to_http_request())
        };
        assert!(from("127.0.0.1:9090", "http://127.0.0.1:9090", "1"));
        assert!(from("ops.example.com", "https://ops.example.com", "1"));
        assert!(!from("ops.example.com", "http://ops.example.com", "1"));
        assert!(
            !from("127.0.0.1:9090", "http://127.0.0.1:8080", "1"),
            "the studio is another origin"
        );
        assert!(!from("127.0.0.1:9090", "http://127.0.0.1:9090", "0"));
        assert!(!from("127.0.0.1:9090", "null", "1"));
    }
}
