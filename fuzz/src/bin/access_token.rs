//! Access tokens: whatever the edge's reader takes, a JSON parser reads alike, and only our service's own in its time
//! passes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use shared::access_token::Unverified;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://api.example.com";

fn main() -> Result<(), String> {
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#;
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"signet","sub":"u","client_id":"c","jti":"j","scope":"images:read","iat":{NOW},"exp":{}}}"#,
        NOW + 900
    );
    let token = token_of(header, &claims);
    let seeds = [
        format!("{header}\n{claims}"),
        format!("{header}\n{}", claims.replace("\"u\"", "\"u\\u0041\"")),
        format!("{header}\n{}", claims.replace(":1", ": 1")),
        token,
    ];
    fuzz::run("access_token", &seeds, |input| {
        match input.split_once('\n') {
            Some((header, claims)) => target(&token_of(header, claims)),
            None => target(input),
        }
    })
}

fn token_of(header: &str, claims: &str) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!(
        "{}.{}.{}",
        part(header.as_bytes()),
        part(claims.as_bytes()),
        part(&[7; 64])
    )
}

fn target(token: &str) -> Result<(), String> {
    let Ok(read) = Unverified::parse(token) else {
        return Ok(());
    };
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    });
    let header = parts.next().flatten().ok_or("a header that is no JSON")?;
    let claims = parts.next().flatten().ok_or("claims that are no JSON")?;
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    if text(&header, "alg").as_deref() != Some("EdDSA")
        || text(&header, "kid") != Some(read.kid.clone())
    {
        return Err("another header than JSON has".into());
    }
    if claims.as_object().map(serde_json::Map::len) != Some(8)
        || text(&claims, "jti").as_deref() != Some(read.jti())
    {
        return Err("other claims than JSON has".into());
    }
    let (Some(iat), Some(exp)) = (number("iat"), number("exp")) else {
        return Err("times that are no numbers".into());
    };
    let ours = text(&claims, "iss").as_deref() == Some(ISSUER)
        && text(&claims, "aud").as_deref() == Some("signet");
    let in_time = iat <= NOW + 30 && NOW < exp && exp - iat <= 3600;
    if read.check(ISSUER, "signet", NOW).is_ok() != (ours && in_time) {
        return Err("judged otherwise than by the claims".into());
    }
    Ok(())
}
