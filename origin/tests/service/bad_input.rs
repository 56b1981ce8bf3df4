//! What no honest client sends: each gets a clear answer with a stable code, and nothing is made or charged.

use serde_json::json;

use crate::http::Request;
use crate::program::{ALL_SCOPES, Service, files, quick};

#[test]
fn malformed_bodies_are_refused_by_field_and_leave_nothing() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let long = "é".repeat(2001);
    for (body, word) in [
        (String::new(), "JSON"),
        ("{".into(), "JSON"),
        ("[]".into(), "JSON"),
        ("null".into(), "JSON"),
        ("{}".into(), "prompt"),
        (r#"{"prompt":1}"#.into(), "`prompt`"),
        (r#"{"prompt":""}"#.into(), "prompt"),
        (r#"{"prompt":"  "}"#.into(), "prompt"),
        (r#"{"prompt":"a\u0000b"}"#.into(), "prompt"),
        (r#"{"prompt":"\ud800"}"#.into(), "JSON"),
        (format!(r#"{{"prompt":"{long}"}}"#), "prompt"),
        (
            format!(r#"{{"prompt":"x","negative_prompt":"{long}"}}"#),
            "negative_prompt",
        ),
        (r#"{"prompt":"x","stepz":3}"#.into(), "stepz"),
        (r#"{"prompt":"x","prompt":"y"}"#.into(), "prompt"),
        (r#"{"prompt":"x"}{"#.into(), "JSON"),
        (r#"{"prompt":"x","steps":0}"#.into(), "steps"),
        (r#"{"prompt":"x","steps":101}"#.into(), "steps"),
        (r#"{"prompt":"x","steps":1.5}"#.into(), "`steps`"),
        (r#"{"prompt":"x","steps":-1}"#.into(), "`steps`"),
        (r#"{"prompt":"x","n":0}"#.into(), "n"),
        (r#"{"prompt":"x","n":5}"#.into(), "n"),
        (r#"{"prompt":"x","n":99999999999999999999}"#.into(), "`n`"),
        (r#"{"prompt":"x","width":63}"#.into(), "width"),
        (r#"{"prompt":"x","width":1000000}"#.into(), "width"),
        (r#"{"prompt":"x","height":0}"#.into(), "height"),
        (
            r#"{"prompt":"x","guidance_scale":-1}"#.into(),
            "guidance_scale",
        ),
        (
            r#"{"prompt":"x","guidance_scale":51}"#.into(),
            "guidance_scale",
        ),
        (
            r#"{"prompt":"x","guidance_scale":1e999}"#.into(),
            "`guidance_scale`",
        ),
        (r#"{"prompt":"x","seed":-2}"#.into(), "seed"),
        (r#"{"prompt":"x","width":"128"}"#.into(), "`width`"),
        (
            r#"{"prompt":"x","seed":18446744073709551616}"#.into(),
            "`seed`",
        ),
        (r#"{"prompt":"x","seed":9007199254740992}"#.into(), "seed"),
        (r#"{"prompt":"x","format":"gif"}"#.into(), "format"),
    ] {
        let answer = service
            .post("/api/generate")
            .token(&token)
            .body("application/json", body.clone())
            .send();
        assert_eq!(
            answer.problem(),
            (400, "invalid_request".into()),
            "{body:.80}"
        );
        let detail = answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(detail.contains(word), "{body:.80}: {detail}");
        assert!(answer.header("x-request-id").is_some());
    }
    let nested = format!(r#"{{"prompt":{}"#, "[".repeat(20_000));
    let answer = service
        .post("/api/generate")
        .token(&token)
        .body("application/json", nested)
        .send();
    assert_eq!(answer.problem(), (400, "invalid_request".into()));
    let answer = service
        .post("/api/generate")
        .token(&token)
        .body("application/json", b"{\"prompt\":\"\xff\"}".to_vec())
        .send();
    assert_eq!(answer.problem(), (400, "invalid_request".into()));
    let answer = service.generate(&token, &json!({ "prompt": "x", "model": "none" }));
    assert_eq!(answer.problem(), (404, "unknown_model".into()));
    let answer = service
        .post("/api/generate")
        .token(&token)
        .body("text/plain", quick().to_string())
        .send();
    assert_eq!(answer.problem(), (400, "invalid_request".into()));

    assert_eq!(
        files(&service.home().path("data/objects"))
            .iter()
            .filter(|file| file.ends_with(".png"))
            .count(),
        0
    );
    let usage = service.get("/api/usage").token(&token).send().ok().json();
    for row in usage["limits"].as_array().unwrap() {
        if ["address", "token", "user-hour", "jobs", "storage"]
            .contains(&row["policy"].as_str().unwrap())
        {
            assert_eq!(row["used"], 0, "{row}");
        }
    }
    assert!(!service.log().contains("panicked"));
}

#[test]
fn bodies_over_the_limit_are_refused_as_they_pass() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let large = "x".repeat(200_000);
    let sent = service
        .post("/api/generate")
        .token(&token)
        .body("application/json", large.clone())
        .send();
    assert_eq!(sent.problem(), (413, "body_too_large".into()));
    let chunked = service
        .post("/api/generate")
        .token(&token)
        .header("transfer-encoding", "chunked");
    let chunked = chunked
        .body(
            "application/json",
            format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
        )
        .send();
    assert_eq!(chunked.problem(), (413, "body_too_large".into()));
    let form = service
        .post("/oauth/token")
        .body("application/x-www-form-urlencoded", large)
        .send();
    assert_eq!(form.status, 413);
}

#[test]
fn unknown_routes_and_methods_are_problems() {
    let service = Service::start(&[]);
    for target in [
        "/api/nothing",
        "/api/generate/",
        "/api/images/x/y",
        "/openapi.json",
        "/docs",
        "/v1",
        "/.env",
        "/%2e%2e/etc/passwd",
    ] {
        let answer = service.get(target).send();
        assert_eq!(answer.problem(), (404, "not_found".into()), "{target}");
        assert!(answer.header("x-request-id").is_some());
    }
    // OpenAI's clients read another shape.
    for (target, status, code) in [
        ("/v1/models", 404, "not_found"),
        ("/v1/models?access_token=x", 400, "token_in_query"),
    ] {
        let answer = service.get(target).send();
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["error"]["code"], code);
        assert_eq!(answer.json()["error"]["param"], serde_json::Value::Null);
        assert!(answer.json()["error"]["message"].is_string());
    }
    // And OAuth's clients a third one (RFC 6749 section 5.2).
    let large = vec![b'x'; 100_000];
    for (answer, status, code) in [
        (service.get("/oauth/nothing").send(), 404, "not_found"),
        (
            service.get("/oauth/token").send(),
            405,
            "method_not_allowed",
        ),
        (
            service
                .post("/oauth/token")
                .body("application/x-www-form-urlencoded", large)
                .send(),
            413,
            "body_too_large",
        ),
    ] {
        assert_eq!(answer.status, status, "{code}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let told = answer.json();
        assert_eq!(
            (&told["error"], &told["code"]),
            (&"invalid_request".into(), &code.into())
        );
        assert!(told["error_description"].is_string());
    }
    for (method, target, allow) in [
        ("GET", "/api/generate", "POST"),
        ("PUT", "/api/images", "GET"),
        ("POST", "/api/images", "GET"),
        ("PATCH", "/api/usage", "GET"),
        ("POST", "/.well-known/jwks.json", "GET"),
        ("GET", "/api/images/0/link", "POST"),
    ] {
        let answer = Request::new(service.public, method, target).send();
        assert_eq!(
            answer.problem(),
            (405, "method_not_allowed".into()),
            "{method} {target}"
        );
        assert!(
            answer
                .header("allow")
                .unwrap()
                .split(", ")
                .any(|one| one == allow),
            "{method} {target}: {answer:?}"
        );
    }
}

#[test]
fn every_listener_refuses_a_host_it_does_not_know() {
    let service = Service::start(&[]);
    for (listener, target) in [
        (service.public, "/.well-known/jwks.json"),
        (service.operator, "/healthz"),
        (service.images.unwrap(), "/x"),
    ] {
        let port = listener.port();
        for host in [
            Some("evil.example"),
            Some("127.0.0.1.evil.example"),
            Some("localhost:1"),
            Some(""),
            None,
        ] {
            let answer = Request::new(listener, "GET", target).host(host).send();
            // A request of HTTP/1.1 without a Host may be refused before it is looked at.
            assert!(
                answer.status == 421 || (host.is_none() && answer.status == 400),
                "{host:?}: {answer:?}"
            );
        }
        let twice = Request::new(listener, "GET", target)
            .header("host", "evil.example")
            .send();
        assert!([400, 421].contains(&twice.status), "{twice:?}");
        let known = Request::new(listener, "GET", target)
            .host(Some(&format!("localhost:{port}")))
            .send();
        assert_ne!(known.status, 421);
    }
}

#[test]
fn a_token_in_the_query_is_refused_even_when_it_is_good() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    for name in ["access_token", "ACCESS_TOKEN", "token", "id_token"] {
        let answer = service.get(&format!("/api/images?{name}={token}")).send();
        assert_eq!(answer.problem(), (400, "token_in_query".into()), "{name}");
        let beside = service
            .get(&format!("/api/images?limit=1&{name}={token}"))
            .token(&token)
            .send();
        assert_eq!(beside.problem(), (400, "token_in_query".into()), "{name}");
    }
    assert!(!service.log().contains(&token));
}

#[test]
fn requests_that_are_no_http_end_the_connection_and_not_the_service() {
    use std::io::{Read, Write};
    let service = Service::start(&[]);
    let huge = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nx: {}\r\n\r\n",
        service.public,
        "a".repeat(300_000)
    );
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        huge.as_bytes(),
        b"POST /api/generate HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut stream = std::net::TcpStream::connect(service.public).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(service.get("/.well-known/jwks.json").send().status, 200);
    assert!(!service.log().contains("panicked"));
}

#[test]
fn lists_and_ids_are_read_strictly() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1&limit=2",
        "cursor=x",
        "cursor=%00",
        "page=2",
    ] {
        let answer = service
            .get(&format!("/api/images?{query}"))
            .token(&token)
            .send();
        assert_eq!(answer.problem(), (400, "invalid_request".into()), "{query}");
    }
    for id in [
        "x",
        "%00",
        "..%2f..",
        "00000000-0000-7000-8000-000000000000",
        &"a".repeat(5000),
    ] {
        let answer = service
            .delete(&format!("/api/images/{id}"))
            .token(&token)
            .send();
        assert_eq!(answer.problem(), (404, "not_found".into()), "{id:.40}");
    }
}

#[test]
fn the_token_endpoint_speaks_oauth() {
    let service = Service::start(&[]);
    let client = service.client("images:read");
    let good = service.ask_token(&client.form()).ok();
    assert_eq!(good.header("cache-control"), Some("no-store"));
    assert_eq!(good.json()["token_type"], "Bearer");
    assert!((900..=3600).contains(&good.json()["expires_in"].as_u64().unwrap()));
    let credentials = format!("client_id={}&client_secret={}", client.id, client.secret);
    for (form, status, error) in [
        (String::new(), 400, "invalid_request"),
        (credentials.clone(), 400, "invalid_request"),
        (
            format!("grant_type=password&{credentials}"),
            400,
            "unsupported_grant_type",
        ),
        (
            "grant_type=client_credentials".into(),
            401,
            "invalid_client",
        ),
        (
            format!(
                "grant_type=client_credentials&client_id={}&client_secret=x",
                client.id
            ),
            401,
            "invalid_client",
        ),
        (
            format!(
                "grant_type=client_credentials&client_id=x&client_secret={}",
                client.secret
            ),
            401,
            "invalid_client",
        ),
        (
            format!("grant_type=client_credentials&{credentials}&scope=images:write"),
            400,
            "invalid_scope",
        ),
        (
            format!("grant_type=client_credentials&{credentials}&scope=root"),
            400,
            "invalid_scope",
        ),
        (
            format!("grant_type=client_credentials&{credentials}&client_id=x"),
            400,
            "invalid_request",
        ),
    ] {
        let answer = service.ask_token(&form);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str().unwrap()),
            (status, error),
            "{}",
            form.replace(&client.secret, "…")
        );
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    let json = service
        .post("/oauth/token")
        .json(&json!({ "grant_type": "client_credentials" }))
        .send();
    assert_eq!(
        (json.status, json.json()["error"].as_str().unwrap()),
        (400, "invalid_request")
    );
    assert!(!service.log().contains(&client.secret));
}
