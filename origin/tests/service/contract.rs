//! Words of the contract that belong to no one behaviour: challenges, methods, forms, shapes and headers of refusals.

use serde_json::{Value, json};

use crate::http::Request;
use crate::program::{ALL_SCOPES, Client, Service, quick};

#[test]
fn a_request_without_a_token_is_challenged_without_an_error_and_a_bad_one_with_it() {
    let service = Service::start(&[]);
    let challenge = |request: Request| {
        let answer = request.send();
        assert_eq!(answer.problem(), (401, "unauthorized".into()));
        answer.header("www-authenticate").unwrap().to_owned()
    };
    let ask = || service.get("/api/usage");
    assert_eq!(challenge(ask()), "Bearer realm=\"signet\"");
    let bad = "Bearer realm=\"signet\", error=\"invalid_token\"";
    assert_eq!(challenge(ask().token("x")), bad);
    assert_eq!(challenge(ask().header("authorization", "Basic eDp4")), bad);
    let token = service.token(ALL_SCOPES);
    assert_eq!(challenge(ask().token(&token).token(&token)), bad);
    assert_eq!(ask().token(&token).send().status, 200);
}

#[test]
fn the_operators_page_tells_which_scope_it_wants() {
    let service = Service::start(&[]);
    let ask = |token: &str| {
        let page = Request::new(service.operator, "GET", "/admin")
            .token(token)
            .send();
        let challenge = page.header("www-authenticate").map(str::to_owned);
        (page.status, challenge.unwrap_or_default())
    };
    let (status, challenge) = ask(&service.token(ALL_SCOPES));
    let wanted = "Bearer realm=\"signet\", error=\"insufficient_scope\", scope=\"admin\"";
    assert_eq!((status, challenge.as_str()), (403, wanted));
    assert_eq!(ask(&service.token("admin")), (200, String::new()));
    assert_eq!(ask("x").0, 401);
}

#[test]
fn every_listener_answers_other_methods_with_those_of_the_route() {
    let service = Service::start(&[]);
    let token = service.token("admin");
    for (listener, method, path, allowed) in [
        (service.public, "PUT", "/api/generate", "POST"),
        (service.public, "GET", "/oauth/token", "POST"),
        (service.public, "POST", "/", "GET, HEAD"),
        (service.public, "DELETE", "/studio/x/y.js", "GET, HEAD"),
        (service.operator, "POST", "/metrics", "GET, HEAD"),
        (service.operator, "DELETE", "/healthz", "GET, HEAD"),
        (service.operator, "POST", "/readyz", "GET, HEAD"),
        (service.operator, "POST", "/admin", "GET, HEAD"),
        (service.operator, "POST", "/admin/overview", "GET, HEAD"),
        (service.operator, "GET", "/admin/session", "POST, DELETE"),
        (service.operator, "GET", "/admin/users/u/suspend", "POST"),
        (service.operator, "PUT", "/operator/x/y.js", "GET, HEAD"),
    ] {
        let answer = Request::new(listener, method, path).token(&token).send();
        let told = (answer.status, answer.header("allow"));
        assert_eq!(told, (405, Some(allowed)), "{method} {path}");
        assert!(answer.header("x-request-id").is_some(), "{method} {path}");
        if !path.starts_with("/oauth/") {
            assert_eq!(answer.code(), "method_not_allowed", "{method} {path}");
        }
    }
}

#[test]
fn probes_may_ask_for_the_head_alone() {
    let service = Service::start(&[]);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = Request::new(service.operator, "HEAD", path).send();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn a_secret_in_the_query_is_refused_however_its_name_is_written() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    for query in [
        "access_token=x",
        "a=1&%61ccess%5Ftoken=x",
        "a;token=x",
        "client_secret",
    ] {
        let answer = service
            .get(&format!("/api/images?{query}"))
            .token(&token)
            .send();
        assert_eq!(answer.problem(), (400, "token_in_query".into()), "{query}");
    }
    assert_eq!(
        service
            .get("/api/images?limit=1")
            .token(&token)
            .send()
            .status,
        200
    );
}

fn form(service: &Service, path: &str, client: &Client, more: &str) -> crate::http::Answer {
    let body = format!(
        "client_id={}&client_secret={}&{more}",
        client.id, client.secret
    );
    let media = "application/x-www-form-urlencoded";
    service.post(path).body(media, body.as_str()).send()
}

#[test]
fn a_parameter_without_a_value_is_left_out_and_no_answer_with_a_token_is_kept() {
    let service = Service::start(&[("SIGNET_LIMITS__TOKEN_ENDPOINT__BURST", "50")]);
    let client = service.client("images:read billing:read");
    let ask = |path: &str, more: &str| {
        let answer = form(&service, path, &client, more);
        assert_eq!(
            answer.header("cache-control"),
            Some("no-store"),
            "{path} {more}"
        );
        assert_eq!(answer.header("pragma"), Some("no-cache"), "{path} {more}");
        (answer.status, answer)
    };
    let (status, answer) = ask("/oauth/token", "grant_type=client_credentials&scope=");
    assert_eq!(
        (status, &answer.json()["scope"]),
        (200, &json!("images:read billing:read"))
    );
    let (status, answer) = ask("/oauth/token", "grant_type=");
    assert_eq!(
        (status, &answer.json()["error"]),
        (400, &json!("invalid_request"))
    );
    let (status, answer) = ask("/oauth/token", "grant_type=password");
    assert_eq!(
        (status, &answer.json()["error"]),
        (400, &json!("unsupported_grant_type"))
    );
    assert_eq!(ask("/oauth/introspect", "token=x").0, 200);
    assert_eq!(ask("/oauth/revoke", "token=x&token_type_hint=").0, 200);
    assert_eq!(ask("/oauth/revoke", "token=").0, 400);
}

