//! JSON bodies of clients: an error stays short, and what is read is written back as the same, with each key once.

use origin::error::ApiError;
use origin::json::{canonical, parse};
use serde_json::Value;

/// Longest error in bytes.
const LONGEST: usize = 4_096;

fn has_float(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        plain => plain.is_f64(),
    }
}

fn main() -> Result<(), String> {
    let seeds = [
        r#"{"prompt":"a red apple","steps":4.0,"seed":-1,"n":1}"#.to_owned(),
        r#"{"width":128,"height":1e2,"guidance_scale":7.5,"prompt":"\u00e9\ud83c\udf4e"}"#
            .to_owned(),
        r#"{"a":{"b":[1,{"c":null}],"b":2},"a":[[[[]]]]}"#.to_owned(),
        r#"{"ttl":60,"ip":"2001:db8::1","dl":"a.png"}"#.to_owned(),
    ];
    fuzz::run("json", &seeds, |input| match parse(input.as_bytes()) {
        Err(ApiError::Invalid(text)) if text.len() <= LONGEST => Ok(()),
        Err(error) => Err(format!("another error: {error}")),
        Ok(value) => {
            let text = canonical(&value);
            let again = parse(text.as_bytes()).map_err(|_| format!("not JSON: {text}"))?;
            if !has_float(&value) && canonical(&again) != text {
                return Err(format!("another spelling of {text}"));
            }
            Ok(())
        }
    })
}
