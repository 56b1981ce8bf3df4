//! Rows about signed links: what opens, and every way around.

use std::time::Duration;

use serde_json::{Value, json};
use shared::keyring::Keyring;
use shared::link::SignRequest;
use shared::object_key::ObjectKey;

use super::http::{Answer, Ask};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// Whether an answer gives no picture away and says so as a refusal.
fn refused(answer: &Answer) -> bool {
    (400..500).contains(&answer.status) && answer.header("content-type") != Some("image/png")
}

/// The good link opens; the rows after it mean nothing when it does not.
async fn good(visit: &Visit) -> Result<(&str, Answer), Finding> {
    let target = visit.link()?;
    let answer = visit.open(target).await?;
    if answer.status == 200 {
        Ok((target, answer))
    } else {
        Err(Finding::Skipped(
            "the good link does not open: see link-opens".into(),
        ))
    }
}

/// Status, type and the headers that keep a picture from becoming a page, a copy in a shared cache or a cookie.
pub async fn opens(visit: &Visit) -> Verdict {
    let answer = visit.open(visit.link()?).await?;
    ensure(answer.status == 200, || {
        format!("GET of the upload's signed link: {}", answer.told())
    })?;
    let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    for (name, wanted) in [
        ("content-type", "image/png"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("content-security-policy", "default-src 'none'"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "private"),
        ("x-robots-tag", "noindex"),
    ] {
        ensure(header(name).contains(wanted), || {
            format!(
                "GET of a signed link: {name} is {:?}, wanted {wanted:?}",
                header(name)
            )
        })?;
    }
    ensure(!header("cross-origin-resource-policy").is_empty(), || {
        "GET of a signed link: no Cross-Origin-Resource-Policy".into()
    })?;
    Ok(format!(
        "GET of the upload's signed link: 200, {} bytes of image/png, nosniff, sandbox, no-referrer, Cache-Control {:?}",
        answer.body.len(),
        header("cache-control")
    ))
}

/// Without a signature, in each way to leave it out.
pub async fn unsigned(visit: &Visit) -> Verdict {
    let (target, _) = good(visit).await?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let without = query.split("&sig=").next().unwrap_or_default();
    all_refused(
        visit,
        [
            ("without its query", path.to_owned()),
            ("with an empty query", format!("{path}?")),
            ("without sig", format!("{path}?{without}")),
            ("with an empty sig", format!("{path}?{without}&sig=")),
        ],
    )
    .await
}

/// Past its time: a link signed with the keyring, or one that the service signs for a second.
pub async fn expired(visit: &Visit) -> Verdict {
    good(visit).await?;
    let probe = visit.probe()?;
    let (target, how) = match &visit.inputs.link_keys {
        Some(keys) => {
            let keys = Keyring::parse(keys.expose())
                .map_err(|error| Finding::Fail(format!("LINK_KEYS: {error}")))?;
            let key = ObjectKey::parse(&probe.key)
                .map_err(|error| Finding::Fail(format!("the upload's key: {error}")))?;
            let exp = visit.clock.seconds().saturating_sub(120);
            (
                sign(&keys, &key, exp),
                "signed with LINK_KEYS for two minutes ago",
            )
        }
        None => (
            short_link(visit, &probe.id).await?,
            "asked for with a life of 1 s, opened after it",
        ),
    };
    let answer = visit.open(target).await?;
    ensure(answer.status == 410, || {
        format!("a link {how}: {}, wanted 410", answer.told())
    })?;
    Ok(format!("a link {how}: {}", answer.told()))
}

/// A link of the keyring's first key that ended at `exp` already, as no signer of ours makes it.
pub(super) fn sign(keys: &Keyring, key: &ObjectKey, exp: u64) -> String {
    let request = SignRequest {
        key,
        exp,
        dl: None,
        ep: 0,
        ip: None,
    };
    // Signed as if it were a minute before its end.
    request
        .sign(keys, exp.saturating_sub(60))
        .unwrap_or_default()
}

async fn short_link(visit: &Visit, id: &str) -> Result<String, Finding> {
    let (edge, token) = (visit.edge()?, visit.token()?);
    let ask = Ask::post(edge, format!("/api/images/{id}/link"))
        .token(token)
        .body("application/json", json!({ "ttl": 1 }).to_string());
    let answer = visit.http.send(ask).await?;
    let json = answer.json();
    let url = json.get("url").and_then(Value::as_str).unwrap_or_default();
    let target = visit.images()?.target_of(url).map(str::to_owned);
    visit.keep_quiet_about(url.rsplit_once("sig=").map_or("", |(_, sig)| sig));
    tokio::time::sleep(Duration::from_secs(3)).await;
    target
        .ok_or_else(|| Finding::Skipped(format!("no short link was to be had: {}", answer.told())))
}

/// One thing changed that the signature covers, or the signature.
pub async fn tampered(visit: &Visit) -> Verdict {
    let (target, _) = good(visit).await?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = |name: &str| {
        let of = |pair: &'_ str| {
            pair.strip_prefix(name)?
                .strip_prefix('=')
                .map(str::to_owned)
        };
        query.split('&').find_map(of).unwrap_or_default()
    };
    let (exp, sig) = (value("exp"), value("sig"));
    let later = exp.parse::<u64>().unwrap_or_default() + 3600;
    let first = if sig.starts_with('A') { 'B' } else { 'A' };
    let other: String = std::iter::once(first).chain(sig.chars().skip(1)).collect();
    visit.keep_quiet_about(&other);
    all_refused(
        visit,
        [
            (
                "with another first character of sig",
                format!("{path}?{}", query.replace(&sig, &other)),
            ),
            (
                "for an hour longer",
                format!("{path}?{}", query.replace(&exp, &later.to_string())),
            ),
            (
                "for another object",
                format!("{}?{query}", other_object(path)),
            ),
            (
                "under another key id",
                format!("{path}?{}", query.replace("kid=", "kid=x")),
            ),
            ("with a parameter more", format!("{path}?dl=a.png&{query}")),
        ],
    )
    .await
}

