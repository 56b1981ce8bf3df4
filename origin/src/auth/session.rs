//! Browser sessions of the studio: an opaque cookie, everything else stays here.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use shared::hex::hex;

use super::clients::random_token;
use super::{Caller, Scopes};

/// Sessions remembered at once; beyond it the least used go.
const CAPACITY: u64 = 100_000;

/// Sessions by the hash of their cookie, so that a look at memory or a log of it opens none.
#[derive(Clone, Debug)]
pub struct Sessions {
    known: Cache<[u8; 32], (Caller, u64)>,
    life: u64,
}

impl Sessions {
    /// Sessions that live so many seconds.
    pub fn new(life: u64) -> Self {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(Duration::from_secs(life))
            .build();
        Self { known, life }
    }

    /// Starts a session; what its cookie holds.
    pub fn start(&self, user: &str, now: u64) -> String {
        let token = random_token();
        let name = digest(&token);
        let jti = hex(name.split_at(8).0);
        let caller = Caller {
            user_id: user.into(),
            client_id: "studio".into(),
            jti: Arc::from(jti),
            scopes: Scopes::USER,
        };
        self.known.insert(name, (caller, now + self.life));
        token
    }

    /// The caller of a session.
    pub fn get(&self, token: &str, now: u64) -> Option<Caller> {
        self.known
            .get(&digest(token))
            .filter(|(_, end)| now < *end)
            .map(|(caller, _)| caller)
    }

    /// Ends a session.
    pub fn end(&self, token: &str) {
        self.known.invalidate(&digest(token));
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The cookie's name; over plain http on loopback there can be no `__Host-`.
pub fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-signet" } else { "signet" }
}

/// A session cookie; without a token one that removes it.
pub fn cookie(token: Option<String>, secure: bool) -> Cookie<'static> {
    let mut cookie = Cookie::build(cookie_name(secure), token.clone().unwrap_or_default())
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Strict)
        .finish();
    if token.is_none() {
        cookie.make_removal();
    }
    cookie
}

/// The session's token in a request; a name that stands twice counts as none. Under https only the name with
/// `__Host-` counts: a sister host can plant the other one, and would sign the visitor in as somebody else.
pub fn token_of(request: &HttpRequest, secure: bool) -> Option<String> {
    cookie_of(request, cookie_name(secure))
}

/// The value of a cookie that stands once.
pub(crate) fn cookie_of(request: &HttpRequest, name: &str) -> Option<String> {
    let cookies = request.cookies().ok()?;
    let mut found = cookies.iter().filter(|cookie| cookie.name() == name);
    let one = found.next().map(|cookie| cookie.value().to_owned());
    if found.next().is_some() { None } else { one }
}

/// The caller of a request's session.
pub fn read(request: &HttpRequest, sessions: &Sessions, secure: bool, now: u64) -> Option<Caller> {
    sessions.get(&token_of(request, secure)?, now)
}

/// Whether a session's unsafe request comes from the studio's page: its own `Origin`, and the header that no form
/// and no foreign script can send.
pub fn is_same_origin(request: &HttpRequest, origins: &[String]) -> bool {
    let text = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let origin = text(header::ORIGIN.as_str()).unwrap_or("");
    text("signet-studio") == Some("1") && origins.iter().any(|known| known == origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_session_lives_until_its_end_or_sign_out() {
        let sessions = Sessions::new(100);
        let token = sessions.start("u", 1_000);
        assert_eq!(&*sessions.get(&token, 1_099).unwrap().user_id, "u");
        assert_eq!(sessions.get(&token, 1_100), None);
        assert_eq!(sessions.get("x", 1_000), None);
        sessions.end(&token);
        assert_eq!(sessions.get(&token, 1_000), None);
    }

    #[test]
    fn unsafe_requests_need_our_origin_and_the_header() {
        let origins = ["https://api.example.com".to_owned()];
        let ask = |origin: &str, studio: &str| {
            let request = TestRequest::default()
                .insert_header(("origin", origin))
                .insert_header(("signet-studio", studio));
            is_same_origin(&request.to_http_request(), &origins)
        };
        assert!(ask("https://api.example.com", "1"));
        assert!(!ask("https://api.example.com", "0"));
        assert!(!ask("https://evil.example", "1"));
        assert!(!ask("null", "1"));
        assert!(!is_same_origin(
            &TestRequest::default()
                .insert_header(("signet-studio", "1"))
                .to_http_request(),
            &origins
        ));
    }

    #[test]
    fn a_cookie_that_a_sister_host_can_plant_counts_for_nothing() {
        let with = |text: &str| {
            TestRequest::default()
                .insert_header((header::COOKIE, text))
                .to_http_request()
        };
        assert_eq!(token_of(&with("signet=planted"), true), None);
        let both = with("signet=planted; __Host-signet=own");
        assert_eq!(token_of(&both, true).as_deref(), Some("own"));
        let twice = with("__Host-signet=a; __Host-signet=b");
        assert_eq!(token_of(&twice, true), None);
        assert_eq!(
            token_of(&with("signet=local"), false).as_deref(),
            Some("local")
        );
    }

    #[test]
    fn the_cookie_is_closed_to_scripts_and_other_sites() {
        let text = cookie(Some("t".into()), true).to_string();
        for part in [
            "__Host-signet=t",
            "HttpOnly",
            "SameSite=Strict",
            "Secure",
            "Path=/",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            !cookie(Some("t".into()), false)
                .to_string()
                .contains("Secure")
        );
    }
}
