//! Whether a request came through our edge, and which client is behind it.
//!
//! Told to trust only its edge, the origin answers nobody else, and believes the client's address from the header that
//! the edge signed. Standing alone it takes the peer's address, or one configured header of the proxy in front.

mod body;
pub mod counts;
mod nonces;

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use serde::{Deserialize, Serialize};
use shared::decided::Decided;
use shared::edge_auth::{self, HEADERS, Message};
use shared::{client_ip, problem};

use crate::error::ApiError;
use crate::secret::Secret;
use crate::startup::App;

pub use body::{SignedBody, is_signed};
pub use nonces::{Nonce, Nonces};

/// The section `edge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeSettings {
    /// Whether only the edge may speak to the public listener. The edge is then told what is revoked.
    pub require: bool,
    /// The edge's address as the API's clients write it, to which revocations go. Empty: `server.url`.
    pub url: String,
    /// The keyring `kid:key,…` by which edge requests are signed: from the environment only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Secret>,
    /// A file that holds the keyring, instead of `keys`.
    pub keys_file: Option<std::path::PathBuf>,
    /// Without an edge: the header in which the proxy in front writes the client's address, overwriting what came.
    /// Empty: the connection's own address counts.
    pub client_address_header: String,
}

/// The client's address, as far as anybody trustworthy told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequest for ClientAddress {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().copied();
        ready(found.ok_or_else(|| ApiError::Internal("no client address".into())))
    }
}

/// The limits that the edge, trusted, has decided for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecidedAtEdge(pub Decided);

impl FromRequest for DecidedAtEdge {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(request
            .extensions()
            .get::<Self>()
            .copied()
            .unwrap_or_default()))
    }
}

/// Decides who the client is and remembers it with the request.
///
/// # Errors
/// `edge_only` for whoever did not come through the edge when it is required, `address_revoked` for a blocked address.
pub async fn admit(request: &ServiceRequest) -> Result<(), ApiError> {
    let app = request
        .app_data::<web::Data<App>>()
        .ok_or_else(|| ApiError::Internal("no app data".into()))?;
    let (address, decided) = match &app.edge_keys {
        Some(keys) => verify(request, &keys.get(), app).await?,
        None => {
            let address = stand_alone(request, &app.settings.edge.client_address_header)?;
            (address, Decided::default())
        }
    };
    if app.blocked.holds(app, address).await? {
        return Err(ApiError::Problem(problem::ADDRESS_REVOKED));
    }
    let mut known = request.extensions_mut();
    known.insert(ClientAddress(address.to_canonical()));
    known.insert(DecidedAtEdge(decided));
    Ok(())
}

/// Headers of a client's that an edge signs, but for `authorization`, which it judges first.
const SIGNED: [&str; 3] = ["cookie", "content-type", "idempotency-key"];

/// What an edge could not sign is refused where there is none, too: a client hears the same from both.
fn signable(request: &ServiceRequest) -> Result<(), ApiError> {
    let mut values = SIGNED
        .iter()
        .flat_map(|name| request.headers().get_all(*name));
    let is_clean = |byte: &u8| (0x20..0x7f).contains(byte);
    if values.all(|value| value.as_bytes().iter().all(is_clean)) {
        Ok(())
    } else {
        Err(ApiError::Problem(problem::MALFORMED_HEADER))
    }
}

fn stand_alone(request: &ServiceRequest, header: &str) -> Result<IpAddr, ApiError> {
    signable(request)?;
    address_of(request.request(), header).ok_or_else(|| {
        ApiError::Invalid("the proxy in front does not tell the client's address".into())
    })
}

/// The client's address where no edge signs it: the connection's own, or the one value of the header that the proxy in
/// front overwrites; none when that proxy did not tell it.
pub fn address_of(request: &HttpRequest, header: &str) -> Option<IpAddr> {
    if header.is_empty() {
        return request.peer_addr().map(|peer| peer.ip().to_canonical());
    }
    let mut values = request.headers().get_all(header);
    match (values.next(), values.next()) {
        (Some(value), None) => client_ip::parse(value.to_str().ok()?),
        _ => None,
    }
}

/// The one value of a header; `Err` when it stands twice or is no text.
fn single<'a>(request: &'a ServiceRequest, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = request.headers().get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

async fn verify(
    request: &ServiceRequest,
    keys: &shared::keyring::Keyring,
    app: &App,
) -> Result<(IpAddr, Decided), ApiError> {
    let refused = || ApiError::Problem(problem::EDGE_ONLY);
    let mut headers = [None; HEADERS.len()];
    for (slot, name) in headers.iter_mut().zip(HEADERS) {
        *slot = single(request, name).map_err(|()| refused())?;
    }
    let authority = single(request, "host")
        .map_err(|()| refused())?
        .unwrap_or("")
        .to_ascii_lowercase();
    let target = request.uri();
    let message = Message {
        method: request.method().as_str(),
        authority: &authority,
        path: target.path(),
        query: target.query(),
        headers,
    };
    let input = single(request, "signature-input")
        .ok()
        .flatten()
        .ok_or_else(refused)?;
    let signature = single(request, "signature")
        .ok()
        .flatten()
        .ok_or_else(refused)?;
    let now = app.clock.seconds();
    let accepted = edge_auth::verify(keys, &message, input, signature, now).map_err(|error| {
        tracing::warn!(%error, "a request did not come through the edge");
        refused()
    })?;
    match app.nonces.remember(&accepted, now).await {
        Nonce::First => {}
        Nonce::Replayed => {
            tracing::warn!("an edge request was replayed");
            return Err(refused());
        }
        Nonce::NoRoom => {
            tracing::error!("more edge requests than nonces can be remembered: answered with 503");
            return Err(ApiError::Problem(problem::TOO_MANY_NONCES));
        }
    }
    let [.., client, _, _, decided] = headers;
    let client = client.and_then(client_ip::parse).ok_or_else(refused)?;
    Ok((client, decided.map(Decided::parse).unwrap_or_default()))
}
