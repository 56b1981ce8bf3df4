//! Access tokens: JWTs of RFC 9068, signed with Ed25519 (RFC 8037), valid for 15 to 60 minutes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::access_token::{MAX_LIFE, SKEW};

use super::Scopes;
use super::keys::Ring;
use crate::startup::App;
use crate::state::{State, StateError};

pub use super::keys::{new_key, rotate};
pub use shared::access_token::MAX_TOKEN;

/// Verified tokens remembered, so that a token's signature is computed once and not at every request.
const CACHED: u64 = 10_000;

/// Why a token opens nothing. Clients are told only that it is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, too long, or not JSON of our form.
    #[error("malformed")]
    Malformed,
    /// Another algorithm, type or key than ours.
    #[error("foreign header")]
    Header,
    /// The signature is not ours.
    #[error("bad signature")]
    Signature,
    /// Another issuer or audience.
    #[error("not for this service")]
    Audience,
    /// Revoked before its time.
    #[error("revoked")]
    Revoked,
    /// Past its time, or from the future.
    #[error("expired")]
    Time,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The claims of RFC 9068 section 2.2. serde refuses a claim that stands twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// The user.
    pub sub: String,
    /// The client that asked for it.
    pub client_id: String,
    /// The token's own id, by which the limit `token` counts.
    pub jti: String,
    /// Space-separated scopes.
    pub scope: String,
    /// Issued, Unix seconds.
    pub iat: u64,
    /// Valid while now is before it.
    pub exp: u64,
}

/// Signs and verifies. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<RwLock<Ring>>,
    denied: Arc<RwLock<HashMap<String, u64>>>,
    issuer: Arc<str>,
    audience: Arc<str>,
    life: u64,
    verified: Cache<[u8; 32], Arc<Claims>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} keys: REDACTED)", self.ring().len())
    }
}

impl Tokens {
    /// Takes the keys from the state; makes the first one.
    ///
    /// # Errors
    /// The state's own, and a stored key that cannot be read.
    pub async fn open(
        state: &State,
        issuer: &str,
        audience: &str,
        life_seconds: u64,
        now: u64,
    ) -> Result<Self, StateError> {
        let mut rows = state.signing_keys().await?;
        if rows.is_empty() {
            rows = state.first_signing_key(new_key(now)?).await?;
        }
        let denied = state.revoked_tokens(now).await?.into_iter().collect();
        Ok(Self {
            keys: Arc::new(RwLock::new(Ring::read(&rows, now)?)),
            denied: Arc::new(RwLock::new(denied)),
            issuer: issuer.into(),
            audience: audience.into(),
            life: life_seconds,
            verified: Cache::builder().max_capacity(CACHED).build(),
        })
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        // A panic while locked leaves a whole ring: it is put in place at once.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes keys and revoked tokens from the state anew, so that what another origin or a command did needs no restart;
    /// tokens of keys that are gone count no more.
    ///
    /// # Errors
    /// The state's own; the keys stay as they are then.
    pub async fn reload(&self, state: &State, now: u64) -> Result<(), StateError> {
        let ring = Ring::read(&state.signing_keys().await?, now)?;
        if ring.kids() != self.ring().kids() {
            self.verified.invalidate_all();
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = ring;
        let revoked = state.revoked_tokens(now).await?;
        // Added: what is denied here meanwhile need not stand in what was read.
        let mut denied = self.denied.write().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, expires| *expires > now);
        denied.extend(revoked);
        Ok(())
    }

    /// A token of this id counts no more, until it expires by itself at `expires`.
    pub fn deny(&self, jti: &str, expires: u64, now: u64) {
        let mut denied = self.denied.write().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, expires| *expires > now);
        denied.insert(jti.to_owned(), expires);
    }

    fn is_denied(&self, jti: &str) -> bool {
        let denied = self.denied.read().unwrap_or_else(PoisonError::into_inner);
        !denied.is_empty() && denied.contains_key(jti)
    }

    /// Seconds for which tokens are valid.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the key that signs at `now` began to, Unix seconds.
    pub fn signing_since(&self, now: u64) -> Option<u64> {
        self.ring().signing_since(now)
    }

    /// A new token; `None` only when there is no key, which [`Tokens::open`] prevents.
    pub fn issue(&self, user: &str, client: &str, scopes: Scopes, now: u64) -> Option<String> {
        let ring = self.ring();
        let key = ring.signing(now)?;
        let header = Header {
            alg: "EdDSA".into(),
            typ: "at+jwt".into(),
            kid: key.kid().to_owned(),
        };
        let claims = Claims {
            iss: self.issuer.as_ref().into(),
            aud: self.audience.as_ref().into(),
            sub: user.into(),
            client_id: client.into(),
            jti: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            scope: scopes.to_string(),
            iat: now,
            exp: now + self.life,
        };
        let part = |json: serde_json::Result<Vec<u8>>| {
            json.ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
        };
        let signed = format!(
            "{}.{}",
            part(serde_json::to_vec(&header))?,
            part(serde_json::to_vec(&claims))?
        );
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        Some(format!("{signed}.{signature}"))
    }

    /// Verifies a token at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let name: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let claims = match self.verified.get(&name) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.verify_signed(token)?);
                self.verified.insert(name, Arc::clone(&claims));
                claims
            }
        };
        if claims.iat > now + SKEW
            || now >= claims.exp
            || claims.exp - claims.iat.min(claims.exp) > MAX_LIFE
        {
            return Err(TokenError::Time);
        }
        if self.is_denied(&claims.jti) {
            return Err(TokenError::Revoked);
        }
        Ok(claims)
    }

    /// Everything but the time.
    fn verify_signed(&self, token: &str) -> Result<Claims, TokenError> {
        use TokenError::{Audience, Header as Foreign, Malformed, Signature as Bad};
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Foreign)?;
        if header.alg != "EdDSA" || header.typ != "at+jwt" {
            return Err(Foreign);
        }
        let signature = decode(signature)?;
        let ring = self.ring();
        let key = ring.find(&header.kid).ok_or(Foreign)?;
        if signature.len() != 64 {
            return Err(Malformed);
        }
        if !key.verifies(signed.as_bytes(), &signature) {
            return Err(Bad);
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Malformed)?;
        if claims.iss != *self.issuer || claims.aud != *self.audience {
            return Err(Audience);
        }
        Ok(claims)
    }

    /// The public keys (RFC 7517, RFC 8037), and beside them what our edge has to know of its tokens.
    pub fn jwks(&self) -> serde_json::Value {
        let mut set = self.ring().jwks();
        if let Some(members) = set.as_object_mut() {
            for (name, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
                members.insert(name.into(), value.as_ref().into());
            }
        }
        set
    }
}

/// How often a running service looks for rotated keys and for tokens that were revoked elsewhere.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// Takes up rotated keys and revoked tokens for as long as the runtime lives.
pub(crate) fn follow(app: &App) {
    let (tokens, state, clock) = (app.tokens.clone(), app.state.clone(), app.clock.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            if let Err(error) = tokens.reload(&state, clock.seconds()).await {
                tracing::warn!(%error, "the signing keys could not be read again");
            }
        }
    });
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "token_vectors.rs"]
mod vectors;
