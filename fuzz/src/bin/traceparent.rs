//! `traceparent` headers: what is accepted is spelt as the standard says, and names a trace and a span.

use origin::telemetry::trace::Context;

fn main() -> Result<(), String> {
    let seeds: Vec<String> = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000001-0000000000000001-00",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ]
    .map(String::from)
    .into();
    fuzz::run("traceparent", &seeds, |input| {
        let Some(context) = Context::parse(input) else {
            return Ok(());
        };
        let parts: Vec<&str> = input.split('-').collect();
        let (Some(trace), Some(span)) = (parts.get(1), parts.get(2)) else {
            return Err("less than a trace and a span is accepted".into());
        };
        let is_hex = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let zero = |text: &str| text.bytes().all(|c| c == b'0');
        if trace.len() != 32 || span.len() != 16 || !is_hex(trace) || !is_hex(span) {
            return Err("an odd id is accepted".into());
        }
        if zero(trace) || zero(span) || input.starts_with("ff") {
            return Err("an id or version that names nothing is accepted".into());
        }
        if input.starts_with("00-") && input.len() != 55 {
            return Err("this version has four parts".into());
        }
        let child = context.child();
        if child.is_sampled() != context.is_sampled() || child.span() == context.span() {
            return Err("a child is of another trace, or its parent".into());
        }
        Ok(())
    })
}
