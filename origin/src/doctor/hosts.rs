//! Rows about hosts: what is served where, who can get around the front, and TLS.

use std::net::IpAddr;

use super::http::{Answer, Ask};
use super::inputs::Base;
use super::visit::Visit;
use super::{Finding, Verdict, ensure, given};

/// Half a year in seconds: less is no promise.
const HSTS_SECONDS: u64 = 15_552_000;
/// Routes of the operator's listener.
const OPERATOR_ROUTES: [&str; 5] = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/admin",
    "/admin/overview",
];

/// Links lead to a host that is not the API's, where no API answers, no cookie is set, and the other way around.
pub async fn images(visit: &Visit) -> Verdict {
    let (edge, images) = (visit.edge()?, visit.images()?);
    let shared = if edge.is_loopback() {
        edge.url() == images.url()
    } else {
        edge.host() == images.host()
    };
    ensure(!shared, || {
        format!("API and pictures share the host {}", edge.host())
    })?;
    let probe = visit.probe()?;
    let leads = probe.url.split('?').next().unwrap_or_default();
    let target = images.target_of(&probe.url).ok_or_else(|| {
        Finding::Fail(format!(
            "links lead to {leads}, not to IMAGES_URL {}",
            images.url()
        ))
    })?;
    let opened = visit.open(target).await?;
    ensure(opened.header("set-cookie").is_none(), || {
        format!("{} sets a cookie with a picture", images.url())
    })?;
    let mut saw = vec![format!("API at {}, links to {}", edge.url(), images.url())];
    for path in ["/", "/api/usage", "/oauth/token", "/.well-known/jwks.json"] {
        let answer = visit.open(path).await?;
        ensure(matches!(answer.status, 400 | 403 | 404), || {
            format!(
                "GET {path} at the images host: {}; the API answers there",
                answer.told()
            )
        })?;
        saw.push(format!("GET {path} at the images host {}", answer.told()));
    }
    let at_api = visit.http.send(Ask::get(edge, target)).await?;
    ensure(at_api.status >= 400, || {
        format!(
            "the signed link at the API's host: {}; it opens there too",
            at_api.told()
        )
    })?;
    saw.push(format!("the link at the API's host {}", at_api.told()));
    Ok(saw.join("; "))
}

/// The origin asked directly, with a good token and with headers that claim to be the edge's.
pub async fn origin(visit: &Visit) -> Verdict {
    let (edge, token) = (visit.edge()?, visit.token()?);
    let origin = given(&visit.inputs.origin, "ORIGIN_URL is not set")?;
    if origin == edge {
        return Err(Finding::Skipped(
            "ORIGIN_URL is EDGE_URL: nothing stands in front".into(),
        ));
    }
    let ask = Ask::get(origin, "/api/usage")
        .token(token)
        .header("signet-client-ip", "198.51.100.1")
        .header("signature-input", "edge=();tag=\"signet-edge-v1\"")
        .header("signature", "edge=:AAAA:");
    let answer = match visit.http.send(ask).await {
        Ok(answer) => answer,
        Err(error) => return Ok(format!("around the front: {error}")),
    };
    if matches!(answer.status, 403 | 421) {
        return Ok(format!(
            "GET {}/api/usage with a good token and no edge's signature: {}",
            origin.url(),
            answer.told()
        ));
    }
    if origin.is_loopback() && !edge.is_loopback() {
        return Ok(format!(
            "{} is a loopback address: only this machine gets there",
            origin.url()
        ));
    }
    Err(Finding::Fail(format!(
        "GET {}/api/usage with a good token, around the front: {}, wanted 403 or no answer (edge.require, or a bind \
         that only the front reaches)",
        origin.url(),
        answer.told()
    )))
}

