//! Who is asking: OAuth clients, short-lived tokens, browser sessions, and scopes that routes demand by type.
//!
//! `POST /oauth/token` ([`token_endpoint`]) checks a client's secret and has [`tokens`] sign an access token; the
//! [`provider`] says who people are. A route names its scope in its handler's arguments as [`caller::Authorized`]; without one it gets no caller.

pub mod caller;
pub mod clients;
mod form;
pub mod guard;
mod keys;
pub mod metadata;
mod oauth;
pub mod provider;
pub mod revocation;
pub mod scope;
pub mod session;
pub mod settings;
pub mod signin;
pub mod token_endpoint;
pub mod tokens;

pub use caller::{Authorized, Caller, Recognised};
pub(crate) use oauth::known_client;
pub use scope::{Scope, Scopes};
pub use settings::{AuthSettings, TOKEN_MINUTES};
