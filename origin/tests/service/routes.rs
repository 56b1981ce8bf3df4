//! The route table, walked as it stands in the source: each route is public by name, or wants a token with one scope.

use crate::http::{Answer, Request};
use crate::program::{ALL_SCOPES, Service};

/// Routes that no token opens, because they are how one gets in, or hold nothing of anybody's.
const PUBLIC: [&str; 11] = [
    "POST /oauth/token",
    "POST /oauth/revoke",
    "POST /oauth/introspect",
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /auth/login",
    "GET /auth/callback",
    "POST /auth/logout",
    "GET /",
    "GET /studio/x/about.json",
    // Signed by the edge; a service without one answers 404.
    "POST /.signet/counts",
];

const SCOPES: [&str; 6] = [
    "images:generate",
    "images:read",
    "images:write",
    "uploads:write",
    "billing:read",
    "admin",
];

/// Routes of the operator listener for everybody on it: it is bound to loopback, and its page holds nothing.
const OPERATOR: [&str; 4] = [
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /operator/{version}/{file}",
];

const SOURCE: &str = include_str!("../../src/routes.rs");
const OPERATORS: &str = include_str!("../../src/operator/mod.rs");

/// Method and path of every route in a part of the table.
fn routes(source: &str) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for call in source.split("at(\"").skip(1) {
        let mut texts = call.split('"');
        let (path, methods) = (texts.next().unwrap(), texts.nth(1).unwrap());
        routes.extend(
            methods
                .split(", ")
                .map(|method| (method.to_owned(), path.to_owned())),
        );
    }
    for call in source.split(".route(\"").skip(1) {
        let (path, rest) = call.split_once("\", ").unwrap();
        let method = rest.split('(').next().unwrap().to_uppercase();
        routes.push((method, path.to_owned()));
    }
    routes
}

/// HEAD is open where GET is.
fn as_get(route: &str) -> String {
    route.replace("HEAD ", "GET ")
}

/// Every route of the public listener.
fn table() -> Vec<(String, String)> {
    let mut table = routes(SOURCE.split("pub fn images(").next().unwrap());
    // Written elsewhere, or by a constant.
    table.push(("GET".into(), "/".into()));
    table.push(("GET".into(), "/studio/x/about.json".into()));
    table.push(("POST".into(), shared::report::PATH.into()));
    table
}

#[test]
fn no_more_routes_are_open_than_are_named() {
    let public = SOURCE.split("pub fn images(").next().unwrap();
    let operator = SOURCE.split("pub fn operator(").nth(1).unwrap();
    let operator = operator.split("async fn nothing").next().unwrap();
    let open = |part: &str| part.matches(".open(").count();
    // The page is open elsewhere; on each listener what is not there is open too.
    assert_eq!(open(public), PUBLIC.len() - 2 + 1);
    // The page, signing in and out, the page's files.
    assert_eq!((open(operator), open(OPERATORS)), (3 + 1, 4));
}

#[test]
fn every_route_of_the_operator_listener_wants_admin_or_is_named() {
    let service = Service::start(&[]);
    let tokens: Vec<_> = SCOPES
        .iter()
        .map(|scope| (*scope, service.token(scope)))
        .collect();
    let mut table = routes(SOURCE.split("pub fn operator(").nth(1).unwrap());
    table.extend(routes(OPERATORS));
    assert!(table.len() > 9, "{table:?}");
    for (method, path) in table {
        let route = format!("{method} {path}");
        let ask = |token: Option<&str>| {
            let path = path
                .replace("{name}", "nothing")
                .replace("{id}", "nothing")
                .replace("{act}", "suspend");
            let mut request = Request::new(service.operator, &method, &path);
            if let Some(token) = token {
                request = request.token(token);
            }
            request.send().status
        };
        if OPERATOR.contains(&as_get(&route).as_str()) {
            assert_ne!(ask(None), 401, "{route}");
            continue;
        }
        assert_eq!(ask(None), 401, "{route} is open to anybody");
        for (scope, token) in &tokens {
            let is_let_in = ask(Some(token)) != 403;
            assert_eq!(is_let_in, *scope == "admin", "{route} with {scope}");
        }
    }
}

fn ask(service: &Service, method: &str, path: &str, token: Option<&str>) -> Answer {
    let path = path.replace("{id}", "01900000-0000-7000-8000-000000000000");
    let mut request = Request::new(service.public, method, &path);
    if let Some(token) = token {
        request = request.token(token);
    }
    request.send()
}

