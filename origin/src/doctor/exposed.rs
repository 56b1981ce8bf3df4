//! The row about what a client can fetch: pages, their files, documents, tokens and errors hold no key.

use std::collections::VecDeque;

use serde_json::Value;

use super::http::{Answer, Ask};
use super::inputs::Base;
use super::secrets::{Scanner, keyring_in, shape_in};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// Most files of the pages that are followed.
const MOST_FILES: usize = 200;

/// Everything that can be fetched without knowing more than the client does.
pub async fn keys(visit: &Visit) -> Verdict {
    let (edge, images) = (visit.edge()?, visit.images()?);
    let scanner = Scanner::new(&visit.inputs.known);
    let pages = pages(visit, edge, &scanner).await?;
    let token = visit.token()?;
    let wrong = "grant_type=client_credentials&client_id=doctor&client_secret=wrong";
    let asks = [
        Ask::get(edge, "/.well-known/jwks.json"),
        Ask::get(edge, "/.well-known/oauth-authorization-server"),
        Ask::get(edge, "/no/such/page"),
        Ask::get(edge, "/api/usage"),
        Ask::get(edge, "/api/usage").token(token),
        Ask::get(edge, "/api/images").token(token),
        Ask::get(edge, "/api/jobs/x").token(token),
        Ask::get(edge, "/api/upload").token(token),
        Ask::post(edge, "/api/images/x/link")
            .token(token)
            .body("application/json", "{\"x\":"),
        Ask::post(edge, "/oauth/token").body("application/x-www-form-urlencoded", wrong),
        Ask::get(edge, "/v1/models").token(token),
        Ask::get(edge, "/auth/login"),
        Ask::get(images, "/"),
        Ask::get(images, "/generated/nobody/nothing.png"),
        Ask::get(images, "/generated/nobody/nothing.png?exp=1&kid=k&sig=x"),
        Ask::get(images, visit.link()?),
    ];
    let fetched = asks.len();
    for ask in asks {
        let place = ask.place();
        let answer = visit.http.send(ask).await?;
        clean(&scanner, &place, &answer)?;
        if place.ends_with("jwks.json") {
            public_halves(&answer)?;
        }
    }
    Ok(format!(
        "fetched {pages} pages with their files and {fetched} documents, tokens' answers and errors; none holds one of \
         the {} secrets known here, a provider's key, a private key or a keyring",
        scanner.known()
    ))
}

/// Pages and whatever files they name, from file to file.
async fn pages(visit: &Visit, edge: &Base, scanner: &Scanner) -> Result<usize, Finding> {
    let starts = ["/", "/docs", "/openapi.json", "/robots.txt", "/favicon.ico"];
    let mut open: VecDeque<String> = starts.map(str::to_owned).into();
    let mut seen: Vec<String> = open.iter().cloned().collect();
    let mut fetched = 0;
    while let Some(path) = open.pop_front() {
        let answer = visit.http.send(Ask::get(edge, path.clone())).await?;
        clean(scanner, &format!("GET {}{path}", edge.url()), &answer)?;
        fetched += 1;
        for file in files_named(&String::from_utf8_lossy(&answer.body), &path) {
            if seen.len() < MOST_FILES && !seen.contains(&file) {
                seen.push(file.clone());
                open.push_back(file);
            }
        }
    }
    Ok(fetched)
}

/// Paths of files that stand in quotes in a page or script, on the same host.
fn files_named(text: &str, from: &str) -> Vec<String> {
    const ENDINGS: [&str; 9] = [
        ".js",
        ".mjs",
        ".css",
        ".json",
        ".svg",
        ".html",
        ".map",
        ".webmanifest",
        ".txt",
    ];
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let quoted = text.split(['"', '\'', '`', '(', ')', '\n']);
    let named = quoted.filter(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        name.len() <= 200
            && name.chars().all(plain)
            && !name.contains("..")
            && !name.starts_with("//")
            && ENDINGS.iter().any(|ending| name.ends_with(ending))
    });
    named
        .map(|name| match name.strip_prefix("./").unwrap_or(name) {
            rooted if rooted.starts_with('/') => rooted.to_owned(),
            beside => format!("{folder}/{beside}"),
        })
        .collect()
}

/// Fails when body or headers of an answer hold a key.
fn clean(scanner: &Scanner, place: &str, answer: &Answer) -> Result<(), Finding> {
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    for (name, value) in &answer.headers {
        text.push_str(&format!(
            "\n{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    let named = scanner.known_in(&text);
    ensure(named.is_none(), || {
        format!("{place} gives {} away", named.unwrap_or_default())
    })?;
    let shape = shape_in(&text);
    ensure(shape.is_none(), || {
        format!("{place} gives {} away", shape.unwrap_or_default())
    })?;
    ensure(!keyring_in(&text), || {
        format!("{place} gives something like a keyring away")
    })
}

/// A set of keys for everybody has only public halves.
fn public_halves(answer: &Answer) -> Result<(), Finding> {
    let json = answer.json();
    let keys = json
        .get("keys")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    ensure(!keys.is_empty(), || {
        format!("GET /.well-known/jwks.json: {}, no keys", answer.told())
    })?;
    let private = |key: &Value| {
        ["d", "k", "p", "q"]
            .iter()
            .any(|part| key.get(part).is_some())
    };
    ensure(!keys.iter().any(private), || {
        "GET /.well-known/jwks.json holds the private half of a key".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_followed_on_the_same_host_only() {
        let text = r#"<script src="/studio/1/app.js"></script> import x from "./dom.js"; fetch('about.json')
            "https://cdn.example/x.js" "//cdn.example/y.js" "../up.js" "no file""#;
        assert_eq!(
            files_named(text, "/studio/1/app.js"),
            [
                "/studio/1/app.js",
                "/studio/1/dom.js",
                "/studio/1/about.json"
            ]
        );
        assert_eq!(files_named("url(a.css)", "/"), ["/a.css"]);
    }

    proptest! {
        #[test]
        fn any_page_is_read(text in ".{0,80}") {
            for file in files_named(&text, "/a/b") {
                prop_assert!(file.starts_with('/') && !file.starts_with("//"));
            }
        }
    }
}