/// The path with another character before its extension.
fn other_object(path: &str) -> String {
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    let last = if stem.ends_with('0') { '1' } else { '0' };
    let mut stem = stem.to_owned();
    stem.pop();
    format!("{stem}{last}.{extension}")
}

/// Spellings of the good link that lenient servers take for it.
pub async fn spelling(visit: &Visit) -> Verdict {
    let (target, _) = good(visit).await?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let first = path.as_bytes().get(1).copied().unwrap_or(b'g');
    let encoded = format!("/%{first:02x}{}", path.get(2..).unwrap_or_default());
    let slashes = path.replacen('/', "//", 2).replacen("//", "/", 1);
    let reversed: Vec<&str> = query.rsplit('&').collect();
    all_refused(
        visit,
        [
            ("with // before it", format!("/{target}")),
            ("with // inside", format!("{slashes}?{query}")),
            (
                "with its first letter as %67 is for g",
                format!("{encoded}?{query}"),
            ),
            (
                "with %2F for a slash",
                format!(
                    "/{}?{query}",
                    path.trim_start_matches('/').replacen('/', "%2F", 1)
                ),
            ),
            (
                "with its parameters in another order",
                format!("{path}?{}", reversed.join("&")),
            ),
            ("with an unknown parameter", format!("{target}&x=1")),
            ("with = after its end", format!("{target}=")),
        ],
    )
    .await
}

async fn all_refused<const N: usize>(visit: &Visit, links: [(&str, String); N]) -> Verdict {
    let mut saw = Vec::new();
    for (how, target) in links {
        let answer = visit.open(target).await?;
        ensure(refused(&answer), || {
            format!("the good link {how}: {}, wanted a refusal", answer.told())
        })?;
        saw.push(format!("{how} {}", answer.told()));
    }
    Ok(format!("the good link {}", saw.join("; ")))
}

/// A foreign page that embeds the picture.
pub async fn referer(visit: &Visit) -> Verdict {
    let (target, _) = good(visit).await?;
    let images = visit.images()?;
    let mut saw = Vec::new();
    for (how, referer, site, origin) in [
        (
            "with a foreign page's Referer",
            Some("https://hotlink.invalid/gallery"),
            None,
            None,
        ),
        (
            "with Sec-Fetch-Site: cross-site and no Referer",
            None,
            Some("cross-site"),
            None,
        ),
        (
            "with a foreign page's Origin",
            None,
            Some("cross-site"),
            Some("https://hotlink.invalid"),
        ),
    ] {
        let mut ask = Ask::get(images, target);
        if let Some(referer) = referer {
            ask = ask.header("referer", referer);
        }
        if let Some(site) = site {
            ask = ask
                .header("sec-fetch-site", site)
                .header("sec-fetch-mode", "no-cors")
                .header("sec-fetch-dest", "image");
        }
        if let Some(origin) = origin {
            ask = ask.header("origin", origin);
        }
        let answer = visit.http.send(ask).await?;
        ensure(answer.status == 403, || {
            format!("the good link {how}: {}, wanted 403", answer.told())
        })?;
        let read = answer.header("access-control-allow-origin");
        ensure(read.is_none(), || {
            format!("the good link {how}: its scripts may read the answer")
        })?;
        saw.push(format!("{how} {}", answer.told()));
    }
    Ok(format!("the good link {}", saw.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_object_is_another_one() {
        assert_eq!(other_object("/uploads/u/ab0.png"), "/uploads/u/ab1.png");
        assert_eq!(other_object("/uploads/u/abf.png"), "/uploads/u/ab0.png");
    }
}
