//! The embedded images listener answers as the contract has it.

use crate::http::Request;
use crate::program::{ALL_SCOPES, Service};

fn published() -> (Service, String, Vec<u8>) {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let url = service.picture(&token)["url"].as_str().unwrap().to_owned();
    let body = service.link(&url).send().ok().body;
    (service, url, body)
}

#[test]
fn an_answer_carries_every_header_of_the_contract() {
    let (service, url, body) = published();
    let answer = service.link(&url).send();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex"),
        ("accept-ranges", "bytes"),
        ("content-type", "image/png"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(
        answer.header("content-length"),
        Some(body.len().to_string().as_str())
    );
    let cache = answer.header("cache-control").unwrap();
    let age: u64 = cache
        .strip_prefix("private, max-age=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=3600).contains(&age), "{cache}");
    assert!(answer.header("etag").unwrap().starts_with('"'));
    assert!(
        ["same-site", "cross-origin"]
            .contains(&answer.header("cross-origin-resource-policy").unwrap())
    );
    assert!(answer.header("set-cookie").is_none());
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn head_ranges_and_conditions_work() {
    let (service, url, body) = published();
    let target = service.link(&url);
    let images = service.images.unwrap();
    let path = &url[url.find("/generated/").unwrap()..];
    let head = Request::new(images, "HEAD", path)
        .host(Some(&format!("localhost:{}", images.port())))
        .send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        Some(body.len().to_string().as_str())
    );
    let size = body.len();
    for (range, first, last) in [
        ("bytes=0-9", 0, 9),
        ("bytes=5-", 5, size - 1),
        ("bytes=-3", size - 3, size - 1),
        ("bytes=0-99999999", 0, size - 1),
    ] {
        let part = target.clone().header("range", range).send();
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            Some(format!("bytes {first}-{last}/{size}").as_str())
        );
        assert_eq!(part.body, &body[first..=last], "{range}");
    }
    let outside = target
        .clone()
        .header("range", format!("bytes={size}-"))
        .send();
    assert_eq!(outside.problem(), (416, "range_not_satisfiable".into()));
    assert_eq!(
        outside.header("content-range"),
        Some(format!("bytes */{size}").as_str())
    );
    let etag = head.header("etag").unwrap();
    let same = target.clone().header("if-none-match", etag).send();
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(
        target
            .clone()
            .header("if-none-match", "\"other\"")
            .send()
            .status,
        200
    );
    assert_eq!(
        target
            .clone()
            .header("range", "bytes=0-0")
            .header("if-range", etag)
            .send()
            .status,
        206
    );
    assert_eq!(
        target
            .clone()
            .header("range", "bytes=0-0")
            .header("if-range", "\"other\"")
            .send()
            .status,
        200
    );
}

#[test]
fn other_spellings_of_a_good_link_are_refused() {
    let (service, url, _) = published();
    let images = service.images.unwrap();
    let path = &url[url.find("/generated/").unwrap()..];
    let (key, query) = path.split_once('?').unwrap();
    let mut reordered: Vec<&str> = query.split('&').collect();
    reordered.reverse();
    for target in [
        format!("/{path}"),
        format!("{key}?{query}&"),
        format!("{key}?&{query}"),
        format!("{key}?{}", reordered.join("&")),
        format!("{key}/?{query}"),
        format!("{}?{query}", key.replace('g', "%67")),
        format!("{}?{query}", key.replace("/generated/", "/generated//")),
        format!("{}?{query}", key.replace("/generated/", "/generated/./")),
        format!("{key}?{query}="),
        format!("{key}?{}", query.replace("exp=", "exp=0")),
        format!("{key}?{query}&x=1"),
        format!("{key}?{query}&width=1"),
    ] {
        let answer = Request::new(images, "GET", &target)
            .host(Some(&format!("localhost:{}", images.port())))
            .send();
        assert!(
            [400, 403].contains(&answer.status),
            "{target}: {}",
            answer.status
        );
        answer.code();
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = Request::new(images, method, path)
            .host(Some(&format!("localhost:{}", images.port())))
            .send();
        assert_eq!(answer.problem(), (405, "method_not_allowed".into()));
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn an_expired_link_says_so_only_to_those_who_hold_a_valid_one() {
    let (service, url, _) = published();
    let key = url[url.find("/generated/").unwrap() + 1..]
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let short = service
        .home()
        .succeed(&["link", "sign", &key, "--ttl", "1"]);
    let target = short.trim()[short.find("/generated/").unwrap()..].to_owned();
    let images = service.images.unwrap();
    let ask = |target: &str| {
        Request::new(images, "GET", target)
            .host(Some(&format!("localhost:{}", images.port())))
            .send()
    };
    while ask(&target).status == 200 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(ask(&target).problem(), (410, "link_expired".into()));
    let (head, sig) = target.split_once("sig=").unwrap();
    let other = if sig.starts_with('A') { "B" } else { "A" };
    assert_eq!(
        ask(&format!("{head}sig={other}{}", &sig[1..])).problem(),
        (403, "bad_signature".into())
    );
}

#[test]
fn a_foreign_page_embeds_nothing() {
    let (service, url, _) = published();
    let target = service.link(&url);
    let foreign = target
        .clone()
        .header("referer", "https://evil.example/")
        .header("sec-fetch-site", "cross-site");
    let embedded = foreign
        .clone()
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "image")
        .send();
    assert_eq!(embedded.problem(), (403, "referer_denied".into()));
    let followed = foreign
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .send();
    assert_eq!(followed.status, 200);
    let hidden = target
        .clone()
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "image");
    assert_eq!(hidden.send().problem(), (403, "referer_denied".into()));
    let own = target
        .header("referer", format!("http://{}/", service.public))
        .header("sec-fetch-site", "cross-site");
    assert_eq!(own.send().status, 200);
}

#[test]
fn the_program_signs_verifies_and_explains_without_showing_a_mac() {
    let (service, url, _) = published();
    let home = service.home();
    // The service took a free port, so what signs here must be told the host.
    assert_eq!(home.succeed(&["link", "verify", &url]).trim(), "ok");
    let (head, sig) = url.split_once("sig=").unwrap();
    let other = if sig.starts_with('A') { "B" } else { "A" };
    let bad = format!("{head}sig={other}{}", &sig[1..]);
    let output = home.run(&["link", "verify", &bad]);
    assert_eq!(output.status.code(), Some(1));
    let told = home.succeed(&["link", "explain", &bad]);
    assert!(told.contains("refused") && !told.contains(sig), "{told}");
    let told = home.succeed(&["link", "explain", &url]);
    assert!(told.contains("accepted") && !told.contains(sig), "{told}");
}

#[test]
fn a_revoked_link_opens_no_more_and_the_owners_others_do() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let image = service.picture(&token);
    let one = image["url"].as_str().unwrap().to_owned();
    let target = format!("/api/images/{}/link", image["id"].as_str().unwrap());
    let wish = serde_json::json!({ "dl": "x.png" });
    let other = service.post(&target).token(&token).json(&wish).send().ok();
    let other = other.json()["url"].as_str().unwrap().to_owned();
    service.home().succeed(&["link", "revoke", &one]);
    assert_eq!(
        service.link(&one).send().problem(),
        (403, "link_revoked".into())
    );
    assert_eq!(service.link(&other).send().status, 200);
    let forged = service
        .home()
        .run(&["link", "revoke", &one.replace("sig=", "sig=A")]);
    assert!(!forged.status.success());
}