/// Metrics, health and the operator's page from where clients stand.
pub async fn operator(visit: &Visit) -> Verdict {
    let edge = visit.edge()?;
    let mut saw = Vec::new();
    let fronts = [
        Some(edge),
        visit.inputs.images.as_ref(),
        visit.inputs.origin.as_ref(),
    ];
    for base in fronts.into_iter().flatten() {
        for path in OPERATOR_ROUTES {
            let Ok(answer) = visit.http.send(Ask::get(base, path)).await else {
                continue;
            };
            ensure(!is_open(&answer), || {
                format!(
                    "GET {}{path}: {}; the operator's routes answer there",
                    base.url(),
                    answer.told()
                )
            })?;
        }
        saw.push(format!(
            "{} at {} refused",
            OPERATOR_ROUTES.join(" "),
            base.url()
        ));
    }
    let Some(operator) = &visit.inputs.operator else {
        saw.push("OPERATOR_URL is not set, so its listener was not asked".into());
        return Ok(saw.join("; "));
    };
    if !edge.is_loopback() {
        let beside = edge.with_port(operator.port());
        if let Ok(answer) = visit.http.send(Ask::get(&beside, "/metrics")).await {
            ensure(!is_open(&answer), || {
                format!(
                    "GET {}/metrics: {}; the operator's port is open to the world",
                    beside.url(),
                    answer.told()
                )
            })?;
        }
        saw.push(format!("{} is closed", beside.url()));
    }
    ensure(is_private(operator), || {
        format!(
            "OPERATOR_URL {} is neither a loopback nor a private address",
            operator.url()
        )
    })?;
    saw.push(format!(
        "{} is a loopback or private address",
        operator.url()
    ));
    // The page may be seen there; what it shows needs the scope admin, which the client does not have.
    for (whose, token) in [
        ("no token", None),
        ("the client's token", visit.token().ok()),
    ] {
        let mut ask = Ask::get(operator, "/admin/overview");
        if let Some(token) = token {
            ask = ask.token(token);
        }
        let Ok(answer) = visit.http.send(ask).await else {
            continue;
        };
        ensure(matches!(answer.status, 401 | 403 | 404), || {
            format!(
                "GET {}/admin/overview with {whose}: {}",
                operator.url(),
                answer.told()
            )
        })?;
        saw.push(format!(
            "/admin/overview there with {whose} {}",
            answer.told()
        ));
    }
    Ok(saw.join("; "))
}

/// Whether a route of the operator's answers: its content, a way on, or the wish for a token.
fn is_open(answer: &Answer) -> bool {
    let metrics = b"signet_";
    answer.status < 400
        || answer.status == 401
        || answer
            .body
            .windows(metrics.len())
            .any(|part| part == metrics)
}

fn is_private(base: &Base) -> bool {
    let host = base.host().trim_matches(['[', ']']);
    let private = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        // Names without a dot, and those of private zones.
        Err(_) => {
            !host.contains('.')
                || [".internal", ".local", ".svc"]
                    .iter()
                    .any(|end| host.ends_with(end))
        }
    };
    private || base.is_loopback()
}

/// The hosts that clients see, when TLS is to be asked of them.
fn public(visit: &Visit) -> Result<[&Base; 2], Finding> {
    let hosts = [visit.edge()?, visit.images()?];
    if hosts.iter().any(|base| base.is_loopback()) {
        return Err(Finding::Skipped("on loopback there is no HTTPS".into()));
    }
    Ok(hosts)
}

/// A certificate that this machine trusts, and nothing in clear but the way there.
pub async fn https(visit: &Visit) -> Verdict {
    let mut saw = Vec::new();
    for base in public(visit)? {
        ensure(base.is_https(), || format!("{} is not HTTPS", base.url()))?;
        visit.http.send(Ask::get(base, "/")).await?;
        let plain = base.plain_http();
        match visit.http.send(Ask::get(&plain, "/")).await {
            Err(_) => saw.push(format!(
                "{} has a trusted certificate; no plain HTTP answers",
                base.url()
            )),
            Ok(answer) => {
                let to = answer.header("location").unwrap_or_default().to_owned();
                let sends =
                    matches!(answer.status, 301 | 302 | 307 | 308) && to.starts_with("https://");
                ensure(sends || answer.status == 421, || {
                    format!(
                        "GET {}/: {}, wanted a redirect to HTTPS",
                        plain.url(),
                        answer.told()
                    )
                })?;
                saw.push(format!(
                    "{} has a trusted certificate; plain HTTP {}",
                    base.url(),
                    answer.status
                ));
            }
        }
    }
    Ok(saw.join("; "))
}

/// Strict-Transport-Security for half a year at least.
pub async fn hsts(visit: &Visit) -> Verdict {
    let mut saw = Vec::new();
    for base in public(visit)? {
        let answer = visit.http.send(Ask::get(base, "/")).await?;
        let header = answer
            .header("strict-transport-security")
            .unwrap_or_default();
        let seconds = header
            .split(';')
            .find_map(|part| {
                part.trim()
                    .to_ascii_lowercase()
                    .strip_prefix("max-age=")?
                    .trim_matches('"')
                    .parse()
                    .ok()
            })
            .unwrap_or(0u64);
        ensure(seconds >= HSTS_SECONDS, || {
            format!(
                "{}: Strict-Transport-Security {header:?}, wanted max-age of {HSTS_SECONDS} or more",
                base.url()
            )
        })?;
        saw.push(format!("{}: max-age {seconds}", base.url()));
    }
    Ok(saw.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let private = |url: &str| is_private(&Base::parse("X", url).unwrap());
        for good in [
            "http://127.0.0.1:9090",
            "http://10.0.0.3:9090",
            "http://[fd00::1]:1",
            "http://signet:9090",
            "http://a.internal",
        ] {
            assert!(private(good), "{good}");
        }
        for bad in [
            "http://203.0.113.4:9090",
            "http://metrics.example.com",
            "http://[2001:db8::1]:1",
        ] {
            assert!(!private(bad), "{bad}");
        }
    }
}
