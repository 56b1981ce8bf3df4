//! The documents by which others find our endpoints and verify our tokens.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::token_endpoint::EXCHANGE;
use crate::startup::App;

/// Seconds for which others may keep our keys; a new key is shown for longer before it signs.
pub(super) const KEPT_SECONDS: u64 = 300;

fn document(body: serde_json::Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((
            header::CACHE_CONTROL,
            format!("public, max-age={KEPT_SECONDS}"),
        ))
        .json(body)
}

/// `GET /.well-known/jwks.json`.
pub async fn jwks(app: web::Data<App>) -> HttpResponse {
    document(app.tokens.jwks())
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
pub async fn server(app: web::Data<App>) -> HttpResponse {
    let base = app.tokens.issuer();
    let methods = ["client_secret_basic", "client_secret_post"];
    let mut grants = vec!["client_credentials", "refresh_token"];
    grants.extend(app.provider.as_ref().map(|_| EXCHANGE));
    document(serde_json::json!({
        "issuer": base,
        "token_endpoint": format!("{base}/oauth/token"),
        "revocation_endpoint": format!("{base}/oauth/revoke"),
        "introspection_endpoint": format!("{base}/oauth/introspect"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "grant_types_supported": grants,
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "scopes_supported": super::scope::ALL,
    }))
}
