//! `POST /oauth/token` (RFC 6749 section 4.4) and the documents by which others verify our tokens.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Scopes, clients};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::secret::Secret;
use crate::startup::App;

/// Bodies of this endpoint are tiny.
pub const MAX_BODY: usize = 8 * 1024;

/// An OAuth error answer (RFC 6749 section 5.2).
fn refuse(status: u16, error: &str, description: &str) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).unwrap_or_default();
    let mut answer = HttpResponse::build(status);
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    if status == 401 {
        answer.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"signet\""));
    }
    answer.json(serde_json::json!({ "error": error, "error_description": description }))
}

/// The parameters of a form; `None` when one stands twice or the text is no form.
fn parse_form(body: &str) -> Option<Vec<(String, String)>> {
    let mut out: Vec<(String, String)> = Vec::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (decode(name)?, decode(value)?);
        if out.iter().any(|(known, _)| *known == name) {
            return None;
        }
        out.push((name, value));
    }
    Some(out)
}

fn value_of<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// application/x-www-form-urlencoded.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = |c: u8| char::from(c).to_digit(16);
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Id and secret of `Authorization: Basic` (RFC 6749 section 2.3.1: both form-encoded).
fn basic(request: &HttpRequest) -> Option<Option<(String, Secret)>> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return Some(None);
    };
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some(Some((decode(id)?, Secret::new(decode(secret)?))))
}

/// `POST /oauth/token`.
pub async fn token(
    request: HttpRequest,
    body: SignedBody,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let form = std::str::from_utf8(&body).ok().and_then(parse_form);
    let in_header = basic(&request);
    let named = match (&in_header, &form) {
        (Some(Some((id, _))), _) => Some(id.as_str()),
        (_, Some(form)) => value_of(form, "client_id"),
        _ => None,
    };
    let now = app.clock.nanos();
    app.limits.token_endpoint(address.0, named, now).await?;
    let invalid = |text| Ok(refuse(400, "invalid_request", text));
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .unwrap_or("")
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form {
        return invalid("the body must be application/x-www-form-urlencoded");
    }
    let Some(form) = form else {
        return invalid("the body is no form, or names a parameter twice");
    };
    let field = |name: &str| value_of(&form, name);
    match field("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Ok(refuse(
                400,
                "unsupported_grant_type",
                "client_credentials is supported",
            ));
        }
        None => return invalid("grant_type is missing"),
    }
    let Some(in_header) = in_header else {
        return Ok(refuse(
            401,
            "invalid_client",
            "the Authorization header is not Basic",
        ));
    };
    let in_form = field("client_id")
        .zip(field("client_secret"))
        .map(|(id, secret)| (id.to_owned(), Secret::new(secret)));
    let (id, secret) = match (in_header, in_form) {
        (Some(_), Some(_)) => return invalid("authenticate in one way, not two"),
        (Some(both), None) | (None, Some(both)) => both,
        (None, None) => {
            return Ok(refuse(
                401,
                "invalid_client",
                "client authentication is missing",
            ));
        }
    };
    let client = app.state.client(&id).await?;
    let hash = client.as_ref().map(|client| client.secret_hash.clone());
    // argon2 takes tens of milliseconds and 19 MiB: few at once, none on the request threads.
    let Ok(_permit) = app.password_checks.acquire().await else {
        return Err(ApiError::Internal("password checks are closed".into()));
    };
    let matches = web::block(move || clients::verify(&secret, hash.as_deref()))
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let client = match client {
        Some(client) if matches && !client.disabled => client,
        _ => {
            return Ok(refuse(
                401,
                "invalid_client",
                "unknown client or wrong secret",
            ));
        }
    };
    app.limits.token_granted(address.0, &client.id, now).await;
    let granted = Scopes::parse(&client.scopes)
        .map_err(|scope| ApiError::Internal(format!("client with scope {scope}")))?;
    let scopes = match field("scope").map(Scopes::parse) {
        None => granted,
        Some(Ok(asked)) if !asked.is_empty() && granted.contain(asked) => asked,
        Some(_) => {
            return Ok(refuse(
                400,
                "invalid_scope",
                "the client may not have this scope",
            ));
        }
    };
    if app.state.user(&client.user_id).await?.suspended {
        return Ok(refuse(
            400,
            "unauthorized_client",
            "this account is suspended",
        ));
    }
    let token = app
        .tokens
        .issue(&client.user_id, &client.id, scopes, app.clock.seconds())
        .ok_or_else(|| ApiError::Internal("no signing key".into()))?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": app.tokens.life(), "scope": scopes.to_string(),
    })))
}

/// `GET /.well-known/jwks.json`.
pub async fn jwks(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .json(app.tokens.jwks())
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
pub async fn metadata(app: web::Data<App>) -> HttpResponse {
    let base = app.tokens.issuer();
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .json(serde_json::json!({
            "issuer": base,
            "token_endpoint": format!("{base}/oauth/token"),
            "jwks_uri": format!("{base}/.well-known/jwks.json"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": super::scope::ALL,
        }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_are_read_strictly() {
        assert_eq!(
            parse_form("a=b+c&d=%2B").unwrap(),
            [("a".into(), "b c".into()), ("d".into(), "+".into())]
        );
        assert_eq!(parse_form("a=1&a=2"), None);
        assert_eq!(parse_form("a"), None);
        assert_eq!(parse_form("a=%zz"), None);
        assert_eq!(parse_form("a=%ff"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,60}|[a-z%=&+0-9]{0,40}") {
            let _ = parse_form(&body);
        }
    }
}
