//! Edge to origin: HTTP Message Signatures (RFC 9421), `tag="signet-edge-v1"`, hmac-sha256.
//!
//! The verifier never interprets a foreign list of covered components: it rebuilds, from the request it sees, the one
//! `Signature-Input` that our edge would have sent, and compares.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::keyring::{Keyring, is_kid};

/// Seconds by which `created` may differ from the origin's clock.
pub const WINDOW: u64 = 30;

/// Bodies up to this many bytes are covered by `content-digest`.
pub const DIGEST_UP_TO: usize = 64 * 1024;

/// Header that carries the client's address.
pub const CLIENT_IP: &str = "signet-client-ip";

/// Header fields that are covered when present, in the order of the signature base.
pub const HEADERS: [&str; 9] = [
    "authorization",
    "cookie",
    "content-type",
    "content-length",
    "idempotency-key",
    CLIENT_IP,
    "x-request-id",
    "content-digest",
    crate::decided::HEADER,
];

const LABEL: &str = "signet";
const TAG: &str = "signet-edge-v1";

/// The parts of a request that the signature covers, as they go over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The `Host` header, lower case, as the origin receives it.
    pub authority: &'a str,
    /// The path, not decoded.
    pub path: &'a str,
    /// The query without `?`; `None` and empty are signed alike, as RFC 9421 section 2.2.7 has it.
    pub query: Option<&'a str>,
    /// Values in the order of [`HEADERS`].
    pub headers: [Option<&'a str>; HEADERS.len()],
}

/// The two header values to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// A request that our edge made; the nonce must not have been seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// To be remembered as long as `created` lies within [`WINDOW`] of the clock.
    pub nonce: &'a str,
    /// Unix seconds.
    pub created: u64,
}

/// Why a request is not our edge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeAuthError {
    /// A header is missing or not in our one form.
    Malformed,
    /// Unknown key or another MAC.
    BadSignature,
    /// `created` is over 30 s away.
    Stale,
}

impl std::fmt::Display for EdgeAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the request carries no signature of the edge's form",
            Self::BadSignature => "the edge's signature does not match the request",
            Self::Stale => "the edge's signature is too old, or the clocks differ",
        })
    }
}

impl std::error::Error for EdgeAuthError {}

/// One line break or control byte in a value would let one component look like two.
fn is_clean(text: &str) -> bool {
    text.bytes().all(|c| (0x20..0x7f).contains(&c))
}

impl Message<'_> {
    fn is_clean(&self) -> bool {
        [
            self.method,
            self.authority,
            self.path,
            self.query.unwrap_or(""),
        ]
        .into_iter()
        .all(is_clean)
            && self
                .headers
                .iter()
                .flatten()
                .all(|value| is_clean(value) && value.trim() == *value)
    }

    /// `("@method" …);created=…;nonce="…";keyid="…";alg="hmac-sha256";tag="…"` of section 2.3.
    fn params(&self, created: u64, nonce: &str, kid: &str) -> String {
        let mut out = String::with_capacity(256);
        out.push_str("(\"@method\" \"@authority\" \"@path\" \"@query\"");
        for (name, value) in HEADERS.iter().zip(self.headers) {
            if value.is_some() {
                out.push_str(" \"");
                out.push_str(name);
                out.push('"');
            }
        }
        out.push_str(");created=");
        out.push_str(&created.to_string());
        for (name, value) in [
            ("nonce", nonce),
            ("keyid", kid),
            ("alg", "hmac-sha256"),
            ("tag", TAG),
        ] {
            out.push(';');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
        }
        out
    }

    /// The signature base of section 2.5.
    fn base(&self, params: &str) -> String {
        let mut base = SignatureBase::default();
        base.line("@method", self.method);
        base.line("@authority", self.authority);
        base.line("@path", self.path);
        base.line("@query", &format!("?{}", self.query.unwrap_or("")));
        for (name, value) in HEADERS.iter().zip(self.headers) {
            if let Some(value) = value {
                base.line(name, value);
            }
        }
        base.finish(params)
    }
}

/// Lines of `"name": value`, ended by the signature's parameters.
#[derive(Default)]
struct SignatureBase(String);

impl SignatureBase {
    fn line(&mut self, name: &str, value: &str) {
        for part in ["\"", name, "\": ", value, "\n"] {
            self.0.push_str(part);
        }
    }

    fn finish(mut self, params: &str) -> String {
        self.0.push_str("\"@signature-params\": ");
        self.0.push_str(params);
        self.0
    }
}

/// Signs a request; `nonce` is fresh randomness in base64url or hex, `created` in Unix seconds.
///
/// # Errors
/// [`EdgeAuthError::Malformed`] when a value holds control bytes or outer white space.
pub fn sign(
    ring: &Keyring,
    message: &Message<'_>,
    created: u64,
    nonce: &str,
) -> Result<Signed, EdgeAuthError> {
    if !message.is_clean() || !is_nonce(nonce) {
        return Err(EdgeAuthError::Malformed);
    }
    let key = ring.signing();
    let params = message.params(created, nonce, key.kid());
    let mac = key.mac(message.base(&params).as_bytes());
    Ok(Signed {
        signature_input: format!("{LABEL}={params}"),
        signature: format!("{LABEL}=:{}:", STANDARD.encode(mac)),
    })
}

