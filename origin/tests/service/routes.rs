//! The route table, walked as it stands in the source: each route is public by name, or wants a token with one scope.

use crate::http::{Answer, Request};
use crate::program::Service;

/// Routes that no token opens, because they are how one gets in, or hold nothing of anybody's.
const PUBLIC: [&str; 9] = [
    "POST /oauth/token",
    "POST /oauth/revoke",
    "POST /oauth/introspect",
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /auth/login",
    "GET /auth/callback",
    "POST /auth/logout",
    "GET /",
];

const SCOPES: [&str; 6] = [
    "images:generate",
    "images:read",
    "images:write",
    "uploads:write",
    "billing:read",
    "admin",
];

/// Method and path of every route of the public listener.
fn table() -> Vec<(String, String)> {
    let source = include_str!("../../src/routes.rs");
    let public = source.split("pub fn images(").next().unwrap();
    let mut routes = vec![("GET".to_owned(), "/".to_owned())];
    for call in public.split("at(\"").skip(1) {
        let mut texts = call.split('"');
        let (path, methods) = (texts.next().unwrap(), texts.nth(1).unwrap());
        routes.extend(
            methods
                .split(", ")
                .map(|method| (method.to_owned(), path.to_owned())),
        );
    }
    routes
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
        if PUBLIC.contains(&route.as_str()) {
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
