//! Traces: a request and the stages of its generation as spans, sent by OTLP/HTTP in JSON where an endpoint is set.
//!
//! The trace's id is the caller's `traceparent` where one came, else the request's id, so that a trace is found by the
//! `x-request-id` that the edge made. A span holds a route's template, a status and numbers; nothing that a client sent.

mod context;
mod export;
mod json;

use std::borrow::Cow;

use actix_web::{HttpMessage, HttpRequest};
use prometheus::IntCounter;
use tokio::sync::mpsc;

pub use context::Context;
pub use export::follow;

use crate::clock::Clock;

/// Spans that wait to be sent; further ones are dropped and counted.
const QUEUE: usize = 4_096;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word of ours.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    context: Context,
    parent: Option<[u8; 8]>,
    name: Cow<'static, str>,
    is_server: bool,
    begun: u64,
    ended: u64,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// Takes spans. Cheap to clone; where no endpoint is set it does nothing.
#[derive(Clone, Debug)]
pub struct Tracer {
    queue: Option<mpsc::Sender<Span>>,
    percent: u8,
    dropped: IntCounter,
    clock: Clock,
}

impl Tracer {
    /// A tracer, and where it is `on` the spans it takes, for [`follow`]. `percent` of the traces are taken.
    pub fn new(
        on: bool,
        percent: u8,
        dropped: IntCounter,
        clock: Clock,
    ) -> (Self, Option<mpsc::Receiver<Span>>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let tracer = Self {
            queue: on.then_some(queue),
            percent,
            dropped,
            clock,
        };
        (tracer, on.then_some(spans))
    }

    /// The span of a request that begins: a child of `traceparent`, else the root of the trace that its id names. None
    /// where it is not taken.
    pub fn begin(&self, traceparent: Option<&str>, request_id: &str) -> Option<Begun> {
        self.queue.as_ref()?;
        let caller = traceparent.and_then(Context::parse);
        let context = caller.map_or_else(|| Context::of_request(request_id), |one| one.child());
        let taken = caller.is_none_or(|one| one.is_sampled()) && context.is_among(self.percent);
        taken.then(|| Begun {
            context,
            parent: caller.map(|one| one.span()),
            at: self.clock.nanos(),
        })
    }

    /// Ends the span of a request.
    pub fn end(&self, begun: &Begun, method: &str, route: &str, status: u16, request_id: &str) {
        // A method is a client's word; all but the known ones have one name.
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" => method,
            _ => "_OTHER",
        };
        self.send(Span {
            context: begun.context,
            parent: begun.parent,
            name: format!("{method} {route}").into(),
            is_server: true,
            begun: begun.at,
            ended: self.clock.nanos(),
            attributes: vec![
                ("http.request.method", Value::Text(method.to_owned().into())),
                ("http.route", Value::Text(route.to_owned().into())),
                ("http.response.status_code", Value::Number(status.into())),
                (
                    "signet.request_id",
                    Value::Text(request_id.to_owned().into()),
                ),
            ],
            failed: status >= 500,
        });
    }

    /// A stage of a generation, from `begun` to `ended` (nanoseconds since the epoch).
    pub fn stage(
        &self,
        of: Option<Context>,
        name: &'static str,
        (begun, ended): (u64, u64),
        attributes: Vec<(&'static str, Value)>,
        failed: bool,
    ) {
        let Some(parent) = of else { return };
        self.send(Span {
            context: parent.child(),
            parent: Some(parent.span()),
            name: name.into(),
            is_server: false,
            begun,
            ended: ended.max(begun),
            attributes,
            failed,
        });
    }

    fn send(&self, span: Span) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

impl Context {
    /// The span of a request that is being answered.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        request
            .extensions()
            .get::<Begun>()
            .map(|begun| begun.context)
    }
}

/// A request's span that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// What its stages are children of.
    pub context: Context,
    parent: Option<[u8; 8]>,
    at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(on: bool, percent: u8) -> (Tracer, Option<mpsc::Receiver<Span>>) {
        let dropped = IntCounter::new("dropped", "x").unwrap();
        Tracer::new(on, percent, dropped, Clock::manual(1_000))
    }

    #[test]
    fn nothing_is_taken_without_an_endpoint_or_from_an_unsampled_caller() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert!(tracer(false, 100).0.begin(None, id).is_none());
        assert!(tracer(true, 0).0.begin(None, id).is_none());
        let (tracer, _spans) = tracer(true, 100);
        assert!(tracer.begin(None, id).is_some());
        let caller =
            |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        assert!(tracer.begin(Some(&caller("00")), id).is_none());
        let begun = tracer.begin(Some(&caller("01")), "other").unwrap();
        assert_eq!(
            begun.parent,
            Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31])
        );
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracer, mut spans) = tracer(true, 100);
        let begun = tracer.begin(None, "r").unwrap();
        for _ in 0..QUEUE + 3 {
            tracer.end(&begun, "BREW", "/x", 200, "r");
        }
        assert_eq!(tracer.dropped.get(), 3);
        assert_eq!(
            spans.as_mut().unwrap().try_recv().unwrap().name,
            "_OTHER /x"
        );
    }
}
