//! `POST /oauth/revoke` (RFC 7009) and `POST /oauth/introspect` (RFC 7662), both for clients with their secret.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::oauth::{ClientForm, OAuthError, never_kept};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::startup::App;
use crate::state::standing::{Acting, Standing};

/// `POST /oauth/revoke`: an access token counts no more, a refresh token's family is over. Unknown tokens are fine.
pub async fn revoke(
    request: HttpRequest,
    body: SignedBody,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    match revoked(&request, &body, address, &app).await {
        Ok(()) => {
            let mut answer = HttpResponse::Ok();
            never_kept(&mut answer);
            Ok(answer.finish())
        }
        Err(error) => error.answer(),
    }
}

async fn revoked(
    request: &HttpRequest,
    body: &[u8],
    address: ClientAddress,
    app: &App,
) -> Result<(), OAuthError> {
    let form = ClientForm::read(request, body, address, app, "token").await?;
    let token = form
        .field("token")
        .ok_or(OAuthError::invalid("token is missing"))?;
    if app
        .state
        .revoke_refresh_token(token, &form.client.id)
        .await?
    {
        return Ok(());
    }
    let now = app.clock.seconds();
    let Ok(claims) = app.tokens.verify(token, now) else {
        return Ok(());
    };
    if claims.client_id != form.client.id {
        return Err(OAuthError::Told(
            400,
            "unauthorized_client",
            "the token was issued to another client",
        ));
    }
    // Written down first: a crash in between forgets nothing that was answered.
    app.state.revoke_token(&claims.jti, claims.exp).await?;
    app.tokens.deny(&claims.jti, claims.exp, now);
    app.decided.notify_one();
    Ok(())
}

/// `POST /oauth/introspect`: what a token says, to the client it was issued to and to clients with `admin`.
pub async fn introspect(
    request: HttpRequest,
    body: SignedBody,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    match introspected(&request, &body, address, &app).await {
        Ok(told) => {
            let mut answer = HttpResponse::Ok();
            never_kept(&mut answer);
            Ok(answer.json(told.unwrap_or_else(|| json!({ "active": false }))))
        }
        Err(error) => error.answer(),
    }
}

async fn introspected(
    request: &HttpRequest,
    body: &[u8],
    address: ClientAddress,
    app: &App,
) -> Result<Option<Value>, OAuthError> {
    let form = ClientForm::read(request, body, address, app, "token").await?;
    let token = form
        .field("token")
        .ok_or(OAuthError::invalid("token is missing"))?;
    let may_see = |client: &str| client == form.client.id || form.granted.has("admin");
    let now = app.clock.seconds();
    let (user, client, told) = if let Ok(claims) = app.tokens.verify(token, now) {
        if !may_see(&claims.client_id) {
            return Ok(None);
        }
        let told = json!({
            "active": true, "token_type": "Bearer", "scope": claims.scope, "client_id": claims.client_id,
            "sub": claims.sub, "aud": claims.aud, "iss": claims.iss, "jti": claims.jti, "iat": claims.iat, "exp": claims.exp,
        });
        (claims.sub.clone(), claims.client_id.clone(), told)
    } else {
        match app.state.refresh_token(token, now).await? {
            Some(grant) if may_see(&grant.client_id) => {
                let told = json!({
                    "active": true, "token_type": "refresh_token", "scope": grant.scopes, "client_id": grant.client_id,
                    "sub": grant.user_id, "iss": app.tokens.issuer(), "exp": grant.expires,
                });
                (grant.user_id, grant.client_id, told)
            }
            _ => return Ok(None),
        }
    };
    let acting = Acting {
        user,
        client: Some(client),
        token: String::new(), // verified above
    };
    let standing = app.state.standing(acting).await?;
    Ok(Some(told).filter(|_| standing == Standing::Good))
}
