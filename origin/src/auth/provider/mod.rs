//! The OpenID provider that says who people are: trusted for sign-in and for the exchange of its tokens.

mod documents;
mod http;
mod jwt;
mod settings;

use std::sync::Arc;

pub use settings::ProviderSettings;

pub(super) use documents::Endpoints;
pub(crate) use documents::encode;
use documents::{Documents, Exchanged};
use http::Http;
use jwt::Claims;

use crate::secret::Secret;

/// Seconds by which the provider's clock may differ from ours.
const SKEW: u64 = 60;
/// Longer tokens are not looked at.
const MAX_TOKEN: usize = 12 * 1024;

/// Why the provider's word does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or not as a provider does.
    #[error("the provider does not answer: {0}")]
    Away(String),
    /// It answers, and calls itself otherwise than the configuration does (OpenID Connect Discovery 1.0, section 4.3).
    #[error(
        "auth.provider.issuer is \"{ours}\", the provider calls itself \"{theirs}\": they must be equal, to the last slash"
    )]
    Issuer {
        /// As configured.
        ours: String,
        /// As its document says, cut to a bound.
        theirs: String,
    },
    /// The token is not its own, not for us, not of this time, or not one.
    #[error("the provider's token is refused: {0}")]
    Token(&'static str),
}

impl ProviderError {
    /// Whether trying again later may help.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Issuer { .. })
    }
}

/// Somebody, as their provider names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The provider.
    pub issuer: String,
    /// Their name there.
    pub subject: String,
}

/// A provider. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ProviderSettings,
    secret: Option<Secret>,
    documents: Documents,
}

impl Provider {
    /// The configured provider; none without an issuer.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn open(settings: &ProviderSettings) -> Result<Option<Self>, String> {
        if settings.issuer.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            inner: Arc::new(Inner {
                secret: settings.secret()?,
                documents: Documents::new(&settings.issuer, Http::new(settings)?),
                settings: settings.clone(),
            }),
        }))
    }

    /// Its settings.
    pub(super) fn settings(&self) -> &ProviderSettings {
        &self.inner.settings
    }

    /// Where it is asked.
    ///
    /// # Errors
    /// [`ProviderError::Away`].
    pub(super) async fn endpoints(&self, now: u64) -> Result<Endpoints, ProviderError> {
        self.inner.documents.endpoints(now).await
    }

    /// Asks for the documents once, so that an issuer which is spelt otherwise than the provider spells it is told at
    /// the start and not at the first sign-in. A provider that is away says nothing about that.
    ///
    /// # Errors
    /// A sentence that names the setting and the provider's own spelling.
    pub async fn check(&self, now: u64) -> Result<(), String> {
        match self.endpoints(now).await {
            Err(error @ ProviderError::Issuer { .. }) => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Whom a token that a client sent for exchange speaks of, at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn verify_exchanged(&self, token: &str, now: u64) -> Result<Subject, ProviderError> {
        let claims = self.verify(token, now).await?;
        let accepted = self.inner.settings.accepted_audiences();
        if !claims.audiences().iter().any(|one| accepted.contains(one)) {
            return Err(ProviderError::Token("another audience"));
        }
        Ok(claims.subject())
    }

    /// Exchanges a code of the sign-in for the person's name; `nonce` is the one the browser was sent away with.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub(super) async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
        now: u64,
    ) -> Result<Subject, ProviderError> {
        let settings = &self.inner.settings;
        let asked = Exchanged {
            code,
            verifier,
            redirect_uri,
            client_id: &settings.client_id,
            secret: self.inner.secret.as_ref(),
        };
        let token = self.inner.documents.exchange(asked, now).await?;
        let claims = self.verify(&token, now).await?;
        let audiences = claims.audiences();
        if !audiences.contains(&settings.client_id.as_str())
            || (audiences.len() > 1 && claims.azp.as_deref() != Some(&settings.client_id))
        {
            return Err(ProviderError::Token("another audience"));
        }
        let is_same = claims.nonce.as_deref().is_some_and(|found| {
            use subtle::ConstantTimeEq;
            found.as_bytes().ct_eq(nonce.as_bytes()).into()
        });
        if !is_same {
            return Err(ProviderError::Token("another nonce"));
        }
        Ok(claims.subject())
    }

    /// Everything but the audience.
    async fn verify(&self, token: &str, now: u64) -> Result<Claims, ProviderError> {
        if token.len() > MAX_TOKEN {
            return Err(ProviderError::Token("too long"));
        }
        let unverified = jwt::Unverified::parse(token)?;
        let keys = self.inner.documents.keys(&unverified, now).await?;
        let claims = unverified.verify(&keys)?;
        if claims.iss != self.inner.settings.issuer {
            return Err(ProviderError::Token("another issuer"));
        }
        if claims.exp.saturating_add(SKEW) <= now
            || claims.iat > now.saturating_add(SKEW)
            || claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(SKEW))
        {
            return Err(ProviderError::Token("not of this time"));
        }
        if claims.sub.is_empty() || claims.sub.len() > 255 || claims.sub.contains(char::is_control)
        {
            return Err(ProviderError::Token("no subject"));
        }
        Ok(claims)
    }
}
