//! Answers: pictures with the contract's headers, and errors that are never kept anywhere.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use shared::access_token;
use shared::error_shape::Shape;
use shared::image_headers;
use shared::link::PermittedLink;
use shared::problem::{self, Problem};
use shared::range::Bytes;
use shared::refusal_page;
use shared::site_file::{self, SiteFile};
use wasm_bindgen::JsValue;
use web_sys::{Request, Response};
use worker::ResponseBody;

use crate::bucket::{Asked, Object};
use crate::config::Config;
use crate::js::{self, Lines, Template};
use crate::limits::{Refusal, hex};

/// The answer that opens what was asked of a picture: 200, 206, 304 or 416. `now` in Unix seconds.
pub fn picture(object: Object, wish: &Wish, config: &Config, now: u64) -> Response {
    let Object { link, asked } = object;
    let mut headers = Lines::default();
    let refused = match asked.bytes {
        Bytes::Unsatisfiable => {
            headers.push("content-range", &format!("bytes */{}", asked.size));
            problem::RANGE_NOT_SATISFIABLE
        }
        Bytes::Other => problem::PRECONDITION_FAILED,
        Bytes::Whole | Bytes::Part { .. } | Bytes::NotModified => {
            keep_headers(config);
            let has_type = asked.bytes != Bytes::NotModified;
            let headers = headers_of(link.link(), has_type, wish.origin.as_deref(), now);
            return part(asked, headers, wish.head);
        }
    };
    let request_id = hex(&js::random::<16>());
    let context = Context {
        head: wish.head,
        request_id: Some(&request_id),
        wish: Some(wish),
        ..Context::default()
    };
    problem_with(refused, headers, &context)
}

/// How a request on the images host is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Without a body.
    pub head: bool,
    /// A refusal as a page.
    pub page: bool,
    /// The origin whose scripts may read the answer.
    pub origin: Option<String>,
}

impl Wish {
    /// Reads it from a request.
    pub fn of(request: &Request, head: bool, config: &Config) -> Self {
        let mut wish = Self {
            head,
            ..Self::default()
        };
        let lines = js::wishes_of(request);
        for (name, value) in js::header_pairs(&lines) {
            match name {
                "origin" => {
                    wish.origin = config.referer.readable_by(Some(value)).map(str::to_owned)
                }
                _ => wish.page = refusal_page::is_preferred(value),
            }
        }
        wish
    }

    fn push_origin(&self, headers: &mut Lines) {
        push_origin(self.origin.as_deref(), headers);
    }
}

fn push_origin(origin: Option<&str>, headers: &mut Lines) {
    for (name, value) in origin.map(image_headers::readable_by).into_iter().flatten() {
        headers.push(name, value);
    }
}

/// What depends on the link in the headers of its answer.
fn headers_of(link: &PermittedLink, has_type: bool, origin: Option<&str>, now: u64) -> Lines {
    let mut headers = Lines::default();
    headers.push("cache-control", &image_headers::cache_control(link, now));
    if has_type {
        headers.push("content-type", link.key().content_type());
        if let Some(value) = image_headers::content_disposition(link) {
            headers.push("content-disposition", &value);
        }
    }
    push_origin(origin, &mut headers);
    headers
}

/// So many sets of headers of whole pictures are kept on the other side of the border.
const MOST_SETS: usize = 256;

thread_local! {
    /// Under which number a set of headers is kept.
    static SETS: RefCell<HashMap<Lines, u32>> = RefCell::default();
}

/// The number of the headers with which a whole picture is answered; most links have the same.
pub fn whole_headers(link: &PermittedLink, origin: Option<&str>, config: &Config, now: u64) -> u32 {
    keep_headers(config);
    let headers = headers_of(link, true, origin, now);
    SETS.with_borrow_mut(|sets| {
        if let Some(number) = sets.get(&headers) {
            return *number;
        }
        if sets.len() >= MOST_SETS {
            sets.clear();
        }
        let number = u32::try_from(sets.len()).unwrap_or(0);
        js::keep_headers_as(number, &headers);
        sets.insert(headers, number);
        number
    })
}

fn part(asked: Asked, mut headers: Lines, head: bool) -> Response {
    let status = match asked.bytes {
        Bytes::NotModified => 304,
        Bytes::Part { first, last } => {
            headers.push(
                "content-range",
                &image_headers::content_range(first, last, asked.size),
            );
            206
        }
        Bytes::Whole | Bytes::Unsatisfiable | Bytes::Other => 200,
    };
    headers.push("etag", &asked.etag);
    if head && status != 304 {
        headers.push("content-length", &asked.size.to_string());
    }
    let body = match asked.body {
        ResponseBody::Stream(stream) => JsValue::from(stream),
        ResponseBody::Body(_) | ResponseBody::Empty => JsValue::UNDEFINED,
    };
    js::picture_answer(status, &headers, &body)
}

thread_local! {
    static ARE_KEPT: Cell<bool> = const { Cell::new(false) };
}

/// What stands in every picture's answer crosses the border once.
fn keep_headers(config: &Config) {
    if ARE_KEPT.replace(true) {
        return;
    }
    let mut headers = Lines::default();
    for (name, value) in image_headers::ALWAYS {
        headers.push(name, value);
    }
    headers.push("cross-origin-resource-policy", config.resource_policy);
    js::keep_picture_headers(&headers);
}

/// What the origin alone is told: 204 without a body, or text.
pub fn told(status: u16, text: &str, request_id: &str) -> Response {
    let mut headers = Lines::default();
    headers.push("cache-control", "no-store");
    headers.push("x-request-id", request_id);
    let body = match status {
        204 => JsValue::UNDEFINED,
        _ => JsValue::from_str(text),
    };
    js::answer(status, &headers, &body)
}

