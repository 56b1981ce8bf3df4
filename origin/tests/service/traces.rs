//! Traces arrive at a collector in the form of OTLP/HTTP JSON, and a collector that is away costs spans alone.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{ALL_SCOPES, Service, quick};

/// A collector: what was posted to it, by path.
#[derive(Clone)]
pub struct Collector {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            calls: Arc::default(),
        };
        let calls = Arc::clone(&collector.calls);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let calls = Arc::clone(&calls);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(call) = read(&mut reader) {
                        calls.lock().unwrap().push(call);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                        if reader.get_mut().write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        collector
    }

    /// All that came, as text.
    pub fn text(&self) -> String {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(path, body)| format!("{path}\n{body}\n"))
            .collect()
    }

    /// The spans that came.
    pub fn spans(&self) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let mut spans = Vec::new();
        for (path, body) in calls.iter() {
            assert_eq!(path, "POST /v1/traces HTTP/1.1");
            let request: Value = serde_json::from_str(body).unwrap();
            for resource in request["resourceSpans"].as_array().unwrap() {
                let name = &resource["resource"]["attributes"][0];
                assert_eq!(
                    *name,
                    serde_json::json!({ "key": "service.name", "value": { "stringValue": "signet" } })
                );
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    assert_eq!(scope["scope"]["name"], "signet");
                    spans.extend(scope["spans"].as_array().unwrap().clone());
                }
            }
        }
        spans
    }

    /// Waits until a span of this name came.
    pub fn wait(&self, name: &str) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let spans = self.spans();
            if spans.iter().any(|span| span["name"] == name) {
                return spans;
            }
            assert!(Instant::now() < until, "no {name} in {spans:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One request: its first line and its body.
fn read(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((
        head.lines().next()?.to_owned(),
        String::from_utf8(body).ok()?,
    ))
}

fn number(span: &Value, name: &str) -> u64 {
    span[name].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_generation_is_a_trace_from_the_request_to_the_store() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let service = Service::start(&[("SIGNET_TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    let token = service.token(ALL_SCOPES);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let answer = service
        .post("/api/generate")
        .token(&token)
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .json(&quick())
        .send()
        .ok();
    let spans = collector.wait("POST /api/generate");
    let of_trace: Vec<&Value> = spans
        .iter()
        .filter(|span| span["traceId"] == trace)
        .collect();
    let named = |name: &str| {
        let found = of_trace.iter().find(|span| span["name"] == name);
        *found.unwrap_or_else(|| panic!("no {name} in {of_trace:?}"))
    };
    let request = named("POST /api/generate");
    assert_eq!(request["kind"], 2);
    assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
    let attributes = request["attributes"].as_array().unwrap();
    for (key, value) in [
        (
            "http.request.method",
            serde_json::json!({ "stringValue": "POST" }),
        ),
        (
            "http.route",
            serde_json::json!({ "stringValue": "/api/generate" }),
        ),
        (
            "http.response.status_code",
            serde_json::json!({ "intValue": "200" }),
        ),
        (
            "signet.request_id",
            serde_json::json!({ "stringValue": answer.header("x-request-id") }),
        ),
    ] {
        assert!(
            attributes.contains(&serde_json::json!({ "key": key, "value": value })),
            "{key}"
        );
    }
    let mut before = 0;
    for stage in [
        "limits", "queue", "text", "denoise", "decode", "encode", "store",
    ] {
        let span = named(stage);
        assert_eq!(span["parentSpanId"], request["spanId"], "{stage}");
        assert_eq!(span["kind"], 1);
        let (begun, ended) = (
            number(span, "startTimeUnixNano"),
            number(span, "endTimeUnixNano"),
        );
        assert!(
            before <= begun + 5_000_000 && begun <= ended,
            "{stage} is out of order"
        );
        before = begun;
        assert!(number(request, "startTimeUnixNano") <= begun);
    }
    assert_eq!(of_trace.len(), 8);
    // Without a traceparent the trace is named by the request's id.
    let id = service
        .get("/api/images")
        .send()
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let spans = collector.wait("GET /api/images");
    let refused = spans
        .iter()
        .find(|span| span["name"] == "GET /api/images")
        .unwrap();
    assert_eq!(refused["traceId"], id);
    assert!(refused["parentSpanId"].is_null());
    assert!(
        service
            .metrics()
            .contains("signet_trace_spans_dropped_total 0")
    );
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoint = format!("http://{nobody}");
    let service = Service::start(&[("SIGNET_TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    let token = service.token(ALL_SCOPES);
    service.picture(&token);
    let until = Instant::now() + Duration::from_secs(30);
    while service
        .metrics()
        .contains("signet_trace_spans_dropped_total 0\n")
    {
        assert!(Instant::now() < until, "nothing was counted");
        std::thread::sleep(Duration::from_millis(200));
    }
    service.picture(&token);
    assert!(service.log().contains("traces are not taken"));
}
