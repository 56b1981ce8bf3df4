//! The caller of a route, with the scope the route demands in its type.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};

use shared::access_token;

use super::session::{self, Sessions};
use super::{Scope, Scopes};
use crate::error::ApiError;
use crate::startup::App;

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
    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let caller = Self::recognised(request)?;
        caller.is_seen(request);
        Ok(caller)
    }

    /// Tells the answer's way back who was recognised.
    fn is_seen(&self, request: &HttpRequest) {
        request.extensions_mut().insert(Recognised {
            user: Arc::clone(&self.user_id),
            session: Arc::clone(&self.jti),
        });
    }

    fn recognised(request: &HttpRequest) -> Result<Self, ApiError> {
        let app = request
            .app_data::<web::Data<App>>()
            .ok_or_else(|| ApiError::Internal("no app data".into()))?;
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
                Ok(Self {
                    user_id: claims.sub.as_str().into(),
                    client_id: claims.client_id.as_str().into(),
                    jti: claims.jti.as_str().into(),
                    scopes: Scopes::parse(&claims.scope).map_err(|_| ApiError::Unauthorized)?,
                })
            }
            // A cookie never counts beside `Authorization`, valid or not.
            (None, _) => Self::of_session(request, app, &app.sessions),
        }
    }

    fn of_session(request: &HttpRequest, app: &App, sessions: &Sessions) -> Result<Self, ApiError> {
        let secure = app.settings.server.is_https();
        let caller = session::read(request, sessions, secure, app.clock.seconds())
            .ok_or(ApiError::Anonymous)?;
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        if !safe && !session::is_same_origin(request, &app.settings.server.origins()) {
            return Err(ApiError::CrossSite);
        }
        Ok(caller)
    }
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

impl<S: Scope> FromRequest for Authorized<S> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Caller::of(request).and_then(|caller| {
            if caller.scopes.has(S::NAME) {
                Ok(Self {
                    caller,
                    scope: PhantomData,
                })
            } else {
                Err(ApiError::Scope(S::NAME))
            }
        }))
    }
}
