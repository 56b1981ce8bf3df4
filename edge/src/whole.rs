//! The way of nearly every link: a whole picture to a plain GET. What there is to decide is decided here at once; what has
//! to be waited for (the shield, the object) is one function of JavaScript, `open_picture` in `glue.js`, since a promise
//! awaited in wasm costs more than the signature. It asks back for every word that is no picture.

use std::net::IpAddr;

use js_sys::{JsString, Promise};
use shared::link::{LinkError, PermittedLink};
use shared::object_key::ObjectKey;
use wasm_bindgen::prelude::*;
use web_sys::Request;
use worker::Env;

use crate::config::Config;
use crate::counts;
use crate::js::{Event, Lines};
use crate::limits::{LINKS, Limiters};
use crate::respond;
use crate::serve::{self, ServeError};

/// A deleted picture is gone from every cache after so long; the contract allows 60 s.
const CACHED_SECONDS: u32 = 50;
/// Larger pictures are not kept, for they would have to fit into memory.
const CACHED_UP_TO: u32 = 4 * 1024 * 1024;

#[wasm_bindgen(module = "/src/glue.js")]
extern "C" {
    fn open_picture(
        event: &Event,
        asks: Option<&str>,
        revoked: bool,
        text: &JsString,
        from: u32,
        to: u32,
        headers: u32,
        place: i32,
        seconds: u32,
        up_to: u32,
    ) -> Promise;
}

/// A permitted link whose picture is wanted whole.
pub struct Errand {
    /// The link.
    pub link: PermittedLink,
    /// The origin whose scripts may read the answer.
    pub origin: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// Unix seconds.
    pub now: u64,
    /// The place in the ring of the link's key.
    pub place: Option<usize>,
    /// A text that ends with the request target.
    pub text: JsString,
    /// Where in it the object's key begins, in bytes, all of them ASCII.
    pub at: usize,
}

impl Errand {
    /// Has it run: a promise of the answer. Whether the link is revoked is known, but the shield answers first.
    pub fn run(
        &self,
        limiters: &Limiters<'_>,
        verdict: Result<(), LinkError>,
        event: &Event,
        config: &Config,
    ) -> Promise {
        let asks = limiters.questions(LINKS, self.client);
        let revoked = verdict.is_err();
        let end = self.at + self.link.key().as_str().len();
        let [from, to] = [self.at, end].map(|at| u32::try_from(at).unwrap_or(0));
        let headers = respond::whole_headers(&self.link, self.origin.as_deref(), config, self.now);
        let place = self.place.and_then(|at| i32::try_from(at).ok());
        let cached = config.cache.then_some((CACHED_SECONDS, CACHED_UP_TO));
        let (seconds, up_to) = cached.unwrap_or_default();
        open_picture(
            event,
            asks.as_ref().map(Lines::as_str),
            revoked,
            &self.text,
            from,
            to,
            headers,
            place.unwrap_or(-1),
            seconds,
            up_to,
        )
    }
}

fn place_of(place: i32) -> Option<usize> {
    usize::try_from(place).ok()
}

/// Counts a picture that was opened under the ring's key at `place`, which is -1 for none.
#[wasm_bindgen]
pub fn link_opened(place: i32) {
    counts::link("ok", place_of(place));
}

/// Counts and answers what was not opened: `code` says why, `text` what a failing bucket said.
#[wasm_bindgen]
pub fn link_refused(code: &str, place: i32, text: &str, request: &Request, env: &Env) -> JsValue {
    let error = match code {
        "rate_limited" => {
            counts::limited(LINKS.policy);
            ServeError::RateLimited
        }
        "link_revoked" => ServeError::Link(LinkError::Revoked),
        "not_found" => ServeError::NotFound,
        _ => ServeError::Store(text.to_owned()),
    };
    counts::link(error.code(), place_of(place));
    match crate::configuration(env) {
        Some(config) => serve::refuse(&error, false, request, &config).into(),
        None => JsValue::UNDEFINED, // no link gets here without one
    }
}

/// Under which other key a picture may lie that is not under this one, since it was kept or let go.
#[wasm_bindgen]
pub fn link_counterpart(key: &str) -> Option<String> {
    let other = ObjectKey::parse(key).ok()?.counterpart()?;
    Some(other.as_str().to_owned())
}
