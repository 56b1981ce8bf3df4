//! What the provider publishes: its endpoints and its keys, kept for a while, asked for anew when a key is unknown, and
//! with growing pauses while it does not answer.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::ProviderError;
use super::http::Http;
use super::jwt::{Jwk, Unverified};
use crate::secret::Secret;

/// Documents are asked for anew after an hour.
const KEPT_SECONDS: u64 = 3_600;
/// An unknown key asks for the keys anew, at most this often.
const UNKNOWN_SECONDS: u64 = 30;
/// Keys under one id that are tried for one token.
const MOST_KEYS: usize = 4;
/// Characters of another issuer's name that are told.
const TOLD: usize = 200;
/// The longest pause while the provider does not answer.
const LONGEST_PAUSE: u64 = 300;

/// Where the provider is asked.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::auth) struct Endpoints {
    issuer: String,
    /// Where browsers are sent.
    pub(in crate::auth) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// Whether its answers name it (RFC 9207).
    #[serde(default)]
    pub(in crate::auth) authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

#[derive(Debug, Default)]
struct Kept {
    endpoints: Option<Endpoints>,
    keys: Vec<Arc<Jwk>>,
    /// When all was asked for last, whether it was answered or not.
    asked: u64,
    answered: u64,
    failures: u32,
}

/// A code to be exchanged.
pub(in crate::auth) struct Exchanged<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) client_id: &'a str,
    pub(super) secret: Option<&'a Secret>,
}

#[derive(Debug)]
pub(super) struct Documents {
    issuer: String,
    http: Http,
    /// Locked while asking: one request at a time asks, the others wait for its answer.
    kept: Mutex<Kept>,
}

impl Documents {
    pub(super) fn new(issuer: &str, http: Http) -> Self {
        Self {
            issuer: issuer.to_owned(),
            http,
            kept: Mutex::default(),
        }
    }

    pub(super) async fn endpoints(&self, now: u64) -> Result<Endpoints, ProviderError> {
        let mut kept = self.kept.lock().await;
        self.renew(&mut kept, now, KEPT_SECONDS).await?;
        kept.endpoints
            .clone()
            .ok_or_else(|| ProviderError::Away("no documents".into()))
    }

    /// The keys that can have signed this token: of its id and for its algorithm; without an id the only one for that.
    pub(super) async fn keys(
        &self,
        token: &Unverified<'_>,
        now: u64,
    ) -> Result<Vec<Arc<Jwk>>, ProviderError> {
        let mut kept = self.kept.lock().await;
        self.renew(&mut kept, now, KEPT_SECONDS).await?;
        let found = fitting(&kept.keys, token);
        if !found.is_empty() {
            return Ok(found);
        }
        // Rotated since: ask again, but not at every token that strangers make up.
        self.renew(&mut kept, now, UNKNOWN_SECONDS).await?;
        let found = fitting(&kept.keys, token);
        match found.is_empty() {
            true => Err(ProviderError::Token("an unknown key")),
            false => Ok(found),
        }
    }

    /// Asks for everything that is older than so many seconds. While the provider is away, what is known still counts.
    async fn renew(&self, kept: &mut Kept, now: u64, seconds: u64) -> Result<(), ProviderError> {
        let is_fresh = kept.endpoints.is_some() && now.saturating_sub(kept.answered) < seconds;
        if is_fresh {
            return Ok(());
        }
        let pause = (1u64 << kept.failures.min(9)).min(LONGEST_PAUSE);
        if kept.failures > 0 && now.saturating_sub(kept.asked) < pause {
            return match kept.endpoints {
                Some(_) => Ok(()),
                None => Err(ProviderError::Away("it did not answer a moment ago".into())),
            };
        }
        kept.asked = now;
        match self.ask().await {
            Ok((endpoints, keys)) => {
                kept.endpoints = Some(endpoints);
                kept.keys = keys;
                kept.answered = now;
                kept.failures = 0;
                Ok(())
            }
            Err(error) => {
                kept.failures = kept.failures.saturating_add(1);
                tracing::warn!(%error, issuer = self.issuer, "the provider's documents could not be read");
                if kept.endpoints.is_some() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn ask(&self) -> Result<(Endpoints, Vec<Arc<Jwk>>), ProviderError> {
        let away = |error: serde_json::Error| ProviderError::Away(error.to_string());
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let found = self.http.get(&url).await.map_err(unreachable)?;
        let endpoints: Endpoints = serde_json::from_slice(&found).map_err(away)?;
        if endpoints.issuer != self.issuer {
            return Err(ProviderError::Issuer {
                ours: self.issuer.clone(),
                theirs: endpoints.issuer.chars().take(TOLD).collect(),
            });
        }
        let found = self
            .http
            .get(&endpoints.jwks_uri)
            .await
            .map_err(unreachable)?;
        let jwks: Jwks = serde_json::from_slice(&found).map_err(away)?;
        // Keys of kinds that we do not know, or for other uses, are left out.
        let keys = jwks
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter(Jwk::is_for_signatures)
            .map(Arc::new)
            .collect();
        Ok((endpoints, keys))
    }

    /// The id token for a code.
    pub(super) async fn exchange(
        &self,
        asked: Exchanged<'_>,
        now: u64,
    ) -> Result<String, ProviderError> {
        let endpoints = self.endpoints(now).await?;
        let mut form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            encode(asked.code),
            encode(asked.redirect_uri),
            encode(asked.verifier)
        );
        let authorization = asked.secret.map(|secret| {
            let pair = format!("{}:{}", encode(asked.client_id), encode(secret.expose()));
            format!("Basic {}", STANDARD.encode(pair))
        });
        if authorization.is_none() {
            form.push_str(&format!("&client_id={}", encode(asked.client_id)));
        }
        let answer = self
            .http
            .post(&endpoints.token_endpoint, form, authorization)
            .await?;
        let answer: TokenAnswer = serde_json::from_slice(&answer)
            .map_err(|_| ProviderError::Token("the provider's answer has no id token"))?;
        Ok(answer.id_token)
    }
}

/// A document that is not there says nothing about a token.
fn unreachable(error: ProviderError) -> ProviderError {
    ProviderError::Away(error.to_string())
}

/// Providers publish keys of several kinds under one id: those that fit the token's algorithm, a few at the most.
fn fitting(keys: &[Arc<Jwk>], token: &Unverified<'_>) -> Vec<Arc<Jwk>> {
    let (kid, algorithm) = (token.kid(), token.algorithm());
    let fits =
        |key: &&Arc<Jwk>| kid.is_none_or(|kid| key.kid() == Some(kid)) && key.is_for(algorithm);
    let found: Vec<_> = keys.iter().filter(fits).take(MOST_KEYS).cloned().collect();
    // A token that names none of several keys is nobody's.
    match kid.is_none() && found.len() > 1 {
        true => Vec::new(),
        false => found,
    }
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
