//! Rows about access tokens: how long they live, what they open, and what is no token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::Method;
use serde_json::Value;

use super::http::Ask;
use super::visit::Visit;
use super::{Verdict, ensure};
use crate::auth::TOKEN_MINUTES;

/// Life, type and algorithm of a token, by its own words and the endpoint's.
pub async fn life(visit: &Visit) -> Verdict {
    let grant = visit.grant.clone()?;
    let told = grant.get("expires_in").and_then(Value::as_u64);
    let token = visit.token()?;
    let part = |at: usize| {
        let part = token.split('.').nth(at)?;
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (head, claims) = (part(0).unwrap_or_default(), part(1).unwrap_or_default());
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    let life = number("exp")
        .zip(number("iat"))
        .map(|(exp, iat)| exp.saturating_sub(iat));
    let life = life.or(told).unwrap_or(0);
    let text = |name: &str| head.get(name).and_then(Value::as_str).unwrap_or("nothing");
    let saw = format!(
        "POST /oauth/token gave a token of type {} signed with {}, living {} s by its claims and {} s by expires_in",
        text("typ"),
        text("alg"),
        life,
        told.map_or("no".into(), |told| told.to_string())
    );
    let allowed = TOKEN_MINUTES.start() * 60..=TOKEN_MINUTES.end() * 60;
    ensure(allowed.contains(&life), || {
        format!(
            "{saw}; it must be {} to {} s",
            allowed.start(),
            allowed.end()
        )
    })?;
    ensure(told == Some(life), || format!("{saw}; the two differ"))?;
    ensure(text("typ") == "at+jwt" && text("alg") == "EdDSA", || {
        format!("{saw}; wanted at+jwt and EdDSA")
    })?;
    Ok(saw)
}

/// A token of one scope at the doors of the others, and the scope `admin` for who does not have it.
pub async fn scopes(visit: &Visit) -> Verdict {
    let edge = visit.edge()?;
    visit.token()?;
    let narrow = visit.ask_token(&visit.http, Some("images:read")).await?;
    let scope = narrow
        .get("scope")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure(scope == "images:read", || {
        format!("asked for a token of the scope images:read, got one of {scope:?}")
    })?;
    let token = narrow
        .get("access_token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let opens = visit
        .http
        .send(Ask::get(edge, "/api/images").token(token))
        .await?;
    ensure(opens.status == 200, || {
        format!(
            "a token of images:read at GET /api/images: {}",
            opens.told()
        )
    })?;
    let mut saw = vec!["a token of images:read opened GET /api/images".to_owned()];
    for (method, target, media, body) in [
        (
            Method::POST,
            "/api/generate",
            "application/json",
            "{\"prompt\":\"\"}",
        ),
        (Method::POST, "/api/upload", "image/png", "x"),
        (Method::GET, "/api/usage", "text/plain", ""),
        (
            Method::DELETE,
            "/api/images/018f0000-0000-7000-8000-000000000000",
            "text/plain",
            "",
        ),
    ] {
        let mut ask = Ask::new(edge, method.clone(), target).token(token);
        if !body.is_empty() {
            ask = ask.body(media, body);
        }
        let answer = visit.http.send(ask).await?;
        ensure(answer.status == 403, || {
            format!(
                "a token of images:read at {method} {target}: {}, wanted 403",
                answer.told()
            )
        })?;
        saw.push(format!("{method} {target} {}", answer.told()));
    }
    let admin = visit.token_endpoint(&visit.http, Some("admin")).await?;
    if let Some(token) = admin.json().get("access_token").and_then(Value::as_str) {
        visit.keep_quiet_about(token);
    }
    ensure(admin.status == 400, || {
        format!(
            "the client asked for the scope admin and got {}, wanted 400",
            admin.told()
        )
    })?;
    saw.push(format!("asking for the scope admin {}", admin.told()));
    Ok(saw.join("; "))
}

/// What is no access token: nothing, the client's own secret, a token with another signature, a token in the query.
pub async fn bearer(visit: &Visit) -> Verdict {
    let (edge, token) = (visit.edge()?, visit.token()?);
    let secret = visit.client()?.secret.expose();
    let changed = match token.rsplit_once('.') {
        Some((rest, mac)) => {
            let first = if mac.starts_with('A') { "B" } else { "A" };
            format!("{rest}.{first}{}", mac.get(1..).unwrap_or_default())
        }
        None => "x".into(),
    };
    visit.keep_quiet_about(&changed);
    let ask = || Ask::get(edge, "/api/usage");
    let in_query = Ask::get(edge, format!("/api/usage?access_token={token}"));
    let mut saw = Vec::new();
    for (what, ask, wanted) in [
        ("no token", ask(), 401),
        ("the client's secret as a token", ask().token(secret), 401),
        (
            "a token with a changed signature",
            ask().token(&changed),
            401,
        ),
        ("a token in the query", in_query, 400),
    ] {
        let answer = visit.http.send(ask).await?;
        ensure(answer.status == wanted, || {
            format!(
                "GET /api/usage with {what}: {}, wanted {wanted}",
                answer.told()
            )
        })?;
        saw.push(format!("{what} {}", answer.told()));
    }
    Ok(format!("GET /api/usage: {}", saw.join("; ")))
}
