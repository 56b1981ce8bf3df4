//! What a request on the images host asks, read as the edge's runtime gives it: the values of a header that stands several
//! times joined by commas, and bytes beyond ASCII as some letter, so that both sides judge the same text.

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use shared::range::Conditions;
use shared::referer::FetchHeaders;
use shared::refusal_page;

/// A request's line and the headers that a link's path reads.
pub struct Asked<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
    referer: Option<Cow<'a, str>>,
    origin: Option<Cow<'a, str>>,
    fetch: [Option<Cow<'a, str>>; 3],
    conditions: [Option<Cow<'a, str>>; 4],
    accept: Option<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    /// Reads it.
    pub fn of(request: &'a HttpRequest) -> Self {
        let text = |name: &str| text(request.headers(), name);
        let target = request.uri().path_and_query();
        Self {
            method: request.method().as_str(),
            target: target.map_or("", |target| target.as_str()),
            referer: text("referer"),
            origin: text("origin"),
            fetch: ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"].map(text),
            conditions: ["if-match", "if-none-match", "if-range", "range"].map(text),
            accept: text("accept"),
        }
    }

    /// How it came to be.
    pub fn fetch(&self) -> FetchHeaders<'_> {
        let [site, mode, dest] = self.fetch.each_ref().map(Option::as_deref);
        FetchHeaders {
            referer: self.referer.as_deref(),
            origin: self.origin.as_deref(),
            site,
            mode,
            dest,
        }
    }

    /// Which bytes it wants.
    pub fn conditions(&self) -> Conditions<'_> {
        let [if_match, if_none_match, if_range, range] =
            self.conditions.each_ref().map(Option::as_deref);
        Conditions {
            if_match,
            if_none_match,
            if_range,
            range: range.filter(|_| !self.is_head()),
        }
    }

    /// Whether nothing but headers is wanted.
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD.as_str()
    }

    /// Whether a refusal is for a person.
    pub fn wants_page(&self) -> bool {
        self.accept
            .as_deref()
            .is_some_and(refusal_page::is_preferred)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers
        .get_all(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut all = values.next()?;
    for value in values {
        let all = all.to_mut();
        all.push_str(", ");
        all.push_str(&value);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn several_values_are_one_list_and_raw_bytes_are_some_letter() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("referer");
        assert_eq!(text(&headers, "referer"), None);
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
        headers.append(name.clone(), value(b"https://a/gr\xc3\xb6\xdfe"));
        assert_eq!(text(&headers, "referer").unwrap(), "https://a/grö\u{fffd}e");
        headers.append(name, value(b"https://b/"));
        let all = text(&headers, "referer").unwrap();
        assert_eq!(all, "https://a/grö\u{fffd}e, https://b/");
    }
}