#[test]
fn every_route_is_public_by_name_or_wants_one_scope() {
    let service = Service::start(&[]);
    let tokens: Vec<_> = SCOPES
        .iter()
        .map(|scope| (*scope, service.token(scope)))
        .collect();
    let table = table();
    assert!(table.len() > 15, "{table:?}");
    for (method, path) in table {
        let route = format!("{method} {path}");
        let anonymous = ask(&service, &method, &path, None).status;
        if PUBLIC.contains(&as_get(&route).as_str()) {
            assert_ne!(anonymous, 401, "{route}");
            continue;
        }
        assert_eq!(anonymous, 401, "{route} is open to anybody");
        let opened: Vec<_> = tokens
            .iter()
            .filter(|(_, token)| ask(&service, &method, &path, Some(token)).status != 403)
            .map(|(scope, _)| *scope)
            .collect();
        assert_eq!(opened.len(), 1, "{route} is opened by {opened:?}");
    }
}

/// What every guarded route of the public listener answers to a token: status, and the body.
fn asked_everywhere(service: &Service, token: &str) -> Vec<(String, u16, String)> {
    let guarded = table()
        .into_iter()
        .filter(|(method, path)| !PUBLIC.contains(&as_get(&format!("{method} {path}")).as_str()));
    guarded
        .map(|(method, path)| {
            let answer = ask(service, &method, &path, Some(token));
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            (format!("{method} {path}"), answer.status, body)
        })
        .collect()
}

#[test]
fn a_suspended_users_token_and_a_disabled_clients_token_open_no_route_from_then_on() {
    let service = Service::start(&[]);
    let client = service.client(ALL_SCOPES);
    let token = service.token_of(&client);
    let image = service.picture(&token);
    service.home().succeed(&["user", "suspend", &client.user]);
    for (route, status, body) in asked_everywhere(&service, &token) {
        let code = "\"suspended\"";
        let is_told = route.starts_with("HEAD ") || body.contains(code);
        assert!(status == 403 && is_told, "{route}: {status} {body}");
    }
    // Whoever has stolen the token erased nothing.
    let id = image["id"].as_str().unwrap();
    let delete = service
        .delete(&format!("/api/images/{id}"))
        .token(&token)
        .send();
    assert_eq!(delete.problem(), (403, "suspended".into()));
    service.home().succeed(&["user", "resume", &client.user]);
    let listed = service.get("/api/images").token(&token).send().ok().json();
    assert_eq!(listed["images"][0]["id"], image["id"]);
    service
        .link(listed["images"][0]["url"].as_str().unwrap())
        .send()
        .ok();
    service.home().succeed(&["client", "disable", &client.id]);
    for (route, status, body) in asked_everywhere(&service, &token) {
        let is_told = route.starts_with("HEAD ") || body.contains("\"unauthorized\"");
        assert!(status == 401 && is_told, "{route}: {status} {body}");
    }
}

#[test]
fn acting_on_a_user_who_is_not_there_says_so_in_the_api_and_on_the_command_line() {
    let service = Service::start(&[]);
    let admin = service.token("admin");
    for act in ["suspend", "resume", "revoke-links"] {
        let target = format!("/admin/users/nobody/{act}");
        let answer = Request::new(service.operator, "POST", &target)
            .token(&admin)
            .send();
        assert_eq!(answer.problem(), (404, "unknown_user".into()), "{act}");
    }
    for arguments in [
        &["user", "suspend", "nobody"][..],
        &["user", "resume", "nobody"],
        &["user", "revoke-links", "nobody"],
        &["user", "plan", "nobody", "default"],
        &["user", "limit", "nobody", "user-hour=5"],
        &["user", "erase", "nobody"],
        &["client", "disable", "nobody"],
    ] {
        let output = service.home().run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(told.contains("there is no"), "{arguments:?}: {told}");
        assert!(told.contains("nobody"), "{arguments:?}: {told}");
    }
    // Whose rows a restored backup lost can be decided about all the same, when that is said.
    let lost = ["user", "suspend", "lost-one", "--lost", "--hours", "2"];
    service.home().succeed(&lost);
    service.home().succeed(&["user", "resume", "lost-one"]);
    // A user with nothing but a client is one.
    let client = service.client(ALL_SCOPES);
    service.home().succeed(&["user", "suspend", &client.user]);
}

