//! One user's pictures, tokens and scopes open nothing of another's.

use serde_json::json;

use crate::http::Request;
use crate::program::{ALL_SCOPES, Service, quick};

#[test]
fn another_users_picture_is_as_absent_as_one_that_never_was() {
    let service = Service::start(&[]);
    let (owner, other) = (service.token(ALL_SCOPES), service.token(ALL_SCOPES));
    let image = service.picture(&owner);
    let id = image["id"].as_str().unwrap();
    for (method, target) in [
        ("DELETE", format!("/api/images/{id}")),
        ("POST", format!("/api/images/{id}/link")),
        ("POST", format!("/api/images/{id}/keep")),
        ("DELETE", format!("/api/images/{id}/keep")),
    ] {
        let theirs = Request::new(service.public, method, &target)
            .token(&other)
            .send();
        assert_eq!(
            theirs.problem(),
            (404, "not_found".into()),
            "{method} {target}"
        );
        let absent = target.replace(id, "00000000-0000-7000-8000-000000000000");
        let never = Request::new(service.public, method, &absent)
            .token(&other)
            .send();
        assert_eq!(never.body, theirs.body, "{method} {target}");
    }
    let listed = service.get("/api/images").token(&other).send().ok().json();
    assert_eq!(listed["images"], json!([]));
    assert_eq!(
        service.link(image["url"].as_str().unwrap()).send().status,
        200
    );
}

#[test]
fn clients_of_one_user_share_the_pictures() {
    let service = Service::start(&[]);
    let one = service.client_of(Some("usr_1"), ALL_SCOPES);
    let two = service.client_of(Some("usr_1"), ALL_SCOPES);
    assert_ne!(one.id, two.id);
    let image = service.picture(&service.token_of(&one));
    assert!(
        image["key"]
            .as_str()
            .unwrap()
            .starts_with("generated/usr_1/")
    );
    let listed = service
        .get("/api/images")
        .token(&service.token_of(&two))
        .send()
        .ok()
        .json();
    assert_eq!(listed["images"][0]["id"], image["id"]);
}

#[test]
fn a_token_for_one_scope_opens_nothing_else() {
    let service = Service::start(&[]);
    let id = "00000000-0000-7000-8000-000000000000";
    let routes = [
        ("POST", "/api/generate".to_owned(), "images:generate"),
        ("GET", "/api/images".into(), "images:read"),
        ("POST", format!("/api/images/{id}/link"), "images:read"),
        ("DELETE", format!("/api/images/{id}"), "images:write"),
        ("POST", format!("/api/images/{id}/keep"), "images:write"),
        ("DELETE", format!("/api/images/{id}/keep"), "images:write"),
        ("GET", "/api/usage".into(), "billing:read"),
    ];
    for scope in [
        "images:generate",
        "images:read",
        "images:write",
        "uploads:write",
        "billing:read",
        "admin",
    ] {
        let token = service.token(scope);
        for (method, target, needed) in &routes {
            let answer = Request::new(service.public, method, target)
                .token(&token)
                .json(&quick())
                .send();
            if scope == *needed {
                assert!(
                    ![401, 403].contains(&answer.status),
                    "{scope} {method} {target}: {answer:?}"
                );
            } else {
                assert_eq!(
                    answer.problem(),
                    (403, "insufficient_scope".into()),
                    "{scope} {method} {target}"
                );
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(
                    challenge.contains("insufficient_scope") && challenge.contains(needed),
                    "{challenge}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_token_of_ours_is_refused() {
    let service = Service::start(&[]);
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let mut parts: Vec<&str> = token.split('.').collect();
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", parts[1]);
    let swapped = if parts[2].starts_with('A') {
        format!("B{}", &parts[2][1..])
    } else {
        format!("A{}", &parts[2][1..])
    };
    parts[2] = &swapped;
    let forged = parts.join(".");
    for value in [
        "",
        "Bearer",
        "Bearer ",
        &format!("Basic {token}"),
        &format!("Bearer {}", client.secret),
        &format!("Bearer {none}"),
        &format!("Bearer {forged}"),
        &format!("Bearer {token}.x"),
        &token,
    ] {
        let answer = service
            .get("/api/images")
            .header("authorization", value)
            .send();
        assert_eq!(
            answer.problem(),
            (401, "unauthorized".into()),
            "{value:.30}"
        );
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
    }
    assert_eq!(
        service.get("/api/images").send().problem(),
        (401, "unauthorized".into())
    );
    assert_eq!(service.get("/api/images").token(&token).send().status, 200);
}

#[test]
fn a_suspended_user_makes_nothing_and_their_links_close_at_once() {
    let service = Service::start(&[]);
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let url = service.picture(&token)["url"].as_str().unwrap().to_owned();
    service.home().succeed(&["user", "suspend", &client.user]);
    assert_eq!(
        service.generate(&token, &quick()).problem(),
        (403, "suspended".into())
    );
    assert_eq!(
        service.link(&url).send().problem(),
        (403, "link_revoked".into())
    );
    assert_eq!(service.ask_token(&client.form()).status, 400);
    service.home().succeed(&["user", "resume", &client.user]);
    assert_eq!(service.link(&url).send().status, 200);
    assert_eq!(service.generate(&token, &quick()).status, 200);
    service
        .home()
        .succeed(&["user", "revoke-links", &client.user]);
    assert_eq!(
        service.link(&url).send().problem(),
        (403, "link_revoked".into())
    );
    let listed = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(
        service
            .link(listed["images"][0]["url"].as_str().unwrap())
            .send()
            .status,
        200
    );
    service.home().succeed(&["client", "disable", &client.id]);
    assert_eq!(service.ask_token(&client.form()).status, 401);
}

#[test]
fn a_blocked_address_opens_no_link_and_no_route_until_it_is_allowed_again() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let url = service.picture(&token)["url"].as_str().unwrap().to_owned();
    let block = ["address", "block", "127.0.0.1", "--hours", "2"];
    let told = service.home().succeed(&block);
    assert!(told.starts_with("127.0.0.1 is blocked until "), "{told}");
    assert_eq!(
        service.link(&url).send().problem(),
        (403, "link_revoked".into())
    );
    // The first block of all is noticed within two seconds; after that each is at once.
    let call = || service.get("/api/images").token(&token).send();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while call().status == 200 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(call().problem(), (403, "address_revoked".into()));
    let listed = service.home().succeed(&["address", "list"]);
    assert!(listed.starts_with("127.0.0.1  until "), "{listed}");
    service.home().succeed(&["address", "allow", "127.0.0.1"]);
    assert_eq!(call().status, 200);
    assert_eq!(service.link(&url).send().status, 200);
    for wrong in ["127.0.0.0/8", "nowhere", "2001:db8::/32"] {
        let output = service.home().run(&["address", "block", wrong]);
        assert!(!output.status.success(), "{wrong}");
    }
    let output = service.home().run(&["address", "allow", "127.0.0.1"]);
    assert!(!output.status.success(), "it is not blocked");
}
