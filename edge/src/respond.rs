//! Answers: pictures with the contract's headers, and errors that are never kept anywhere.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use shared::access_token;
use shared::error_shape::Shape;
use shared::image_headers;
use shared::link::PermittedLink;
use shared::problem::{self, Problem};
use shared::range::Bytes;
use wasm_bindgen::JsValue;
use web_sys::Response;
use worker::ResponseBody;

use crate::bucket::{Asked, Object};
use crate::config::Config;
use crate::js::{self, Lines, Template};
use crate::limits::{Refusal, hex};

/// The answer that opens what was asked of a picture: 200, 206, 304 or 416. `now` in Unix seconds.
pub fn picture(object: Object, head: bool, config: &Config, now: u64) -> Response {
    let Object { link, asked } = object;
    if asked.bytes == Bytes::Unsatisfiable {
        let mut headers = Lines::default();
        headers.push("content-range", &format!("bytes */{}", asked.size));
        let request_id = hex(&js::random::<16>());
        return problem_with(
            problem::RANGE_NOT_SATISFIABLE,
            headers,
            &Context {
                head,
                request_id: Some(&request_id),
                ..Context::default()
            },
        );
    }
    keep_headers(config);
    let has_type = asked.bytes != Bytes::NotModified;
    part(asked, headers_of(link.link(), has_type, now), head)
}

/// What depends on the link in the headers of its answer.
fn headers_of(link: &PermittedLink, has_type: bool, now: u64) -> Lines {
    let mut headers = Lines::default();
    headers.push("cache-control", &image_headers::cache_control(link, now));
    if has_type {
        headers.push("content-type", link.key().content_type());
        if let Some(value) = image_headers::content_disposition(link) {
            headers.push("content-disposition", &value);
        }
    }
    headers
}

/// So many sets of headers of whole pictures are kept on the other side of the border.
const MOST_SETS: usize = 256;

thread_local! {
    /// Under which number a set of headers is kept.
    static SETS: RefCell<HashMap<Lines, u32>> = RefCell::default();
}

/// The number of the headers with which a whole picture is answered; most links have the same.
pub fn whole_headers(link: &PermittedLink, config: &Config, now: u64) -> u32 {
    keep_headers(config);
    let headers = headers_of(link, true, now);
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
        Bytes::Whole | Bytes::Unsatisfiable => 200,
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
}

/// A problem's answer.
pub fn problem(problem: Problem, context: &Context<'_>) -> Response {
    problem_with(problem, Lines::default(), context)
}

thread_local! {
    /// Refusals of links by code and by whether they answer HEAD.
    static REFUSALS: RefCell<Vec<(&'static str, bool, Template)>> = const { RefCell::new(Vec::new()) };
}

/// A refusal of a link in which nothing varies: floods of bad links must cost little.
pub fn refusal(problem: Problem, head: bool) -> Response {
    REFUSALS.with_borrow_mut(|known| {
        let found = known
            .iter()
            .find(|(code, for_head, _)| *code == problem.code && *for_head == head);
        if let Some((.., template)) = found {
            return template.answer();
        }
        let (headers, body) = problem_parts(
            problem,
            Lines::default(),
            &Context {
                head,
                ..Context::default()
            },
        );
        let template = Template::new(problem.status, &headers, &body);
        known.push((problem.code, head, template));
        template.answer()
    })
}

fn problem_with(problem: Problem, headers: Lines, context: &Context<'_>) -> Response {
    let (headers, body) = problem_parts(problem, headers, context);
    js::answer(problem.status, &headers, &body)
}

fn problem_parts(problem: Problem, mut headers: Lines, context: &Context<'_>) -> (Lines, JsValue) {
    headers.push("content-type", context.shape.media_type());
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
        false => JsValue::from_str(&body()),
    };
    (headers, body)
}
