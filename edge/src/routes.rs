//! Which paths pass the gate, and how much of a body each may have. All routes on one page.

use shared::problem::{self, Problem};
use shared::{plain_path, secret_in_query};

/// Longest body of an upload: 10 MiB of file and 64 KiB of form around it.
pub const UPLOAD: u64 = 10 * 1024 * 1024 + 64 * 1024;
/// Longest JSON body: a prompt of 2,000 characters fits many times over.
pub const JSON: u64 = 256 * 1024;
/// Longest form body.
pub const FORM: u64 = 64 * 1024;

/// Methods that pass, the last two without their body: no route has them, but the origin knows which one does fit.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"];
/// What is answered in `Allow` to other methods.
pub const ALLOW: &str = "GET, HEAD, POST, DELETE, OPTIONS";

/// Single paths that pass.
const PATHS: [&str; 4] = ["/", "/openapi.json", "/docs", "/favicon.ico"];
/// Folders that pass, with the longest body below each.
const FOLDERS: [(&str, u64); 7] = [
    ("/api/", JSON),
    ("/v1/", JSON),
    ("/oauth/", FORM),
    ("/auth/", FORM),
    ("/studio/", 0),
    ("/docs/", 0),
    ("/.well-known/", 0),
];
/// Routes whose arrivals the penalty box counts, and whose requests the limit of tokens.
const GENERATION: [&str; 4] = [
    "/api/generate",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
];
/// Routes that take files.
const UPLOADS: [&str; 3] = ["/api/upload", "/v1/images/edits", "/v1/images/variations"];

/// A call that may go on to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// The path as it came.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// Longest body in bytes.
    pub body_limit: u64,
}

/// Finds the route of a raw target.
///
/// # Errors
/// 404 for what is not ours or oddly spelled, 400 for a token in the query.
pub fn find(target: &str) -> Result<Route<'_>, Problem> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    // What the gate judges must be what the origin's router sees.
    if !plain_path::is_plain(path) || query.is_some_and(|query| !is_plain_query(query)) {
        return Err(problem::NOT_FOUND);
    }
    if query.is_some_and(secret_in_query::is_in) {
        return Err(problem::TOKEN_IN_QUERY);
    }
    let body_limit = if UPLOADS.contains(&path) {
        UPLOAD
    } else if PATHS.contains(&path) {
        0
    } else {
        let folder = FOLDERS.iter().find(|(folder, _)| path.starts_with(folder));
        folder.ok_or(problem::NOT_FOUND)?.1
    };
    Ok(Route {
        path,
        query,
        body_limit,
    })
}

/// Whether a call could make pictures: what the penalty box and the limit of tokens count.
pub fn could_generate(method: &str, route: &Route<'_>) -> bool {
    method == "POST" && GENERATION.contains(&route.path)
}

/// Whether access tokens open what lies below a path.
pub fn takes_tokens(path: &str) -> bool {
    ["/api/", "/v1/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Printable ASCII without a fragment: what can be signed and sent on unchanged.
fn is_plain_query(query: &str) -> bool {
    query
        .bytes()
        .all(|c| (0x21..0x7f).contains(&c) && c != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_services_routes_pass_with_their_body_limits() {
        for (target, limit) in [
            ("/", 0),
            ("/?x=1", 0),
            ("/api/generate", JSON),
            ("/api/jobs/0190-ab/events?from=1", JSON),
            ("/api/upload", UPLOAD),
            ("/v1/images/edits", UPLOAD),
            ("/v1/models", JSON),
            ("/oauth/token", FORM),
            ("/.well-known/jwks.json", 0),
            ("/auth/callback?code=a&state=b", FORM),
        ] {
            assert_eq!(find(target).unwrap().body_limit, limit, "{target}");
        }
    }

    #[test]
    fn everything_else_and_every_odd_spelling_is_not_found() {
        for target in [
            "",
            "*",
            "/admin",
            "/metrics",
            "/healthz",
            "/apis",
            "/api",
            "/api//generate",
            "//api/generate",
            "/api/../admin",
            "/api/./x",
            "/api/%2e%2e/admin",
            "/api/a%2Fb",
            "/api\\x",
            "/api/é",
            "/api/x?a b",
            "/api/x?a#b",
            "/API/generate",
            "/generated/u/a.png",
            "http://x/api/y",
        ] {
            assert_eq!(find(target), Err(problem::NOT_FOUND), "{target}");
        }
    }

    #[test]
    fn a_token_in_the_query_is_refused_however_it_is_written() {
        for query in [
            "access_token=x",
            "a=b&token=x",
            "Access%5FToken=x",
            "%74oken",
            "a;api_key=1",
        ] {
            assert_eq!(
                find(&format!("/api/images?{query}")),
                Err(problem::TOKEN_IN_QUERY),
                "{query}"
            );
        }
        assert!(find("/api/images?limit=5&cursor=token").is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_targets_never_panic(target in "/(api|v1)/[%a-z./]{0,20}(\\?[a-z%=&_]{0,20})?|.{0,40}") {
            if let Ok(route) = find(&target) {
                let dots = route.path.split('/').any(|segment| segment == "..");
                prop_assert!(route.path.starts_with('/') && !dots);
            }
        }
    }
}