#[test]
fn a_job_has_every_field_whatever_its_state_and_a_finished_generation_only_its_own() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let names = |job: &Value| -> Vec<String> {
        let mut names: Vec<_> = job.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let all = [
        "cancel_url",
        "cost_units",
        "events_url",
        "id",
        "queue_position",
        "status",
        "status_url",
        "step",
        "steps",
    ];
    let waited = service.post("/api/generate").token(&token).json(&quick());
    let answer = waited.clone().header("prefer", "respond-async").send();
    let job = answer.json()["job"].clone();
    assert_eq!(
        (answer.status, names(&job)),
        (202, all.map(String::from).to_vec())
    );
    let path = format!("/api/jobs/{}", job["id"].as_str().unwrap());
    let job = loop {
        let job = service.get(&path).token(&token).send().ok().json()["job"].clone();
        for name in all {
            assert!(job.get(name).is_some(), "{name} of {job}");
        }
        if job["status"] == "done" {
            break job;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(
        (&job["queue_position"], &job["step"]),
        (&Value::Null, &Value::Null)
    );
    let done = waited.send().ok().json();
    let own = ["cost_units", "id", "queue_ms", "run_ms", "status"];
    assert_eq!(names(&done["job"]), own);
}

#[test]
fn what_a_good_link_does_not_open_is_counted_as_what_it_is() {
    let service = Service::start(&[]);
    let signed = |key: &str| {
        let link = service.home().succeed(&["link", "sign", key]);
        let target = link.trim().splitn(4, '/').nth(3).unwrap().to_owned();
        let images = service.images.unwrap();
        Request::new(images, "GET", &format!("/{target}"))
            .host(Some(&format!("localhost:{}", images.port())))
            .send()
    };
    let missing = "generated/u/01890a5d-ac96-774b-bcce-b302099a8057.png";
    assert_eq!(signed(missing).problem(), (404, "not_found".into()));
    // No key of an object is a path of the API.
    assert_eq!(signed("v1/u/x.png").problem(), (404, "not_found".into()));
    assert_eq!(signed("oauth/u/x.png").problem(), (404, "not_found".into()));
    let metrics = service.metrics();
    for series in [
        "signet_links_total{kid=\"local\",verdict=\"not_found\"} 3",
        "signet_links_total{kid=\"local\",verdict=\"ok\"} 0",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
}

#[test]
fn a_client_that_sends_a_little_too_much_or_may_not_send_hears_so() {
    let service = Service::start(&[("SIGNET_LIMITS__UPLOADS__BURST", "50")]);
    let (token, other) = (service.token(ALL_SCOPES), service.token("images:read"));
    let file = vec![0u8; (10 << 20) + 1];
    let upload = service.post("/api/upload").body("image/png", file.clone());
    let mut chunked = b"a00001\r\n".to_vec();
    chunked.extend(&file);
    chunked.extend(b"\r\n0\r\n\r\n");
    let in_chunks = service
        .post("/api/upload")
        .header("transfer-encoding", "chunked")
        .body("image/png", chunked);
    for _ in 0..3 {
        for ask in [&upload, &in_chunks] {
            let refused = ask.clone().token(&token).send();
            assert_eq!(refused.problem(), (413, "body_too_large".into()));
            let refused = ask.clone().token(&other).send();
            assert_eq!(refused.problem(), (403, "insufficient_scope".into()));
            assert_eq!(ask.send().problem(), (401, "unauthorized".into()));
        }
    }
}

#[test]
fn links_believe_the_address_that_the_proxy_in_front_writes_and_no_other() {
    let service = Service::start(&[
        ("SIGNET_EDGE__CLIENT_ADDRESS_HEADER", "X-Real-IP"),
        ("SIGNET_LIMITS__LINKS__PER_MINUTE", "1"),
        ("SIGNET_LIMITS__LINKS__BURST", "1"),
    ]);
    let key = "generated/u/01890a5d-ac96-774b-bcce-b302099a8057.png";
    let path = service.home().path(&format!("data/objects/{key}"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "not a picture").unwrap();
    let images = service.images.unwrap();
    let open = |arguments: &[&str], headers: &[(&str, &str)]| {
        let link = service
            .home()
            .succeed(&[&["link", "sign", key], arguments].concat());
        let target = link.trim().splitn(4, '/').nth(3).unwrap().to_owned();
        let host = format!("localhost:{}", images.port());
        let request = Request::new(images, "GET", &format!("/{target}")).host(Some(&host));
        let add = |request: Request, (name, value): &(&str, &str)| request.header(name, *value);
        headers.iter().fold(request, add).send()
    };
    let range = ["--ip", "198.51.100.0-24"];
    assert_eq!(open(&range, &[("x-real-ip", "198.51.100.9")]).status, 200);
    let mismatch = (403, "ip_mismatch".to_owned());
    assert_eq!(
        open(&range, &[("x-real-ip", "198.51.101.9")]).problem(),
        mismatch
    );
    let twice = [("x-real-ip", "198.51.100.9"), ("x-real-ip", "198.51.100.8")];
    assert_eq!(open(&range, &twice).problem(), mismatch);
    assert_eq!(
        open(&range, &[("x-forwarded-for", "198.51.100.9")]).problem(),
        mismatch
    );
    assert_eq!(open(&[], &[]).problem(), (503, "misconfigured".into()));
    // Each address has a rate of its own, though all come from one proxy.
    let from = |address: &str| open(&[], &[("x-real-ip", address)]).status;
    assert_eq!(
        [from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.1")],
        [200, 200, 429]
    );
    assert_eq!(from("192.0.2.2"), 200);
}