/// Verifies a request at `now` (Unix seconds). The caller must then refuse a nonce it has seen.
///
/// # Errors
/// [`EdgeAuthError`].
pub fn verify<'a>(
    ring: &Keyring,
    message: &Message<'_>,
    signature_input: &'a str,
    signature: &str,
    now: u64,
) -> Result<Accepted<'a>, EdgeAuthError> {
    use EdgeAuthError::{BadSignature, Malformed, Stale};
    let (created, nonce, kid) = read_params(signature_input).ok_or(Malformed)?;
    let sent = signature
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix("=:"))
        .and_then(|rest| rest.strip_suffix(':'));
    let sent = STANDARD
        .decode(sent.ok_or(Malformed)?)
        .map_err(|_| Malformed)?;
    let params = message.params(created, nonce, kid);
    if !message.is_clean()
        || signature_input
            .split_once('=')
            .is_none_or(|(_, rest)| rest != params)
    {
        return Err(Malformed);
    }
    let key = ring.get(kid).ok_or(BadSignature)?;
    if !bool::from(
        key.mac(message.base(&params).as_bytes())
            .as_slice()
            .ct_eq(&sent),
    ) {
        return Err(BadSignature);
    }
    if now.abs_diff(created) > WINDOW {
        return Err(Stale);
    }
    Ok(Accepted { nonce, created })
}

fn is_nonce(nonce: &str) -> bool {
    (16..=64).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// `created`, `nonce` and `keyid` of our one form.
fn read_params(input: &str) -> Option<(u64, &str, &str)> {
    let rest = input.strip_prefix(LABEL)?.strip_prefix("=(")?;
    let (_, rest) = rest.split_once(");created=")?;
    let (created, rest) = rest.split_once(";nonce=\"")?;
    let (nonce, rest) = rest.split_once("\";keyid=\"")?;
    let (kid, _) = rest.split_once('"')?;
    let digits = (1..=12).contains(&created.len()) && created.bytes().all(|c| c.is_ascii_digit());
    if digits && is_nonce(nonce) && is_kid(kid) {
        Some((created.parse().ok()?, nonce, kid))
    } else {
        None
    }
}

/// `Content-Digest` of a body (RFC 9530), sha-256.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: &str = "0123456789abcdef";

    fn ring() -> Keyring {
        Keyring::parse(&format!(
            "e1:{},e2:{}",
            STANDARD.encode([1; 32]),
            STANDARD.encode([2; 32])
        ))
        .unwrap()
    }

    fn message<'a>() -> Message<'a> {
        let mut headers = [None; HEADERS.len()];
        headers[0] = Some("Bearer abc");
        headers[5] = Some("198.51.100.7");
        Message {
            method: "POST",
            authority: "api.example.com",
            path: "/api/generate",
            query: Some("a=b"),
            headers,
        }
    }

    #[test]
    fn rfc_9421_b_2_5_is_reproduced() {
        let mut base = SignatureBase::default();
        base.line("date", "Tue, 20 Apr 2021 02:07:55 GMT");
        base.line("@authority", "example.com");
        base.line("content-type", "application/json");
        let text = base.finish(
            r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        );
        let ring = Keyring::parse(
            "test-shared-secret:uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==", // pragma: allowlist secret (RFC 9421)
        )
        .unwrap();
        assert_eq!(
            STANDARD.encode(ring.signing().mac(text.as_bytes())),
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
        );
    }

    #[test]
    fn a_signed_request_is_accepted_within_its_window_only() {
        let signed = sign(&ring(), &message(), 1_000, NONCE).unwrap();
        let at = |now| {
            verify(
                &ring(),
                &message(),
                &signed.signature_input,
                &signed.signature,
                now,
            )
        };
        assert_eq!(
            at(1_000).unwrap(),
            Accepted {
                nonce: NONCE,
                created: 1_000
            }
        );
        assert!(at(1_030).is_ok() && at(970).is_ok());
        assert_eq!(at(1_031), Err(EdgeAuthError::Stale));
        assert_eq!(at(969), Err(EdgeAuthError::Stale));
    }

    #[test]
    fn any_change_of_the_request_is_refused() {
        let signed = sign(&ring(), &message(), 1_000, NONCE).unwrap();
        let check = |message: &Message<'_>| {
            verify(
                &ring(),
                message,
                &signed.signature_input,
                &signed.signature,
                1_000,
            )
            .is_ok()
        };
        assert!(check(&message()));
        assert!(!check(&Message {
            method: "GET",
            ..message()
        }));
        assert!(!check(&Message {
            authority: "images.example.com",
            ..message()
        }));
        assert!(!check(&Message {
            path: "/api/images",
            ..message()
        }));
        assert!(!check(&Message {
            query: None,
            ..message()
        }));
        for (index, name) in HEADERS.into_iter().enumerate() {
            let mut other = message();
            other.headers[index] = Some("x");
            assert!(!check(&other), "{name}");
            if message().headers[index].is_some() {
                other.headers[index] = None;
                assert!(!check(&other), "{name}");
            }
        }
    }

    #[test]
    fn line_breaks_cannot_forge_a_component() {
        let mut forged = message();
        forged.headers[6] = Some("a\n\"content-digest\": b");
        assert_eq!(
            sign(&ring(), &forged, 1, NONCE),
            Err(EdgeAuthError::Malformed)
        );
    }

    #[test]
    fn the_empty_bodys_digest_is_that_of_rfc_9530() {
        assert_eq!(
            content_digest(b""),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_never_pass(input in ".{0,80}|signet=\\(.{0,40}\\);created=[0-9]{0,14};nonce=\"[a-z0-9]{0,70}\";keyid=\"e1\".{0,40}", signature in ".{0,60}|signet=:[A-Za-z0-9+/=]{0,60}:") {
            prop_assert!(verify(&ring(), &message(), &input, &signature, 1_000).is_err());
        }
    }
}
