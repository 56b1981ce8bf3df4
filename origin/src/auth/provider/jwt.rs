//! A provider's token: the algorithm is the key's, never the token's own choice.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::{Deserialize, Deserializer};

use super::{ProviderError, Subject};

/// A key of the provider's (RFC 7517). RSA keys under 2048 bits verify nothing.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Jwk {
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    #[serde(flatten)]
    material: Material,
}

/// What a key is made of, each part in base64url.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kty")]
enum Material {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: String, x: String },
}

/// RSA's algorithms (RFC 7518 sections 3.3 and 3.5).
fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

impl Jwk {
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn is_for_signatures(&self) -> bool {
        self.purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig")
    }

    /// Whether a signature under this algorithm can be this key's: by its kind and curve, and by what it says itself.
    pub(super) fn is_for(&self, algorithm: &str) -> bool {
        let is_of_kind = match &self.material {
            Material::Rsa { .. } => rsa(algorithm).is_some(),
            Material::Ec { crv, .. } => {
                matches!(
                    (crv.as_str(), algorithm),
                    ("P-256", "ES256") | ("P-384", "ES384")
                )
            }
            Material::Okp { crv, .. } => crv == "Ed25519" && algorithm == "EdDSA",
        };
        is_of_kind && self.alg.as_deref().is_none_or(|alg| alg == algorithm)
    }

    /// Whether the signature is of this key under this algorithm.
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let verified = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, _) => {
                let (n, e) = (decode(n), decode(e));
                let key = RsaPublicKeyComponents { n: &n, e: &e };
                let Some(parameters) = rsa(algorithm) else {
                    return false;
                };
                key.verify(parameters, message, signature)
            }
            (Material::Ec { x, y, .. }, _) => {
                let point = [vec![4], decode(x), decode(y)].concat();
                let curve = match algorithm {
                    "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ECDSA_P256_SHA256_FIXED,
                };
                UnparsedPublicKey::new(curve, point).verify(message, signature)
            }
            (Material::Okp { x, .. }, _) => {
                UnparsedPublicKey::new(&signature::ED25519, decode(x)).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What a token says; claims that we do not use are passed over, one of these that stands twice is refused.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    aud: Audience,
    #[serde(deserialize_with = "date")]
    pub(super) exp: u64,
    #[serde(deserialize_with = "date")]
    pub(super) iat: u64,
    #[serde(default, deserialize_with = "optional_date")]
    pub(super) nbf: Option<u64>,
    pub(super) nonce: Option<String>,
    pub(super) azp: Option<String>,
}

/// A NumericDate (RFC 7519 section 2): a JSON number of seconds, which may have a fraction; it is cut off.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let is_whole = number.as_u64();
    // Beyond 2^53 a float is no second any more.
    let cut = || number.as_f64().filter(|it| (0.0..9e15).contains(it));
    is_whole
        .or_else(|| cut().map(|seconds| seconds as u64))
        .ok_or_else(|| serde::de::Error::custom("no date"))
}

fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    date(deserializer).map(Some)
}

