//! Pages for people: the studio and the operator's page. One policy around them ([`fence`]), one way to serve their
//! files, which are compiled in.
//!
//! No answer of a page names another origin: there is no CORS header anywhere, so no foreign script reads one.

mod fence;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, InvalidHeaderValue,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::hex::hex;

pub use fence::{ImagesOrigin, InvalidOrigin, security_headers};

/// JavaScript's media type.
pub const JS: &str = "text/javascript; charset=utf-8";
/// The media type of style sheets.
pub const CSS: &str = "text/css; charset=utf-8";
/// The media type of pages.
pub const HTML: &str = "text/html; charset=utf-8";
/// Of files whose folder is named by their content.
pub const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A file of a page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Name in the folder.
    pub name: &'static str,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub text: &'static str,
}

/// The folder's name: 16 hex digits over the names and contents of all files. Browsers keep them for ever, and a new
/// build is a new folder.
pub fn version(assets: &[Asset]) -> String {
    let mut hash = Sha256::new();
    for asset in assets {
        for part in [asset.name, asset.content_type, asset.text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    short_hex(&hash.finalize().into(), 8)
}

/// The first bytes of a hash.
fn short_hex(hash: &[u8; 32], first: usize) -> String {
    hex(hash.get(..first).unwrap_or(hash))
}

/// The headers of a page and its files.
#[derive(Clone, Debug)]
pub struct Fence(Vec<(HeaderName, HeaderValue)>);

impl Fence {
    /// Around a page that shows pictures from `images`, or none from elsewhere.
    ///
    /// # Errors
    /// Never; the type of a header's value just cannot know.
    pub fn new(images: Option<&ImagesOrigin>) -> Result<Self, InvalidHeaderValue> {
        security_headers(images).map(Self)
    }

    /// An answer within the fence: 304 when the caller has it already.
    pub fn answer(
        &self,
        request: &HttpRequest,
        content_type: &'static str,
        cache: &'static str,
        body: Bytes,
    ) -> HttpResponse {
        let tag = format!("\"{}\"", short_hex(&Sha256::digest(&body).into(), 12));
        let known = request.headers().get_all(IF_NONE_MATCH);
        let known = known.filter_map(|value| value.to_str().ok());
        let has_it = known.flat_map(|value| value.split(',')).any(|one| {
            let one = one.trim();
            one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
        });
        if !has_it {
            return self.of(StatusCode::OK, content_type, cache, Some(&tag), body);
        }
        let empty = Bytes::new();
        let mut response = self.of(
            StatusCode::NOT_MODIFIED,
            content_type,
            cache,
            Some(&tag),
            empty,
        );
        response.headers_mut().remove(CONTENT_TYPE);
        response
    }

    /// An answer of any status within the fence, never kept.
    pub fn fresh(
        &self,
        status: StatusCode,
        content_type: &'static str,
        body: Bytes,
    ) -> HttpResponse {
        self.of(status, content_type, "no-store", None, body)
    }

    fn of(
        &self,
        status: StatusCode,
        content_type: &'static str,
        cache: &'static str,
        tag: Option<&str>,
        body: Bytes,
    ) -> HttpResponse {
        let mut response = HttpResponse::build(status);
        for (name, value) in &self.0 {
            response.insert_header((name.clone(), value.clone()));
        }
        response.insert_header((CACHE_CONTROL, cache));
        if let Some(tag) = tag {
            response.insert_header((ETAG, tag));
        }
        if status == StatusCode::NOT_MODIFIED {
            return response.finish();
        }
        response
            .insert_header((CONTENT_TYPE, content_type))
            .body(body)
    }
}
