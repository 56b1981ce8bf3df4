//! Browser sessions of the studio: an opaque cookie, everything else stays in the state.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use sha2::{Digest, Sha256};
use shared::hex::hex;

use super::clients::random_token;
use super::{Caller, Scopes};
use crate::state::sessions::{Kind, SessionRow};
use crate::state::{State, StateError};

/// The client of every session.
const CLIENT: &str = "studio";

/// Sessions in the state, by the hash of their cookie. It is asked at every request: who signed out anywhere is out.
#[derive(Clone, Debug)]
pub struct Sessions {
    state: State,
    life: u64,
}

impl Sessions {
    /// Sessions that live so many seconds.
    pub fn new(state: State, life: u64) -> Self {
        Self { state, life }
    }

    /// Starts a session; what its cookie holds.
    ///
    /// # Errors
    /// The state's own.
    pub async fn start(&self, user: &str, now: u64) -> Result<String, StateError> {
        let token = random_token();
        let row = SessionRow {
            user_id: user.into(),
            client_id: CLIENT.into(),
            ends: now + self.life,
        };
        let begun = self
            .state
            .begin_session(Kind::Studio, digest(&token), row, now);
        begun.await.map(|()| token)
    }

    /// The caller of a session.
    ///
    /// # Errors
    /// The state's own.
    pub async fn get(&self, token: &str, now: u64) -> Result<Option<Caller>, StateError> {
        let name = digest(token);
        let row = self.state.session(Kind::Studio, name, now).await?;
        Ok(row.map(|row| Caller {
            user_id: row.user_id.into(),
            client_id: row.client_id.into(),
            jti: Arc::from(hex(name.split_at(8).0)),
            scopes: Scopes::USER,
        }))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The state's own.
    pub async fn end(&self, token: &str) -> Result<(), StateError> {
        self.state.end_session(Kind::Studio, digest(token)).await
    }
}

/// The name of what a cookie holds.
pub(crate) fn digest(token: &str) -> [u8; 32] {
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

    #[tokio::test]
    async fn a_session_lives_until_its_end_or_sign_out_whichever_origin_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        let open = || Sessions::new(State::open(&file).unwrap(), 100);
        let (one, other) = (open(), open());
        let token = one.start("u", 1_000).await.unwrap();
        let get = async |token: &str, now| other.get(token, now).await.unwrap();
        assert_eq!(&*get(&token, 1_099).await.unwrap().user_id, "u");
        assert_eq!(get(&token, 1_100).await, None);
        assert_eq!(get("x", 1_000).await, None);
        let bytes = std::fs::read(folder.path().join("s.sqlite-wal")).unwrap();
        let secret = token.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        one.end(&token).await.unwrap();
        assert_eq!(get(&token, 1_000).await, None);
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
