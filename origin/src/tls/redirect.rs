//! Plain HTTP beside TLS: readers are sent on, everything else is refused, since what it carried was sent in clear.

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use shared::problem;

use crate::config::host_of;
use crate::error::answer;

/// Addresses that readers are sent to: the API's and the images host's.
#[derive(Clone, Debug)]
pub struct Targets(pub [String; 2]);

impl Targets {
    /// The address whose host this is, ports aside.
    fn of(&self, host: &str) -> Option<&str> {
        let bare = host_of(host);
        self.0
            .iter()
            .map(String::as_str)
            .find(|url| host_of(url).eq_ignore_ascii_case(bare))
    }
}

/// Any request over plain HTTP. The query is left out: a link's signature is not repeated in clear.
pub async fn send_on(request: HttpRequest, targets: web::Data<Targets>) -> HttpResponse {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let Some(url) = host.and_then(|host| targets.of(host)) else {
        return answer(problem::UNKNOWN_HOST);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer(problem::HTTPS_REQUIRED);
    }
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, format!("{url}{}", request.uri().path())))
        .finish()
}
