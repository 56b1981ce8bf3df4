//! A provider's token: the algorithm is the key's, never the token's own choice.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

use super::{ProviderError, Subject};

/// A key of the provider's. RSA keys under 2048 bits verify nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kty")]
pub(super) enum Jwk {
    #[serde(rename = "RSA")]
    Rsa {
        kid: Option<String>,
        #[serde(rename = "use")]
        purpose: Option<String>,
        n: String,
        e: String,
    },
    #[serde(rename = "EC")]
    Ec {
        kid: Option<String>,
        #[serde(rename = "use")]
        purpose: Option<String>,
        crv: String,
        x: String,
        y: String,
    },
    #[serde(rename = "OKP")]
    Okp {
        kid: Option<String>,
        #[serde(rename = "use")]
        purpose: Option<String>,
        crv: String,
        x: String,
    },
}

impl Jwk {
    pub(super) fn kid(&self) -> Option<&str> {
        match self {
            Self::Rsa { kid, .. } | Self::Ec { kid, .. } | Self::Okp { kid, .. } => kid.as_deref(),
        }
    }

    pub(super) fn is_for_signatures(&self) -> bool {
        let (Self::Rsa { purpose, .. } | Self::Ec { purpose, .. } | Self::Okp { purpose, .. }) =
            self;
        purpose.as_deref().is_none_or(|purpose| purpose == "sig")
    }

    /// Whether the signature is of this key under this algorithm.
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let verified = match (self, algorithm) {
            (Self::Rsa { n, e, .. }, "RS256") => {
                let (n, e) = (decode(n), decode(e));
                let key = RsaPublicKeyComponents { n: &n, e: &e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Self::Ec { crv, x, y, .. }, "ES256") if crv == "P-256" => {
                let point = [vec![4], decode(x), decode(y)].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Self::Okp { crv, x, .. }, "EdDSA") if crv == "Ed25519" => {
                UnparsedPublicKey::new(&ED25519, decode(x)).verify(message, signature)
            }
            _ => return false,
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
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) nbf: Option<u64>,
    pub(super) nonce: Option<String>,
    pub(super) azp: Option<String>,
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

    pub(super) fn verify(&self, key: &Jwk) -> Result<Claims, ProviderError> {
        if !key.verifies(&self.header.alg, self.signed.as_bytes(), &self.signature) {
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
        let key = Jwk::Okp {
            kid: None,
            purpose: None,
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(pair.public_key()),
        };
        let verdict = |header: &str, claims: &str| {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims)
            );
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
            Unverified::parse(&format!("{signed}.{signature}"))?
                .verify(&key)
                .map(|_| ())
        };
        let claims = r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":9,"iat":1,"email":"x"}"#;
        assert_eq!(verdict(r#"{"alg":"EdDSA"}"#, claims), Ok(()));
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
