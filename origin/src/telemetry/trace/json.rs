//! Spans as OTLP/HTTP carries them in JSON: ids in hex, 64-bit numbers as text.

use serde_json::{Value as Json, json};

use super::{Span, Value};
use shared::hex::hex;

/// An `ExportTraceServiceRequest`.
pub fn request(spans: &[Span]) -> Json {
    let version = env!("CARGO_PKG_VERSION");
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "signet"), text("service.version", version)] },
        "scopeSpans": [{ "scope": { "name": "signet", "version": version }, "spans": spans }],
    }] })
}

fn text(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn span(span: &Span) -> Json {
    let attributes: Vec<Json> = span
        .attributes
        .iter()
        .map(|(key, value)| match value {
            Value::Text(value) => text(key, value),
            Value::Number(value) => {
                json!({ "key": key, "value": { "intValue": value.to_string() } })
            }
        })
        .collect();
    let mut json = json!({
        "traceId": hex(&span.context.trace()),
        "spanId": hex(&span.context.span()),
        "name": span.name,
        // SPAN_KIND_SERVER, SPAN_KIND_INTERNAL.
        "kind": if span.is_server { 2 } else { 1 },
        "startTimeUnixNano": span.begun.to_string(),
        "endTimeUnixNano": span.ended.to_string(),
        "attributes": attributes,
        // STATUS_CODE_ERROR, STATUS_CODE_UNSET.
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if let (Some(parent), Some(fields)) = (span.parent, json.as_object_mut()) {
        fields.insert("parentSpanId".into(), hex(&parent).into());
    }
    json
}
