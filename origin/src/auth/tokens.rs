//! Access tokens: JWTs of RFC 9068, signed with Ed25519 (RFC 8037), valid for 15 to 60 minutes.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Scopes;
use crate::state::{State, StateError, keys::SigningKeyRow};

/// Longer tokens are not looked at.
pub const MAX_TOKEN: usize = 2048;
/// Seconds by which `iat` may lie ahead of our clock.
const SKEW: u64 = 30;
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

struct Key {
    kid: String,
    signing: SigningKey,
    verifying: VerifyingKey,
}

/// Signs and verifies. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<Vec<Key>>,
    issuer: Arc<str>,
    audience: Arc<str>,
    life: u64,
    verified: Cache<[u8; 32], Arc<Claims>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} keys: REDACTED)", self.keys.len())
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
            let row = new_key(now)?;
            state.add_signing_key(row.clone()).await?;
            rows.push(row);
        }
        let read = |row: &SigningKeyRow| {
            let signing = SigningKey::from_pkcs8_der(&row.pkcs8)
                .map_err(|_| StateError::Damaged(format!("signing key {}", row.kid)))?;
            Ok(Key {
                kid: row.kid.clone(),
                verifying: signing.verifying_key(),
                signing,
            })
        };
        let keys: Vec<Key> = rows.iter().map(read).collect::<Result<_, StateError>>()?;
        Ok(Self {
            keys: Arc::new(keys),
            issuer: issuer.into(),
            audience: audience.into(),
            life: life_seconds,
            verified: Cache::builder().max_capacity(CACHED).build(),
        })
    }

    /// Seconds for which tokens are valid.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A new token; `None` only when there is no key, which [`Tokens::open`] prevents.
    pub fn issue(&self, user: &str, client: &str, scopes: Scopes, now: u64) -> Option<String> {
        let key = self.keys.first()?;
        let header = Header {
            alg: "EdDSA".into(),
            typ: "at+jwt".into(),
            kid: key.kid.clone(),
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
        let signature = URL_SAFE_NO_PAD.encode(key.signing.sign(signed.as_bytes()).to_bytes());
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
            || claims.exp - claims.iat.min(claims.exp) > 3600
        {
            return Err(TokenError::Time);
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
        let key = self
            .keys
            .iter()
            .find(|key| key.kid == header.kid)
            .ok_or(Foreign)?;
        let signature = Signature::from_slice(&decode(signature)?).map_err(|_| Malformed)?;
        // Strict: refuses small-order keys and non-canonical signatures.
        key.verifying
            .verify_strict(signed.as_bytes(), &signature)
            .map_err(|_| Bad)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Malformed)?;
        if claims.iss != *self.issuer || claims.aud != *self.audience {
            return Err(Audience);
        }
        Ok(claims)
    }

    /// The public keys (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid,
                    "x": URL_SAFE_NO_PAD.encode(key.verifying.as_bytes()),
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// A fresh key; its id is made of its public half.
pub fn new_key(now: u64) -> Result<SigningKeyRow, StateError> {
    let signing = SigningKey::from_bytes(&Zeroizing::new(rand::random::<[u8; 32]>()));
    let pkcs8 = signing
        .to_pkcs8_der()
        .map_err(|error| StateError::Other(error.to_string()))?;
    let digest = Sha256::digest(signing.verifying_key().as_bytes());
    let kid: String = URL_SAFE_NO_PAD.encode(digest).chars().take(16).collect();
    Ok(SigningKeyRow {
        kid,
        pkcs8: Zeroizing::new(pkcs8.as_bytes().to_vec()),
        created: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    async fn tokens(issuer: &str) -> Tokens {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s")).unwrap();
        Tokens::open(&state, issuer, "signet", 1800, NOW)
            .await
            .unwrap()
    }

    fn parts(token: &str) -> [String; 3] {
        token
            .split('.')
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    }

    /// A token with this header and these claims, honestly signed.
    fn forge(tokens: &Tokens, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = tokens.keys[0].signing.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    #[tokio::test]
    async fn a_token_is_valid_for_its_life_and_no_longer() {
        let tokens = tokens("https://api").await;
        let token = tokens.issue("u1", "c1", Scopes::USER, NOW).unwrap();
        let claims = tokens.verify(&token, NOW).unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.client_id.as_str()),
            ("u1", "c1")
        );
        assert!(tokens.verify(&token, NOW + 1799).is_ok());
        assert_eq!(tokens.verify(&token, NOW + 1800), Err(TokenError::Time));
        assert_eq!(tokens.verify(&token, NOW - 31), Err(TokenError::Time));
    }

    #[tokio::test]
    async fn foreign_headers_are_refused_even_when_signed() {
        let tokens = tokens("https://api").await;
        let good = tokens.issue("u1", "c1", Scopes::USER, NOW).unwrap();
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(&parts(&good)[1]).unwrap()).unwrap();
        let kid = tokens.keys[0].kid.clone();
        assert!(
            tokens
                .verify(
                    &forge(
                        &tokens,
                        &format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#),
                        &claims
                    ),
                    NOW
                )
                .is_ok()
        );
        for header in [
            format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../../etc/passwd"}"#.into(),
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#.into(),
            format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","jku":"https://evil"}}"#),
            format!(r#"{{"alg":"EdDSA","alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#),
        ] {
            assert_eq!(
                tokens.verify(&forge(&tokens, &header, &claims), NOW),
                Err(TokenError::Header),
                "{header}"
            );
        }
    }

    #[tokio::test]
    async fn odd_claims_are_refused_even_when_signed() {
        let tokens = tokens("https://api").await;
        let kid = tokens.keys[0].kid.clone();
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
        let claims = |iss: &str, aud: &str, times: &str, more: &str| {
            format!(
                r#"{{"iss":"{iss}","aud":"{aud}","sub":"u","client_id":"c","jti":"j","scope":"admin",{times}{more}}}"#
            )
        };
        let times = format!(r#""iat":{NOW},"exp":{}"#, NOW + 900);
        let verdict = |claims: String| {
            tokens
                .verify(&forge(&tokens, &header, &claims), NOW)
                .map(|_| ())
        };
        assert_eq!(verdict(claims("https://api", "signet", &times, "")), Ok(()));
        assert_eq!(
            verdict(claims("https://evil", "signet", &times, "")),
            Err(TokenError::Audience)
        );
        assert_eq!(
            verdict(claims("https://api", "other", &times, "")),
            Err(TokenError::Audience)
        );
        assert_eq!(
            verdict(claims("https://api", "signet", &times, r#","sub":"v""#)),
            Err(TokenError::Malformed)
        );
        assert_eq!(
            verdict(claims(
                "https://api",
                "signet",
                &format!(r#""iat":{NOW},"exp":{}"#, NOW + 999_999),
                ""
            )),
            Err(TokenError::Time)
        );
        assert_eq!(
            verdict(claims(
                "https://api",
                "signet",
                &format!(r#""iat":{},"exp":{}"#, NOW + 60, NOW + 900),
                ""
            )),
            Err(TokenError::Time)
        );
        assert_eq!(
            verdict(claims(
                "https://api",
                "signet",
                r#""iat":-1,"exp":99999999999"#,
                ""
            )),
            Err(TokenError::Malformed)
        );
    }

    #[tokio::test]
    async fn another_services_token_and_huge_ones_are_refused() {
        let (ours, theirs) = (tokens("https://api").await, tokens("https://api").await);
        let token = theirs.issue("u1", "c1", Scopes::USER, NOW).unwrap();
        assert_eq!(ours.verify(&token, NOW), Err(TokenError::Header));
        assert_eq!(
            ours.verify(&"a".repeat(MAX_TOKEN + 1), NOW),
            Err(TokenError::Malformed)
        );
        let good = ours.issue("u1", "c1", Scopes::USER, NOW).unwrap();
        let [header, claims, signature] = parts(&good);
        assert_eq!(
            ours.verify(&format!("{header}.{claims}.{signature}="), NOW),
            Err(TokenError::Malformed)
        );
        assert_eq!(
            ours.verify(&format!("{header}.{claims}."), NOW),
            Err(TokenError::Malformed)
        );
    }

    #[tokio::test]
    async fn no_changed_byte_of_a_token_passes() {
        let tokens = tokens("https://api").await;
        let good = tokens.issue("u1", "c1", Scopes::USER, NOW).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(
                tokens
                    .verify(std::str::from_utf8(&bytes).unwrap(), NOW)
                    .is_err(),
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tokens_never_panic(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}|.{0,60}") {
            static TOKENS: std::sync::OnceLock<Tokens> = std::sync::OnceLock::new();
            let tokens = TOKENS.get_or_init(|| {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tokens("https://api"))
            });
            prop_assert!(tokens.verify(&text, NOW).is_err());
        }
    }
}
