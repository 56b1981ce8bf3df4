//! `POST /oauth/token`: client credentials (RFC 6749 section 4.4), refresh tokens, and the exchange of a trusted
//! provider's token for one of ours (RFC 8693).

use actix_web::{HttpRequest, HttpResponse, web};

use super::Scopes;
use super::oauth::{ClientForm, OAuthError, never_kept};
use crate::edge_trust::{ClientAddress, SignedBody};
use crate::error::ApiError;
use crate::startup::App;
use crate::state::refresh::{RefreshGrant, Rotation};

/// Bodies of the OAuth endpoints are tiny; a provider's token is the longest of them.
pub const MAX_BODY: usize = 16 * 1024;

/// The grant of RFC 8693.
pub(super) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What can be exchanged.
const SUBJECT_TYPES: [&str; 2] = [
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:jwt",
];
/// What is given for it.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// `POST /oauth/token`.
pub async fn token(
    request: HttpRequest,
    body: SignedBody,
    address: ClientAddress,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    match grant(&request, &body, address, &app).await {
        Ok(granted) => {
            let mut answer = HttpResponse::Ok();
            never_kept(&mut answer);
            Ok(answer.json(granted))
        }
        Err(error) => error.answer(),
    }
}

async fn grant(
    request: &HttpRequest,
    body: &[u8],
    address: ClientAddress,
    app: &App,
) -> Result<serde_json::Value, OAuthError> {
    let form = ClientForm::read(request, body, address, app, "grant_type").await?;
    match form.field("grant_type") {
        Some("client_credentials") => {
            let scopes = form.scopes(form.granted)?;
            issue(app, &form.client.user_id, &form.client.id, scopes).await
        }
        Some("refresh_token") => refresh(app, &form).await,
        Some(EXCHANGE) => exchange(app, &form).await,
        _ => Err(OAuthError::Told(
            400,
            "unsupported_grant_type",
            "client_credentials, refresh_token and token-exchange are supported",
        )),
    }
}

/// The answer with a fresh access token.
async fn issue(
    app: &App,
    user: &str,
    client: &str,
    scopes: Scopes,
) -> Result<serde_json::Value, OAuthError> {
    if app.state.user(user).await?.suspended {
        return Err(OAuthError::Told(
            400,
            "unauthorized_client",
            "this account is suspended",
        ));
    }
    let token = app
        .tokens
        .issue(user, client, scopes, app.clock.seconds())
        .ok_or_else(|| ApiError::Internal("no signing key".into()))?;
    Ok(serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": app.tokens.life(), "scope": scopes.to_string(),
    }))
}

async fn refresh(app: &App, form: &ClientForm) -> Result<serde_json::Value, OAuthError> {
    let token = form
        .field("refresh_token")
        .ok_or(OAuthError::invalid("refresh_token is missing"))?;
    let invalid = OAuthError::Told(400, "invalid_grant", "the refresh token does not count");
    let now = app.clock.seconds();
    let rotation = app.state.rotate_refresh_token(token, &form.client.id, now);
    let (grant, next) = match rotation.await? {
        Rotation::Successor(grant, next) => (grant, next),
        Rotation::Unknown => return Err(invalid),
        Rotation::Reused => {
            tracing::warn!(
                client = form.client.id,
                "a refresh token was used again: its family is revoked"
            );
            return Err(invalid);
        }
    };
    let most = Scopes::parse(&grant.scopes)
        .map_err(|scope| ApiError::Internal(format!("grant with scope {scope}")))?;
    let scopes = form.scopes(most.both(form.granted))?;
    let mut answer = issue(app, &grant.user_id, &form.client.id, scopes).await?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("refresh_token".into(), next.as_str().into());
    }
    Ok(answer)
}

async fn exchange(app: &App, form: &ClientForm) -> Result<serde_json::Value, OAuthError> {
    let Some(provider) = &app.provider else {
        return Err(OAuthError::Told(
            400,
            "unsupported_grant_type",
            "no provider is trusted here",
        ));
    };
    let (Some(token), Some(kind)) = (
        form.field("subject_token"),
        form.field("subject_token_type"),
    ) else {
        return Err(OAuthError::invalid(
            "subject_token and subject_token_type are needed",
        ));
    };
    let wanted = form.field("requested_token_type");
    if !SUBJECT_TYPES.contains(&kind) || wanted.is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(OAuthError::invalid("this token type is not exchanged"));
    }
    if form.field("actor_token").is_some() {
        return Err(OAuthError::invalid("delegation is not supported"));
    }
    let now = app.clock.seconds();
    let subject = provider
        .verify_exchanged(token, now)
        .await
        .map_err(|error| {
            tracing::info!(%error, "a provider's token was refused");
            if error.is_away() {
                OAuthError::Told(
                    503,
                    "temporarily_unavailable",
                    "the provider does not answer",
                )
            } else {
                OAuthError::invalid("the subject token does not count")
            }
        })?;
    let user = app
        .state
        .user_of_subject(&subject.issuer, &subject.subject, now)
        .await?;
    let scopes = form.scopes(form.granted.both(Scopes::USER))?;
    let mut answer = issue(app, &user, &form.client.id, scopes).await?;
    let refresh = format!("rt_{}", super::clients::random_token());
    let grant = RefreshGrant {
        user_id: user,
        client_id: form.client.id.clone(),
        scopes: scopes.to_string(),
        expires: now + app.settings.auth.refresh_days * 86_400,
    };
    app.state.add_refresh_token(grant, &refresh, now).await?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("issued_token_type".into(), ACCESS_TOKEN.into());
        answer.insert("refresh_token".into(), refresh.into());
    }
    Ok(answer)
}
