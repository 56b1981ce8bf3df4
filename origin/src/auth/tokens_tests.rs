//! Tokens as others send them: whole, bent, foreign and forged.

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
    let ring = tokens.ring();
    let signature = ring.signing(NOW).unwrap().sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
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
    let kid = tokens.ring().signing(NOW).unwrap().kid().to_owned();
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
    let kid = tokens.ring().signing(NOW).unwrap().kid().to_owned();
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
