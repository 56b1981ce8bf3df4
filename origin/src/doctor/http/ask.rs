//! A request to be: what is asked, with which body, and how long its answer is waited for.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::doctor::inputs::Base;

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for a picture to be made.
const GENERATION_WITHIN: Duration = Duration::from_secs(100);

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One request to be.
#[derive(Debug)]
pub struct Ask<'a> {
    pub(super) base: &'a Base,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    pub(super) within: Duration,
}

#[derive(Debug)]
pub(super) enum Payload {
    Whole(Bytes),
    /// So many zeros, their number announced or not.
    Zeros {
        length: usize,
        announced: bool,
    },
}

impl Payload {
    pub(super) fn stream(self) -> Body {
        match self {
            Self::Whole(bytes) => Full::new(bytes).boxed_unsync(),
            Self::Zeros { length, announced } => {
                let zeros = Zeros(length, announced);
                if announced {
                    return zeros.boxed_unsync();
                }
                // A stream has no length of its own: it goes out in chunks.
                let chunks = zeros.into_data_stream();
                StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
            }
        }
    }
}

/// Zeros that were not sent yet, and whether their number is announced.
struct Zeros(usize, bool);

impl hyper::body::Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16 << 10] = [0; 16 << 10];
        let now = self.0.min(CHUNK.len());
        self.0 -= now;
        let chunk = CHUNK.get(..now).filter(|chunk| !chunk.is_empty());
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (self.1, u64::try_from(self.0)) {
            (true, Ok(left)) => hyper::body::SizeHint::with_exact(left),
            _ => hyper::body::SizeHint::default(),
        }
    }
}

impl<'a> Ask<'a> {
    /// A request for `target` of `base`, exactly as it is spelled.
    pub fn new(base: &'a Base, method: Method, target: impl Into<String>) -> Self {
        Self {
            base,
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: Payload::Whole(Bytes::new()),
            within: WITHIN,
        }
    }

    /// GET.
    pub fn get(base: &'a Base, target: impl Into<String>) -> Self {
        Self::new(base, Method::GET, target)
    }

    /// POST without a body.
    pub fn post(base: &'a Base, target: impl Into<String>) -> Self {
        Self::new(base, Method::POST, target)
    }

    /// Method, host and path, for evidence: the query may hold a signature.
    pub fn place(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {}{path}", self.method, self.base.url())
    }

    /// With a header; one that is no header is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// With an access token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, media: &str, body: impl Into<Bytes>) -> Self {
        self.body = Payload::Whole(body.into());
        self.header("content-type", media)
    }

    /// With a body of so many zeros, their number announced in `Content-Length` or not.
    #[must_use]
    pub fn zeros(mut self, media: &str, length: usize, announced: bool) -> Self {
        self.body = Payload::Zeros { length, announced };
        self.header("content-type", media)
    }

    /// Waits as long as a picture may take.
    #[must_use]
    pub fn patiently(mut self) -> Self {
        self.within = GENERATION_WITHIN;
        self
    }
}
