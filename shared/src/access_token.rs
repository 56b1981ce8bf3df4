//! Access tokens (RFC 9068, signed with Ed25519) as the edge reads them: all but the signature, which takes a key.
//!
//! What is read is the one form that the origin writes: compact JSON without white space or escapes, every claim once,
//! none beside them. What is refused here the origin would refuse too; it looks again all the same.

use crate::revocation::Name;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Longer tokens are not looked at.
pub const MAX_TOKEN: usize = 2048;
/// Seconds by which `iat` may lie ahead of the clock.
pub const SKEW: u64 = 30;
/// Longest life in seconds.
pub const MAX_LIFE: u64 = 3600;

/// `WWW-Authenticate` of an answer to a token that is not valid (RFC 6750 section 3.1).
pub const CHALLENGE: &str = "Bearer realm=\"signet\", error=\"invalid_token\"";
/// Of an answer to a request without any token, which is told no error (the same section).
pub const FIRST_CHALLENGE: &str = "Bearer realm=\"signet\"";

/// Why a token opens nothing. Clients are told only that it is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not in our form.
    Malformed,
    /// Another algorithm or type.
    Foreign,
    /// Another issuer or audience.
    Audience,
    /// Past its time, or from the future.
    Time,
}

/// A token whose signature nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified<'a> {
    /// What the signature is over.
    pub signed: &'a str,
    /// The signature.
    pub signature: [u8; 64],
    /// The key it names.
    pub kid: String,
    claims: Claims,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    client: String,
    jti: String,
    iat: u64,
    exp: u64,
}

/// The token of an `Authorization` value; none when it is of another scheme.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Foreign`].
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        use TokenError::{Foreign, Malformed};
        if token.len() > MAX_TOKEN {
            return Err(Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed);
        let text = |part| String::from_utf8(decode(part)?).map_err(|_| Malformed);
        let header = text(header)?;
        let [alg, typ, kid] = members(&header, ["alg", "typ", "kid"]).ok_or(Foreign)?;
        if (alg, typ) != (Value::Text("EdDSA"), Value::Text("at+jwt")) {
            return Err(Foreign);
        }
        let kid = kid.text().ok_or(Foreign)?.to_owned();
        let signature = decode(signature)?.try_into().map_err(|_| Malformed)?;
        let claims = text(claims)?;
        let claims = Claims::read(&claims).ok_or(Malformed)?;
        Ok(Self {
            signed,
            signature,
            kid,
            claims,
        })
    }

    /// Whether it is for this service and in its time (`now` in Unix seconds).
    ///
    /// # Errors
    /// [`TokenError::Audience`], [`TokenError::Time`].
    pub fn check(&self, issuer: &str, audience: &str, now: u64) -> Result<(), TokenError> {
        let Claims {
            iss, aud, iat, exp, ..
        } = &self.claims;
        if iss != issuer || aud != audience {
            return Err(TokenError::Audience);
        }
        let is_now = *iat <= now.saturating_add(SKEW) && now < *exp;
        if !is_now || exp.saturating_sub(*iat) > MAX_LIFE {
            return Err(TokenError::Time);
        }
        Ok(())
    }

    /// The token's own id, by which the limit `token` counts.
    pub fn jti(&self) -> &str {
        &self.claims.jti
    }

    /// What may have been revoked of it: itself, its client, its user.
    pub fn names(&self) -> [Name; 3] {
        let Claims {
            sub, client, jti, ..
        } = &self.claims;
        [Name::token(jti), Name::client(client), Name::owner(sub)]
    }
}

impl Claims {
    fn read(json: &str) -> Option<Self> {
        let names = [
            "iss",
            "aud",
            "sub",
            "client_id",
            "jti",
            "scope",
            "iat",
            "exp",
        ];
        let [iss, aud, sub, client, jti, scope, iat, exp] = members(json, names)?;
        scope.text()?;
        Some(Self {
            iss: iss.text()?.to_owned(),
            aud: aud.text()?.to_owned(),
            sub: sub.text()?.to_owned(),
            client: client.text()?.to_owned(),
            jti: jti.text()?.to_owned(),
            iat: iat.number()?,
            exp: exp.number()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Text(&'a str),
    Number(u64),
}

impl<'a> Value<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) => None,
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(_) => None,
        }
    }
}

/// The members of a flat JSON object: exactly these, each once, in any order.
fn members<'a, const N: usize>(json: &'a str, names: [&str; N]) -> Option<[Value<'a>; N]> {
    let mut found = [None; N];
    let mut rest = json.strip_prefix('{')?;
    loop {
        let (name, after) = string(rest)?;
        let (value, after) = value(after.strip_prefix(':')?)?;
        let at = names.iter().position(|known| *known == name)?;
        let place = found.get_mut(at)?;
        if place.replace(value).is_some() {
            return None;
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after == "}" => break,
            None => return None,
        }
    }
    let mut all = [Value::Number(0); N];
    for (place, value) in all.iter_mut().zip(found) {
        *place = value?;
    }
    Some(all)
}

