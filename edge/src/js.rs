//! The border to JavaScript: every crossing costs, so there are few, each declared here.

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen(module = "/src/glue.js")]
extern "C" {
    fn header_lines(headers: &web_sys::Headers) -> String;
    fn respond(status: u16, lines: &str, body: &JsValue) -> web_sys::Response;
    fn keep_headers(lines: &str);
    fn keep_set(number: u32, lines: &str);
    fn picture(status: u16, lines: &str, body: &JsValue) -> web_sys::Response;
    fn keep_address_header(name: &str);
    fn link_headers(request: &web_sys::Request) -> String;
    fn wishes(request: &web_sys::Request) -> Option<String>;
    fn add_template(status: u16, lines: &str, body: &JsValue) -> u32;
    fn from_template(number: u32, lines: &str) -> web_sys::Response;
    fn take_body(request: &web_sys::Request, declared: f64, up_to: f64, limit: f64) -> Promise;
    fn text_body(text: &str) -> TakenBody;
    fn forward(url: &str, method: &str, lines: &str, body: &JsValue) -> Promise;
    fn document_text(url: &str, lines: &str, wait: u32, up_to: u32) -> Promise;
    fn keys_of(text: &str) -> Promise;
    fn token_holds(kid: &str, signature: &[u8], text: &str) -> Promise;
    fn wait_until(event: &Event, work: Promise);
    fn pass_on(answer: &web_sys::Response, set: &str, remove: &str) -> web_sys::Response;
    fn within_limits(env: &JsValue, asks: &str) -> Promise;
    fn object_answer(namespace: &JsValue, name: &str, method: &str, body: &JsValue) -> Promise;
    fn object_bytes(namespace: &JsValue, name: &str, body: &str) -> Promise;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn fill_random(bytes: &mut [u8]);

    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);

    /// The rows of a Durable Object.
    pub type Rows;
    /// The row under `key`.
    #[wasm_bindgen(method, catch)]
    pub fn read(this: &Rows, key: &[u8]) -> Result<Option<Vec<u8>>, JsValue>;
    /// Keeps a row; from `ends` on, in Unix milliseconds, it may be forgotten.
    #[wasm_bindgen(method, catch)]
    pub fn write(this: &Rows, key: &[u8], row: &[u8], ends: f64) -> Result<(), JsValue>;

    /// What a request comes with: the environment, the context, and the functions by which JavaScript asks back.
    #[derive(Clone)]
    pub type Event;

    /// A request's body, taken by `take_body`.
    pub type TakenBody;
    #[wasm_bindgen(method, getter)]
    fn bytes(this: &TakenBody) -> Option<Uint8Array>;
    #[wasm_bindgen(method, getter)]
    fn over(this: &TakenBody) -> bool;
}

/// Header lines under construction: name, value, name, value, …
#[derive(Default, PartialEq, Eq, Hash)]
pub struct Lines(String);

impl Lines {
    /// Adds a header. Neither part may hold a line feed: names are ours, values come from headers or are ours.
    pub fn push(&mut self, name: &str, value: &str) {
        for part in [name, "\n", value, "\n"] {
            self.0.push_str(part);
        }
    }

    /// As JavaScript reads them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An answer of our own.
pub fn answer(status: u16, headers: &Lines, body: &JsValue) -> web_sys::Response {
    respond(status, &headers.0, body)
}

/// Keeps the headers that stand in every picture's answer on the other side of the border, before the first answer.
pub fn keep_picture_headers(headers: &Lines) {
    keep_headers(&headers.0);
}

/// A picture's answer with `headers` beside the kept ones.
pub fn picture_answer(status: u16, headers: &Lines, body: &JsValue) -> web_sys::Response {
    picture(status, &headers.0, body)
}

/// Keeps the headers of a whole picture, the tag left out, under a number; the kept ones are among them.
pub fn keep_headers_as(number: u32, headers: &Lines) {
    keep_set(number, &headers.0);
}

/// An answer that never changes, made once and kept on the other side of the border.
#[derive(Clone, Copy)]
pub struct Template(u32);

impl Template {
    /// Keeps it.
    pub fn new(status: u16, headers: &Lines, body: &JsValue) -> Self {
        Self(add_template(status, &headers.0, body))
    }