/// To a link's clean spelling. Without `Referrer-Policy`: the request that follows must say where it comes from.
pub fn sent_on(clean: &str, wish: &Wish) -> Response {
    let mut headers = Lines::default();
    wish.push_origin(&mut headers);
    headers.push("cache-control", "no-store");
    headers.push("location", clean);
    headers.push("x-content-type-options", "nosniff");
    headers.push("x-robots-tag", "noindex");
    let (name, value) = image_headers::VARY;
    headers.push(name, value);
    headers.push("x-request-id", &hex(&js::random::<16>()));
    js::answer(302, &headers, &JsValue::UNDEFINED)
}

/// Yes to the scripts of `origin`.
pub fn preflight(origin: &str) -> Response {
    let mut headers = Lines::default();
    push_origin(Some(origin), &mut headers);
    for (name, value) in image_headers::PREFLIGHT
        .into_iter()
        .chain([image_headers::VARY])
    {
        headers.push(name, value);
    }
    headers.push("x-request-id", &hex(&js::random::<16>()));
    js::answer(204, &headers, &JsValue::UNDEFINED)
}

/// What browsers and crawlers ask every host for.
pub fn site_file(file: SiteFile, head: bool) -> Response {
    let (status, text) = file.answer();
    let mut headers = Lines::default();
    headers.push("cache-control", site_file::CACHE_CONTROL);
    headers.push("x-content-type-options", "nosniff");
    if let Some(text) = text {
        headers.push("content-type", "text/plain; charset=utf-8");
        headers.push("content-length", &text.len().to_string());
    }
    headers.push("x-request-id", &hex(&js::random::<16>()));
    let body = text.filter(|_| !head).map(JsValue::from_str);
    js::answer(status, &headers, &body.unwrap_or(JsValue::UNDEFINED))
}

/// What a problem's answer knows about its request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The answer to HEAD has no body.
    pub head: bool,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// More for people than the title says.
    pub detail: Option<&'a str>,
    /// Methods to name in `Allow`.
    pub allow: Option<&'a str>,
    /// The limit that refused.
    pub limit: Option<Refusal>,
    /// As the path's clients read it.
    pub shape: Shape,
    /// On the images host: how it is to be answered.
    pub wish: Option<&'a Wish>,
}

/// A problem's answer.
pub fn problem(problem: Problem, context: &Context<'_>) -> Response {
    problem_with(problem, Lines::default(), context)
}

thread_local! {
    /// Refusals of links by code, by whether they answer HEAD, and by whether they are pages.
    static REFUSALS: RefCell<Vec<(&'static str, [bool; 2], Template)>> = const { RefCell::new(Vec::new()) };
}

/// A refusal of a link in which nothing varies but who may read it: floods of bad links must cost little.
pub fn refusal(problem: Problem, wish: &Wish) -> Response {
    let kind = [wish.head, wish.page];
    let mut origin = Lines::default();
    wish.push_origin(&mut origin);
    REFUSALS.with_borrow_mut(|known| {
        let found = known
            .iter()
            .find(|(code, other, _)| *code == problem.code && *other == kind);
        if let Some((.., template)) = found {
            return template.answer(&origin);
        }
        let (headers, body) = problem_parts(
            problem,
            Lines::default(),
            &Context {
                head: wish.head,
                wish: Some(&Wish {
                    origin: None,
                    ..wish.clone()
                }),
                ..Context::default()
            },
        );
        let template = Template::new(problem.status, &headers, &body);
        known.push((problem.code, kind, template));
        template.answer(&origin)
    })
}

fn problem_with(problem: Problem, headers: Lines, context: &Context<'_>) -> Response {
    let (headers, body) = problem_parts(problem, headers, context);
    js::answer(problem.status, &headers, &body)
}

fn problem_parts(problem: Problem, mut headers: Lines, context: &Context<'_>) -> (Lines, JsValue) {
    let page = context.wish.is_some_and(|wish| wish.page);
    if let Some(wish) = context.wish {
        let (name, value) = image_headers::VARY;
        headers.push(name, value);
        wish.push_origin(&mut headers);
    }
    if page {
        headers.push("content-type", refusal_page::MEDIA_TYPE);
        for (name, value) in refusal_page::headers() {
            headers.push(name, &value);
        }
    } else {
        headers.push("content-type", context.shape.media_type());
    }
    headers.push("cache-control", "no-store");
    headers.push("x-content-type-options", "nosniff");
    if problem == problem::UNAUTHORIZED {
        headers.push("www-authenticate", access_token::CHALLENGE);
    }
    if let Some(allow) = context.allow {
        headers.push("allow", allow);
    }
    if let Some(id) = context.request_id {
        headers.push("x-request-id", id);
    }
    let mut detail = context.detail.map(str::to_owned);
    if let Some(limit) = context.limit {
        let Refusal {
            policy,
            quota,
            window,
            retry_after,
        } = limit;
        headers.push("retry-after", &retry_after.to_string());
        headers.push("ratelimit", &format!("\"{policy}\";r=0;t={retry_after}"));
        headers.push(
            "ratelimit-policy",
            &format!("\"{policy}\";q={quota};w={window}"),
        );
        detail = Some(format!("The limit {policy} is used up."));
    }
    let body = || {
        context
            .shape
            .body(problem, detail.as_deref(), context.request_id)
    };
    let body = match context.head {
        true => JsValue::UNDEFINED,
        false if page => JsValue::from_str(&refusal_page::page(problem)),
        false => JsValue::from_str(&body()),
    };
    (headers, body)
}
