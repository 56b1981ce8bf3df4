//! The caller of a route, with the scope the route demands in its type.

use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use futures_util::future::LocalBoxFuture;

use shared::access_token;

use super::session;
use super::{Scope, Scopes};
use crate::error::ApiError;
use crate::startup::App;
use crate::state::standing::{Acting, Standing};

/// Whoever a verified token or session speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user whose pictures and quotas it is about.
    pub user_id: Arc<str>,
    /// The client, or `studio` for a session.
    pub client_id: Arc<str>,
    /// The token's id, or the session's: what the limit `token` counts by.
    pub jti: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
}

/// Who was recognised, remembered with the request.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// The user.
    pub user: Arc<str>,
    /// The token's id, or the session's.
    pub session: Arc<str>,
}

impl Caller {
    /// Tells the answer's way back who was recognised.
    fn is_seen(&self, request: &HttpRequest) {
        request.extensions_mut().insert(Recognised {
            user: Arc::clone(&self.user_id),
            session: Arc::clone(&self.jti),
        });
    }

    /// The caller that a token names; none for a request without one, which may have a session.
    fn of_token(request: &HttpRequest) -> Result<Option<Self>, ApiError> {
        let app = app(request)?;
        let mut values = request.headers().get_all(header::AUTHORIZATION);
        match (values.next(), values.next()) {
            (Some(value), other) => {
                let now = app.clock.seconds();
                let claims = value
                    .to_str()
                    .ok()
                    // Of two nobody knows which one others looked at.
                    .filter(|_| other.is_none())
                    .and_then(access_token::bearer)
                    .and_then(|token| app.tokens.verify(token, now).ok())
                    .ok_or(ApiError::Unauthorized)?;
                Ok(Some(Self {
                    user_id: claims.sub.as_str().into(),
                    client_id: claims.client_id.as_str().into(),
                    jti: claims.jti.as_str().into(),
                    scopes: Scopes::parse(&claims.scope).map_err(|_| ApiError::Unauthorized)?,
                }))
            }
            // A cookie never counts beside `Authorization`, valid or not.
            (None, _) => Ok(None),
        }
    }

    /// A caller whose user and client may act; `client` is none for a session. Tokens are signed for up to an hour, so
    /// that what was decided since is asked at every call.
    async fn in_good_standing(
        self,
        client: Option<&str>,
        request: &HttpRequest,
    ) -> Result<Self, ApiError> {
        self.is_seen(request);
        let acting = Acting {
            user: self.user_id.to_string(),
            client: client.map(str::to_owned),
            token: self.jti.to_string(),
        };
        match app(request)?.state.standing(acting).await? {
            Standing::Good => Ok(self),
            Standing::Suspended => Err(ApiError::Suspended),
            Standing::Disabled => Err(ApiError::Unauthorized),
        }
    }

    async fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        match Self::of_token(request)? {
            Some(caller) => {
                let client = Arc::clone(&caller.client_id);
                caller.in_good_standing(Some(&client), request).await
            }
            None => {
                let caller = Self::of_session(request).await?;
                caller.in_good_standing(None, request).await
            }
        }
    }

    async fn of_session(request: &HttpRequest) -> Result<Self, ApiError> {
        let app = app(request)?;
        let token = session::token_of(request, app.settings.server.is_https());
        let token = token.ok_or(ApiError::Anonymous)?;
        let caller = app.sessions.get(&token, app.clock.seconds()).await?;
        let caller = caller.ok_or(ApiError::Anonymous)?;
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        if !safe && !session::is_same_origin(request, &app.settings.server.origins()) {
            return Err(ApiError::CrossSite);
        }
        Ok(caller)
    }
}

fn app(request: &HttpRequest) -> Result<&web::Data<App>, ApiError> {
    request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| ApiError::Internal("no app data".into()))
}

/// A caller with the scope `S`. A handler that takes none of these gets no caller at all.
#[derive(Clone, Debug)]
pub struct Authorized<S: Scope> {
    caller: Caller,
    scope: PhantomData<S>,
}

impl<S: Scope> std::ops::Deref for Authorized<S> {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<S: Scope> Authorized<S> {
    fn of(caller: Caller) -> Result<Self, ApiError> {
        if caller.scopes.has(S::NAME) {
            Ok(Self {
                caller,
                scope: PhantomData,
            })
        } else {
            Err(ApiError::Scope(S::NAME))
        }
    }
}

impl<S: Scope> FromRequest for Authorized<S> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let caller = Self::of(Caller::of(&request).await?)?;
            crate::routes::known_query(&request)?;
            Ok(caller)
        })
    }
}
