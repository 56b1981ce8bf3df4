//! What the OAuth endpoints have in common: error answers, and requests whose client has shown its secret.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::Scopes;
use super::form::{self, Form};
use crate::edge_trust::ClientAddress;
use crate::error::ApiError;
use crate::secret::Secret;
use crate::startup::App;
use crate::state::clients::ClientRow;

/// An answer that is none: RFC 6749 section 5.2, or one of ours.
#[derive(Debug)]
pub(super) enum OAuthError {
    /// Status, code and what about it.
    Told(u16, &'static str, &'static str),
    /// A limit, or a failure of ours.
    Ours(ApiError),
}

impl<E: Into<ApiError>> From<E> for OAuthError {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl OAuthError {
    pub(super) fn invalid(text: &'static str) -> Self {
        Self::Told(400, "invalid_request", text)
    }

    fn client(text: &'static str) -> Self {
        Self::Told(401, "invalid_client", text)
    }

    /// # Errors
    /// What is ours goes to the service's own answers.
    pub(super) fn answer(self) -> Result<HttpResponse, ApiError> {
        let (status, error, description) = match self {
            Self::Told(status, error, description) => (status, error, description),
            Self::Ours(error) => return Err(error),
        };
        let status = actix_web::http::StatusCode::from_u16(status).unwrap_or_default();
        let mut answer = HttpResponse::build(status);
        never_kept(&mut answer);
        if status == 401 {
            answer.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"signet\""));
        }
        Ok(answer.json(serde_json::json!({ "error": error, "error_description": description })))
    }
}

/// The headers that RFC 6749 section 5.1 wants of every answer.
pub(super) fn never_kept(answer: &mut HttpResponseBuilder) {
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    answer.insert_header((header::PRAGMA, "no-cache"));
}

/// A form whose client has shown its secret.
#[derive(Debug)]
pub(super) struct ClientForm {
    form: Form,
    /// The client.
    pub(super) client: ClientRow,
    /// Every scope it may have.
    pub(super) granted: Scopes,
}

impl ClientForm {
    /// Reads the request, which needs this parameter, counts it and checks the client's secret (RFC 6749 section 2.3.1).
    ///
    /// # Errors
    /// `invalid_request`, `invalid_client`, a limit.
    pub(super) async fn read(
        request: &HttpRequest,
        body: &[u8],
        address: ClientAddress,
        app: &App,
        needed: &'static str,
    ) -> Result<Self, OAuthError> {
        let form = std::str::from_utf8(body).ok().and_then(form::parse);
        let in_header = basic(request);
        let named = match (&in_header, &form) {
            (Some(Some((id, _))), _) => Some(id.as_str()),
            (_, Some(form)) => form::value_of(form, "client_id"),
            _ => None,
        };
        let now = app.clock.nanos();
        app.limits.token_endpoint(address.0, named, now).await?;
        if !is_form(request) {
            return Err(OAuthError::invalid(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let form = form.ok_or(OAuthError::invalid(
            "the body is no form, or names a parameter twice",
        ))?;
        if form::value_of(&form, needed).is_none() {
            return Err(OAuthError::invalid(if needed == "token" {
                "token is missing"
            } else {
                "grant_type is missing"
            }));
        }
        let in_header =
            in_header.ok_or(OAuthError::client("the Authorization header is not Basic"))?;
        let (id, secret) = credentials(in_header, &form)?;
        let client = authenticate(app, &id, secret).await?;
        app.limits.token_granted(address.0, &client.id, now).await;
        let granted = Scopes::parse(&client.scopes)
            .map_err(|scope| ApiError::Internal(format!("client with scope {scope}")))?;
        Ok(Self {
            form,
            client,
            granted,
        })
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        form::value_of(&self.form, name)
    }

    /// The scopes that are asked for, by default `most`.
    ///
    /// # Errors
    /// `invalid_scope` for what is not in `most`.
    pub(super) fn scopes(&self, most: Scopes) -> Result<Scopes, OAuthError> {
        match self.field("scope").map(Scopes::parse) {
            None => Ok(most),
            Some(Ok(asked)) if !asked.is_empty() && most.contain(asked) => Ok(asked),
            Some(_) => Err(OAuthError::Told(
                400,
                "invalid_scope",
                "the client may not have this scope",
            )),
        }
    }
}

fn is_form(request: &HttpRequest) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| {
            value
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

/// Id and secret of `Authorization: Basic` (both form-encoded); `None` for another or a broken header.
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
    Some(Some((
        form::decode(id)?,
        Secret::new(form::decode(secret)?),
    )))
}

fn credentials(
    in_header: Option<(String, Secret)>,
    form: &Form,
) -> Result<(String, Secret), OAuthError> {
    let in_form = form::value_of(form, "client_id")
        .zip(form::value_of(form, "client_secret"))
        .map(|(id, secret)| (id.to_owned(), Secret::new(secret)));
    match (in_header, in_form) {
        (Some(_), Some(_)) => Err(OAuthError::invalid("authenticate in one way, not two")),
        // Two names for one caller: whom the request is for must not depend on who reads it.
        (Some((id, _)), None)
            if form::value_of(form, "client_id").is_some_and(|named| named != id) =>
        {
            Err(OAuthError::invalid(
                "client_id is not the client that authenticates",
            ))
        }
        (Some(both), None) | (None, Some(both)) => Ok(both),
        (None, None) => Err(OAuthError::client("client authentication is missing")),
    }
}

async fn authenticate(app: &App, id: &str, secret: Secret) -> Result<ClientRow, OAuthError> {
    known_client(app, id, secret)
        .await?
        .ok_or(OAuthError::client("unknown client or wrong secret"))
}

/// The client of this id and secret, unless it is disabled.
///
/// # Errors
/// Ours alone: `busy` while too many hashes of older states are being checked.
pub(crate) async fn known_client(
    app: &App,
    id: &str,
    secret: Secret,
) -> Result<Option<ClientRow>, ApiError> {
    let client = app.state.client(id).await?;
    let checks = &app.secret_checks;
    let matches = checks.is_of(&app.state, client.as_ref(), secret).await?;
    Ok(client.filter(|client| matches && !client.disabled))
}