impl Claims {
    pub(super) fn audiences(&self) -> Vec<&str> {
        match &self.aud {
            Audience::One(one) => vec![one],
            Audience::Many(many) => many.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        Subject {
            issuer: self.iss.clone(),
            subject: self.sub.clone(),
        }
    }
}

/// A token whose signature nobody has looked at.
pub(super) struct Unverified<'a> {
    header: Header,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, ProviderError> {
        let malformed = || ProviderError::Token("not a token");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
        // Access tokens and whatever else the provider signs are not about who somebody is.
        let is_identity = header
            .typ
            .as_deref()
            .is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !is_identity || header.crit.is_some() {
            return Err(ProviderError::Token("another kind of token"));
        }
        Ok(Self {
            header,
            signed,
            claims,
            signature: decode(signature)?,
        })
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    pub(super) fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// The claims, when one of these keys signed them.
    ///
    /// # Errors
    /// [`ProviderError::Token`].
    pub(super) fn verify(&self, keys: &[Arc<Jwk>]) -> Result<Claims, ProviderError> {
        let is_signed_by = |key: &Arc<Jwk>| {
            key.verifies(&self.header.alg, self.signed.as_bytes(), &self.signature)
        };
        if !keys.iter().any(is_signed_by) {
            return Err(ProviderError::Token("not its signature"));
        }
        URL_SAFE_NO_PAD
            .decode(self.claims)
            .ok()
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .ok_or(ProviderError::Token("other claims"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    /// RFC 8037 appendix A: key, message and signature.
    #[test]
    fn the_rfc_vector_of_ed25519_verifies_and_under_no_other_name() {
        let key: Jwk = serde_json::from_str(
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = URL_SAFE_NO_PAD
            .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
            .unwrap();
        assert!(key.verifies("EdDSA", message, &signature));
        for other in ["RS256", "ES256", "HS256", "none", "", "eddsa"] {
            assert!(!key.verifies(other, message, &signature), "{other}");
        }
        let mut bent = signature.clone();
        bent[0] ^= 1;
        assert!(!key.verifies("EdDSA", message, &bent));
        assert!(!key.verifies("EdDSA", message, &[]));
    }

    /// RFC 7515 appendix A.2 and A.3.
    #[test]
    fn the_rfc_vectors_of_rsa_and_ecdsa_verify_and_do_not_change_places() {
        let rsa: Jwk = serde_json::from_str(
            r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
        )
        .unwrap();
        let rsa_message = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"; // pragma: allowlist secret (RFC 7515)
        let rsa_signature = URL_SAFE_NO_PAD
            .decode("cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw")
            .unwrap();
        let ec: Jwk = serde_json::from_str(
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        )
        .unwrap();
        let ec_message = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"; // pragma: allowlist secret (RFC 7515)
        let ec_signature = URL_SAFE_NO_PAD
            .decode("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
            .unwrap();
        assert!(rsa.verifies("RS256", rsa_message, &rsa_signature));
        assert!(ec.verifies("ES256", ec_message, &ec_signature));
        assert!(!rsa.verifies("ES256", ec_message, &ec_signature));
        assert!(!ec.verifies("RS256", rsa_message, &rsa_signature));
        assert!(!rsa.verifies("HS256", rsa_message, &rsa_signature));
        assert!(
            !ec.verifies("ES256", ec_message, &[0; 64]),
            "zeros are no signature"
        );
    }

    #[test]
    fn odd_headers_and_claims_are_refused_even_when_signed() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let key = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        let keys = [Arc::new(serde_json::from_value(key).unwrap())];
        let verdict = |header: &str, claims: &str| {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims)
            );
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
            Unverified::parse(&format!("{signed}.{signature}"))?
                .verify(&keys)
                .map(|_| ())
        };
        for claims in [
            r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":9,"iat":1,"email":"x"}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":1796090000.5,"iat":1.79609e9,"nbf":0.0}"#,
        ] {
            assert_eq!(verdict(r#"{"alg":"EdDSA"}"#, claims), Ok(()), "{claims}");
        }
        let claims = r#"{"iss":"i","sub":"s","aud":"a","exp":9,"iat":1}"#;
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#,
            r#"{"alg":"EdDSA","typ":"logout+jwt"}"#,
            r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
            r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
            r#"{"kid":"x"}"#,
            "[]",
        ] {
            assert!(verdict(header, claims).is_err(), "{header}");
        }
        for claims in [
            r#"{"iss":"i","sub":"s","sub":"t","aud":"a","exp":9,"iat":1}"#,
            r#"{"iss":"i","sub":"s","aud":7,"exp":9,"iat":1}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":-9,"iat":1}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":"9","iat":1}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":1e300,"iat":1}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":9,"iat":1,"nbf":null}"#,
            r#"{"iss":"i","aud":"a","exp":9,"iat":1}"#,
            "{",
        ] {
            assert!(verdict(r#"{"alg":"EdDSA"}"#, claims).is_err(), "{claims}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tokens_never_panic(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}|.{0,60}") {
            let _ = Unverified::parse(&text);
        }
    }
}