    /// A copy to answer with, with `headers` beside its own.
    pub fn answer(self, headers: &Lines) -> web_sys::Response {
        from_template(self.0, &headers.0)
    }
}

/// All headers of a request as lines; read with [`header_pairs`].
pub fn all_headers(request: &web_sys::Request) -> String {
    header_lines(&request.headers())
}

/// Names the header that carries the client's address, before the first link is looked at.
pub fn read_address_from(name: &str) {
    keep_address_header(name);
}

/// The headers that a link's path reads, and the one that carries the client's address; read with [`header_pairs`].
pub fn headers_of_link(request: &web_sys::Request) -> String {
    link_headers(request)
}

/// `Origin`, and `Accept` where it could want a page: what an answer without a picture goes by; read with
/// [`header_pairs`].
pub fn wishes_of(request: &web_sys::Request) -> String {
    wishes(request).unwrap_or_default()
}

/// Asks the Durable Object `name` of a namespace; status and text of its answer.
///
/// # Errors
/// What the binding throws.
pub async fn ask_object(
    env: &worker::Env,
    binding: &str,
    name: &str,
    method: &str,
    body: Option<&str>,
) -> Result<(u16, String), JsValue> {
    let namespace = js_sys::Reflect::get(env, &JsValue::from_str(binding))?;
    let body = body.map_or(JsValue::UNDEFINED, JsValue::from_str);
    let answer = JsFuture::from(object_answer(&namespace, name, method, &body)).await?;
    let answer = answer.as_string().unwrap_or_default();
    let (status, text) = answer.split_once('\n').unwrap_or_default();
    Ok((status.parse().unwrap_or(0), text.to_owned()))
}

/// Asks a Durable Object something that it answers with bytes: its status, and they.
///
/// # Errors
/// What the binding throws.
pub async fn ask_object_bytes(
    env: &worker::Env,
    binding: &str,
    name: &str,
    body: &str,
) -> Result<(u16, Vec<u8>), JsValue> {
    let namespace = js_sys::Reflect::get(env, &JsValue::from_str(binding))?;
    let answer = JsFuture::from(object_bytes(&namespace, name, body)).await?;
    Ok(match answer.dyn_into::<Uint8Array>() {
        Ok(bytes) => (200, bytes.to_vec()),
        Err(status) => (
            status.as_f64().map_or(0, |status| status as u16),
            Vec::new(),
        ),
    })
}

/// Names (lower case) and values of header lines.
pub fn header_pairs(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = lines.split('\n');
    std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
}

/// Fresh random bytes from the runtime.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// Logs an error for the operator; never anything of a request's secrets.
pub fn log_error(text: &str) {
    console_error(text);
}

/// What `text` says of a JavaScript error, for the log.
pub fn describe(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()))
        .or_else(|| error.as_string())
        .unwrap_or_else(|| "unknown error".into())
}

/// A body ready to be forwarded.
pub struct Body(TakenBody);

impl Body {
    /// Takes the body of `request`, of which `declared` bytes were announced. Up to `up_to` bytes come whole.
    ///
    /// # Errors
    /// When the client broke off.
    pub async fn take(
        request: &web_sys::Request,
        declared: Option<u64>,
        up_to: usize,
        limit: u64,
    ) -> Result<Self, JsValue> {
        let declared = declared.map_or(-1.0, |bytes| bytes as f64);
        let taken =
            JsFuture::from(take_body(request, declared, up_to as f64, limit as f64)).await?;
        Ok(Self(taken.unchecked_into()))
    }

    /// A body of our own.
    pub fn of(text: &str) -> Self {
        Self(text_body(text))
    }

    /// The bytes of a short body.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.0.bytes().map(|array| array.to_vec())
    }

    /// Whether more than the limit has passed.
    pub fn is_over(&self) -> bool {
        self.0.over()
    }
}

/// Asks the origin; `None` when it gives no answer, the cause is logged.
pub async fn ask_origin(
    url: &str,
    method: &str,
    headers: &Lines,
    body: Option<&Body>,
) -> Option<web_sys::Response> {
    let body = body.map_or(JsValue::UNDEFINED, |body| JsValue::from(&body.0));
    let value = JsFuture::from(forward(url, method, &headers.0, &body))
        .await
        .ok()?;
    value.dyn_into().ok()
}

/// A document of the origin, within `wait` seconds and up to `up_to` characters.
pub async fn document(url: &str, headers: &Lines, wait: u64, up_to: u32) -> Option<String> {
    let wait = u32::try_from(wait.saturating_mul(1000)).unwrap_or(u32::MAX);
    let text = JsFuture::from(document_text(url, &headers.0, wait, up_to)).await;
    text.ok()?.as_string()
}

/// Keeps the public keys of a JWKS, in place of those at hand: issuer, audience and the keys' ids, a line each.
///
/// # Errors
/// What is no JWKS.
pub async fn take_keys(text: &str) -> Result<String, JsValue> {
    let lines = JsFuture::from(keys_of(text)).await?;
    Ok(lines.as_string().unwrap_or_default())
}

/// Whether the kept key `kid` made this signature.
///
/// # Errors
/// No such key, or what WebCrypto throws.
pub async fn verify_token(kid: &str, signature: &[u8], text: &str) -> Result<bool, JsValue> {
    let holds = JsFuture::from(token_holds(kid, signature, text)).await?;
    Ok(holds.is_truthy())
}

/// Work that goes on after the answer.
pub fn after_answer(event: &Event, work: impl Future<Output = ()> + 'static) {
    let work = wasm_bindgen_futures::future_to_promise(async move {
        work.await;
        Ok(JsValue::UNDEFINED)
    });
    wait_until(event, work);
}

/// The origin's answer with headers `set`, and those named in `remove` (one a line) gone.
pub fn pass(answer: &web_sys::Response, set: &Lines, remove: &str) -> web_sys::Response {
    pass_on(answer, &set.0, remove)
}

/// Asks Rate Limiting bindings in turn, a line for each name and each key; whether all of them let pass. One that fails
/// does, and that is logged.
pub async fn ask_limiters(env: &worker::Env, asks: &Lines) -> bool {
    let within = JsFuture::from(within_limits(env, &asks.0)).await;
    within.map_or(true, |within| within.is_truthy())
}
