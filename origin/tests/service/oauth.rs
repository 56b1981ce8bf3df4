//! Tokens after they were issued: revoked, looked into, and signed by keys that change.

use serde_json::Value;

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Client, Service};

fn post(service: &Service, path: &str, client: &Client, more: &str) -> Answer {
    let form = format!(
        "client_id={}&client_secret={}&{more}",
        client.id, client.secret
    );
    service
        .post(path)
        .body("application/x-www-form-urlencoded", form.as_str())
        .send()
}

fn introspect(service: &Service, client: &Client, token: &str) -> Value {
    post(
        service,
        "/oauth/introspect",
        client,
        &format!("token={token}"),
    )
    .ok()
    .json()
}

fn reads(service: &Service, token: &str) -> u16 {
    service.get("/api/images").token(token).send().status
}

#[test]
fn a_revoked_token_opens_nothing_any_more_not_even_after_a_kill() {
    let service = Service::start(&[("SIGNET_AUTH__ISSUER", "https://issuer.example")]);
    let client = service.client(ALL_SCOPES);
    let (token, other) = (service.token_of(&client), service.token_of(&client));
    assert_eq!(reads(&service, &token), 200);
    let told = introspect(&service, &client, &token);
    assert_eq!(
        (&told["active"], &told["client_id"]),
        (&true.into(), &client.id.as_str().into())
    );
    assert_eq!(told["sub"], client.user.as_str());
    assert_eq!(
        post(
            &service,
            "/oauth/revoke",
            &client,
            &format!("token={token}")
        )
        .status,
        200
    );
    assert_eq!(reads(&service, &token), 401);
    assert_eq!(
        introspect(&service, &client, &token),
        serde_json::json!({ "active": false })
    );
    assert_eq!(reads(&service, &other), 200);
    let service = service.kill().serve();
    assert_eq!(reads(&service, &token), 401);
    assert_eq!(reads(&service, &other), 200);
}

#[test]
fn nobody_revokes_or_looks_into_what_is_anothers() {
    let service = Service::start(&[]);
    let (mine, theirs) = (service.client(ALL_SCOPES), service.client(ALL_SCOPES));
    let operator = service.client("admin images:read");
    let token = service.token_of(&theirs);
    let refused = post(&service, "/oauth/revoke", &mine, &format!("token={token}"));
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (400, Some("unauthorized_client"))
    );
    assert_eq!(reads(&service, &token), 200);
    assert_eq!(
        introspect(&service, &mine, &token),
        serde_json::json!({ "active": false })
    );
    assert_eq!(introspect(&service, &operator, &token)["active"], true);
    // What is no token is fine to revoke, and says nothing.
    for unknown in ["x", "a.b.c", "rt_guess"] {
        assert_eq!(
            post(
                &service,
                "/oauth/revoke",
                &mine,
                &format!("token={unknown}")
            )
            .status,
            200
        );
        assert_eq!(introspect(&service, &mine, unknown)["active"], false);
    }
    for path in ["/oauth/revoke", "/oauth/introspect"] {
        let form = format!("token={token}");
        let anonymous = service
            .post(path)
            .body("application/x-www-form-urlencoded", form.as_str())
            .send();
        assert_eq!(anonymous.status, 401, "{path}");
        assert_eq!(
            post(&service, path, &mine, "").status,
            400,
            "{path} without a token"
        );
    }
    service.home().succeed(&["user", "suspend", &theirs.user]);
    assert_eq!(introspect(&service, &operator, &token)["active"], false);
}

fn kids(service: &Service) -> Vec<String> {
    let jwks = service.get("/.well-known/jwks.json").send().ok().json();
    let keys = jwks["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn rotated_keys_overlap_and_leaked_ones_are_gone_without_a_restart() {
    let service = Service::start(&[]);
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let old = kids(&service);
    let new = service
        .home()
        .succeed(&["keys", "rotate", "--tokens"])
        .trim()
        .to_owned();
    let wait = |wanted: Vec<String>| {
        for _ in 0..400 {
            if kids(&service) == wanted {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{:?} are not {wanted:?}", kids(&service));
    };
    wait(vec![new, old[0].clone()]);
    assert_eq!(reads(&service, &token), 200);
    assert_eq!(reads(&service, &service.token_of(&client)), 200);
    let leaked = service
        .home()
        .succeed(&["keys", "rotate", "--tokens", "--at-once"]);
    wait(vec![leaked.trim().to_owned()]);
    assert_eq!(reads(&service, &token), 401, "signed by a key that is gone");
    assert_eq!(reads(&service, &service.token_of(&client)), 200);
}

#[test]
fn the_metadata_names_endpoints_that_are_there() {
    let service = Service::start(&[]);
    let told = service
        .get("/.well-known/oauth-authorization-server")
        .send()
        .ok()
        .json();
    let issuer = told["issuer"].as_str().unwrap();
    for name in [
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
    ] {
        let path = told[name].as_str().unwrap().strip_prefix(issuer).unwrap();
        assert_eq!(
            service.post(path).send().status,
            400,
            "{path}: no form, but there"
        );
    }
    let unsupported = service.ask_token(&format!(
        "{}&scope=admin",
        service.client("images:read").form()
    ));
    assert_eq!(unsupported.json()["error"], "invalid_scope");
    let exchange = service.client(ALL_SCOPES).form().replace(
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    );
    assert_eq!(
        service.ask_token(&exchange).json()["error"],
        "unsupported_grant_type"
    );
    let refresh = service
        .client(ALL_SCOPES)
        .form()
        .replace("client_credentials", "refresh_token");
    assert_eq!(
        service
            .ask_token(&format!("{refresh}&refresh_token=rt_x"))
            .json()["error"],
        "invalid_grant"
    );
}

/// Resident memory of the program in MiB.
fn resident(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

#[test]
fn nine_hundred_wrong_secrets_cost_little_memory_and_nobody_waits_for_them() {
    let service = Service::start(&[("SIGNET_EDGE__CLIENT_ADDRESS_HEADER", "x-real-ip")]);
    let client = service.client(ALL_SCOPES);
    let ask = |id: &str, secret: &str, from: String| {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = Request::new(service.public, "POST", "/oauth/token");
        request
            .header("x-real-ip", from)
            .body("application/x-www-form-urlencoded", form)
    };
    let honest = || ask(&client.id, &client.secret, "198.51.100.1".into()).send();
    assert_eq!(honest().status, 200);
    let before = resident(&service);
    std::thread::scope(|scope| {
        for thread in 0..30 {
            let (ask, client) = (&ask, &client);
            scope.spawn(move || {
                for n in 0..30 {
                    let made_up = format!("cl_{thread}x{n}");
                    let id = if n % 2 == 0 { &client.id } else { &made_up };
                    let from = format!("192.0.2.{}", (thread * 30 + n) % 250);
                    let status = ask(id, "wrong", from).send().status;
                    assert!([401, 429].contains(&status), "{status}");
                }
            });
        }
        let begun = std::time::Instant::now();
        assert_eq!(honest().status, 200);
        println!("an honest token after {:?}", begun.elapsed());
        assert!(begun.elapsed().as_millis() < 2_000, "{:?}", begun.elapsed());
    });
    let more = resident(&service).saturating_sub(before);
    println!("{before} MiB, and {more} more");
    assert!(more <= 50, "{more} MiB");
}
