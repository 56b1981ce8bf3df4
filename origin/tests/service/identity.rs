//! Who somebody is, at several origins behind a load balancer that sends each request anywhere.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Service};
use crate::redis::{Redis, origin};

/// Two origins that start at the same moment on a state that has nothing yet.
fn pair(redis: &Redis, store: &std::path::Path) -> [Service; 2] {
    std::thread::scope(|scope| {
        let start = || scope.spawn(|| origin(redis, store).serve());
        [start(), start()].map(|one| one.join().unwrap())
    })
}

/// What becomes true within seconds.
fn soon(what: &str, is: impl Fn() -> bool) {
    let seen = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        is()
    });
    assert!(seen, "{what}");
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// As the page at this address sends it.
fn from_page(request: Request, page: std::net::SocketAddr) -> Request {
    request
        .header("origin", format!("http://{page}"))
        .header("signet-studio", "1")
}

#[test]
fn who_signed_in_at_one_origin_is_signed_in_at_all_until_they_sign_out_anywhere() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let signed_in = cookie(&one.get("/auth/login").send());
    let lists = |service: &Service| {
        let list = service.get("/api/images").header("cookie", &*signed_in);
        list.send().status
    };
    assert_eq!((lists(&other), lists(&one)), (200, 200));
    // A restart ends nobody's session.
    let one = one.kill().serve();
    assert_eq!(lists(&one), 200);
    let sign_out = other.post("/auth/logout").header("cookie", &*signed_in);
    assert_eq!(from_page(sign_out, other.public).send().status, 204);
    assert_eq!((lists(&one), lists(&other)), (401, 401));
}

#[test]
fn an_operator_is_known_at_every_origin_and_each_shows_what_was_done_at_another() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let client = one.client("admin");
    one.client_of(Some("somebody"), "images:read");
    let page = |service: &Service, method, path| Request::new(service.operator, method, path);
    let sign_in = page(&one, "POST", "/admin/session")
        .json(&json!({ "client_id": client.id, "client_secret": client.secret }));
    let answer = from_page(sign_in, one.operator).send();
    assert_eq!(answer.status, 204);
    let cookie = cookie(&answer);
    let suspend = page(&other, "POST", "/admin/users/somebody/suspend").header("cookie", &*cookie);
    assert_eq!(from_page(suspend, other.operator).send().status, 204);
    let seen = |service: &Service| {
        let overview = page(service, "GET", "/admin/overview").header("cookie", &*cookie);
        let answer = overview.send();
        (answer.status == 200).then(|| answer.json())
    };
    for service in [&one, &other] {
        let seen = seen(service).unwrap();
        let acts: Vec<_> = seen["audit"].as_array().unwrap().iter().collect();
        assert_eq!(acts.len(), 2, "{acts:?}");
        assert_eq!(acts[0]["action"], "suspend");
        assert_eq!(seen["decided"][0]["user"], "somebody");
    }
    let sign_out = page(&one, "DELETE", "/admin/session").header("cookie", &*cookie);
    assert_eq!(from_page(sign_out, one.operator).send().status, 204);
    assert_eq!(seen(&other), None);
}

#[test]
fn all_origins_sign_with_the_same_keys_and_refuse_what_one_of_them_revoked() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let keys = |service: &Service| -> Value {
        let set = service.get("/.well-known/jwks.json").send().ok();
        set.json()["keys"].clone()
    };
    let first = keys(&one);
    assert_eq!(first.as_array().unwrap().len(), 1);
    assert_eq!(keys(&other), first, "though both found none at first");
    let client = one.client(ALL_SCOPES);
    let (revoked, token) = (one.token_of(&client), one.token_of(&client));
    let opens = |service: &Service, token: &str| {
        let list = service.get("/api/images").token(token).send();
        list.status == 200
    };
    assert!(opens(&other, &revoked));
    let form = format!(
        "client_id={}&client_secret={}&token={revoked}",
        client.id, client.secret
    );
    let revoke = one.post("/oauth/revoke");
    let revoke = revoke.body("application/x-www-form-urlencoded", form.as_str());
    assert_eq!(revoke.send().status, 200);
    assert!(!opens(&one, &revoked));
    soon("a token revoked at one origin opens another", || {
        !opens(&other, &revoked)
    });
    assert!(opens(&other, &token));
    // A key that leaked is gone everywhere.
    other
        .home()
        .succeed(&["keys", "rotate", "--tokens", "--at-once"]);
    soon("a key that leaked still counts", || {
        !opens(&one, &token) && !opens(&other, &token)
    });
    assert_eq!(keys(&one), keys(&other));
    assert_ne!(keys(&one), first);
    assert!(opens(&other, &one.token_of(&client)));
}

#[test]
fn a_prompt_that_is_repeated_at_another_origin_is_seen_as_repeated() {
    let (redis, store) = (Redis::start(), tempfile::tempdir().unwrap());
    let [one, other] = pair(&redis, store.path());
    let client = one.client(ALL_SCOPES);
    let token = one.token_of(&client);
    let hash = |service: &Service| {
        service.picture(&token);
        let log = service.log();
        let line = log.lines().find(|line| line.contains("\"prompt_hash\""));
        let line: Value = serde_json::from_str(line.unwrap()).unwrap();
        line["prompt_hash"].as_str().unwrap().to_owned()
    };
    let first = hash(&one);
    assert!(first.starts_with("hmac-sha256:p-"));
    assert_eq!(hash(&other), first);
    let told = "signet_prompt_repeats{by=\"one_user\"} 2";
    for service in [&one, &other] {
        soon("each origin counts alone", || {
            service.metrics().contains(told)
        });
    }
}