#[test]
fn head_stands_wherever_get_does_and_is_answered_as_get_is_without_the_body() {
    let service = Service::start(&[]);
    let (token, admin) = (service.token(ALL_SCOPES), service.token("admin"));
    let done = service
        .generate(&token, &crate::program::quick())
        .ok()
        .json();
    let job = format!("/api/jobs/{}", done["job"]["id"].as_str().unwrap());
    let both = [
        table(),
        routes(SOURCE.split("pub fn operator(").nth(1).unwrap()),
        routes(OPERATORS),
    ];
    for table in both {
        for (method, path) in &table {
            let head = ("HEAD".to_owned(), path.clone());
            let named = method != "GET" || table.contains(&head);
            // Their resources stand elsewhere.
            assert!(
                named || path == "/" || path.starts_with("/studio"),
                "{path}"
            );
        }
    }
    let url = done["images"][0]["url"].as_str().unwrap();
    let link = url
        .split_once("//")
        .and_then(|(_, rest)| rest.split_once('/'));
    let link = format!("/{}", link.unwrap().1);
    let (public, operator, images) = (service.public, service.operator, service.images.unwrap());
    for (listener, path, token) in [
        (public, "/", None),
        (public, "/.well-known/jwks.json", None),
        (public, "/.well-known/oauth-authorization-server", None),
        (public, "/api/images?limit=1", Some(&token)),
        (public, "/api/usage", Some(&token)),
        (public, job.as_str(), Some(&token)),
        (public, &format!("{job}/events"), Some(&token)),
        (public, "/api/images", None),
        (public, "/api/generate", Some(&token)),
        (public, "/api/jobs/x", Some(&token)),
        (public, "/nothing", None),
        (operator, "/healthz", None),
        (operator, "/readyz", None),
        (operator, "/metrics", None),
        (operator, "/", None),
        (operator, "/admin/models", Some(&admin)),
        (operator, "/admin/overview", Some(&admin)),
        (operator, "/admin/overview", None),
        (images, link.as_str(), None),
        (images, "/generated/u/x.png", None),
    ] {
        let ask = |method: &str| {
            let mut request = Request::new(listener, method, path);
            if let Some(token) = token {
                request = request.token(token);
            }
            if listener == images {
                request = request.host(Some(&format!("localhost:{}", images.port())));
            }
            request.send()
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        for name in [
            "content-type",
            "allow",
            "etag",
            "cache-control",
            "www-authenticate",
        ] {
            assert_eq!(head.header(name), get.header(name), "{path}: {name}");
        }
    }
    // A stream of a job under way is not opened for HEAD.
    let service = crate::jobs::start(&[]);
    let token = service.token(ALL_SCOPES);
    let job = crate::jobs::submit(&service, &token, &crate::jobs::long());
    let events = format!("{}/events", crate::jobs::path(&job));
    let head = Request::new(service.public, "HEAD", &events)
        .token(&token)
        .send();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let state = crate::jobs::state(&service, &token, &job);
    assert_ne!(state["job"]["status"], "done", "it was not waited for");
}

#[test]
fn unknown_query_parameters_are_refused_by_name_on_api_routes_and_ignored_elsewhere() {
    let service = Service::start(&[]);
    let token = service.token(ALL_SCOPES);
    let id = "01900000-0000-7000-8000-000000000000";
    for (method, path) in table() {
        let path = path.replace("{id}", id);
        for (query, name) in [("stepz=1", "`stepz`"), ("a%20b", "`a b`"), ("=x", "``")] {
            let target = format!("{path}?{query}");
            let answer = Request::new(service.public, &method, &target)
                .token(&token)
                .send();
            if !path.starts_with("/api/") {
                let detail = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(!detail.contains("query parameter"), "{method} {target}");
                continue;
            }
            assert_eq!(answer.status, 400, "{method} {target}");
            if method != "HEAD" {
                assert_eq!(answer.code(), "invalid_request");
                let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(detail.contains(name), "{method} {target}: {detail}");
            }
        }
    }
    // Who may not come in hears of that first.
    assert_eq!(service.get("/api/usage?x=1").send().status, 401);
    let both = service.get("/api/images?limit=1&cursor=").token(&token);
    assert_ne!(both.send().status, 404);
    let jwks = service.get("/.well-known/jwks.json?x=1").send();
    assert_eq!(jwks.status, 200);
    let page = service.get("/?utm_source=x").send();
    assert_eq!(page.status, 200);
    let token = Request::new(service.public, "POST", "/oauth/token?x=1").body(
        "application/x-www-form-urlencoded",
        service.client(ALL_SCOPES).form(),
    );
    assert_eq!(token.send().status, 200);
}