/// A string without escapes, and what follows it.
fn string(json: &str) -> Option<(&str, &str)> {
    let (text, rest) = json.strip_prefix('"')?.split_once('"')?;
    let plain = text.bytes().all(|c| c >= 0x20 && c != b'\\');
    plain.then_some((text, rest))
}

fn value(json: &str) -> Option<(Value<'_>, &str)> {
    if json.starts_with('"') {
        return string(json).map(|(text, rest)| (Value::Text(text), rest));
    }
    let end = json
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(json.len());
    let (digits, rest) = json.split_at_checked(end)?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((Value::Number(digits.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;
    const HEADER: &str = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#;

    fn claims(iat: u64, exp: u64) -> String {
        format!(
            r#"{{"iss":"https://a","aud":"https://b","sub":"u","client_id":"c","jti":"j","scope":"images:generate","iat":{iat},"exp":{exp}}}"#
        )
    }

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part(header.as_bytes()),
            part(claims.as_bytes()),
            part(&[7; 64])
        )
    }

    #[test]
    fn a_token_of_our_form_is_read_and_only_for_its_service_and_time() {
        let token = token(HEADER, &claims(NOW, NOW + 900));
        let read = Unverified::parse(&token).unwrap();
        assert_eq!((read.kid.as_str(), read.jti()), ("k", "j"));
        assert_eq!(read.signature, [7; 64]);
        assert!(token.starts_with(read.signed) && read.signed.matches('.').count() == 1);
        let at = |now| read.check("https://a", "https://b", now);
        assert_eq!(
            (at(NOW), at(NOW - SKEW), at(NOW + 899)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(at(NOW - SKEW - 1), Err(TokenError::Time));
        assert_eq!(at(NOW + 900), Err(TokenError::Time));
        for (issuer, audience) in [
            ("https://b", "https://b"),
            ("https://a", "https://a"),
            ("", ""),
        ] {
            assert_eq!(read.check(issuer, audience, NOW), Err(TokenError::Audience));
        }
    }

    #[test]
    fn longer_lives_than_an_hour_and_times_that_run_backwards_are_refused() {
        for (iat, exp) in [
            (NOW, NOW + 3601),
            (NOW, NOW),
            (NOW, NOW - 1),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let token = token(HEADER, &claims(iat, exp));
            let read = Unverified::parse(&token).unwrap();
            assert_eq!(
                read.check("https://a", "https://b", NOW),
                Err(TokenError::Time),
                "{iat} {exp}"
            );
        }
    }

    #[test]
    fn other_algorithms_types_and_forms_are_refused() {
        let good = claims(NOW, NOW + 900);
        for header in [
            r#"{"alg":"none","typ":"at+jwt","kid":"k"}"#,
            r#"{"alg":"HS256","typ":"at+jwt","kid":"k"}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"k"}"#,
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#,
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k","jwk":"x"}"#,
            r#"{"alg":"EdDSA","alg":"EdDSA","typ":"at+jwt","kid":"k"}"#,
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":1}"#,
            r#"{"alg":"EdDSA" ,"typ":"at+jwt","kid":"k"}"#,
            "{}",
            "",
        ] {
            assert!(
                Unverified::parse(&token(header, &good)).is_err(),
                "{header}"
            );
        }
        for bad in [
            good.replace("\"j\"", "1"),
            good.replace("\"exp\":", "\"exp\":0"),
            good.replace("\"exp\":", "\"exp\":-"),
            good.replace("\"exp\":", "\"exp\":1e"),
            good.replace("\"u\"", "\"u\\u0041\""),
            good.replace('}', ",\"iss\":\"https://a\"}"),
            good.replace('}', ",\"cnf\":\"x\"}"),
            good.replace('}', "}}"),
            good.replace(',', ", "),
        ] {
            assert!(Unverified::parse(&token(HEADER, &bad)).is_err(), "{bad}");
        }
        let whole = token(HEADER, &good);
        for bad in [
            String::new(),
            "..".into(),
            format!("{whole}."),
            format!("{whole}="),
            format!(".{whole}"),
            whole.replacen('.', "", 1),
            format!("{whole}{}", "A".repeat(3000)),
        ] {
            assert!(Unverified::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_scheme_bearer_carries_a_token() {
        assert_eq!(bearer("Bearer a"), Some("a"));
        assert_eq!(bearer("bEARER   a"), Some("a"));
        for other in ["", "Bearer", "Basic a", "Bearera", "a Bearer"] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}|.{0,80}", json in "\\{?(\"[a-z]{0,4}\":(\"[^\"]{0,5}\"|[0-9]{0,22}),?){0,4}\\}?|.{0,60}") {
            prop_assert!(Unverified::parse(&text).is_err());
            let _ = Unverified::parse(&token(HEADER, &json)).map(|it| it.check("a", "b", NOW));
            let _ = Unverified::parse(&token(&json, &claims(NOW, NOW + 1)));
        }
    }
}
