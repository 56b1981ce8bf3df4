//! JSON bodies of strangers, read strictly: each key once, whole floats as integers, and errors that name the field and
//! never a value.

use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::error::ApiError;

/// Longest part of a stranger's name for a field that an error repeats, in characters.
const LONGEST_NAME: usize = 64;
/// Most unknown fields that an error names.
const MOST_NAMES: usize = 16;

/// Reads a JSON body.
///
/// # Errors
/// `invalid_request`, which names the field.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let value = parse(body)?;
    let fields: Vec<String> = match &value {
        Value::Object(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    serde_path_to_error::deserialize(value)
        .map_err(|error| ApiError::Invalid(mistyped(&error, &fields)))
}

/// A JSON body as a tree in which each key stands once and whole floats are integers.
///
/// # Errors
/// `invalid_request`.
pub fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let strict: Strict = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ApiError::Invalid(misspelled(&error)))?;
    reader
        .end()
        .map_err(|error| ApiError::Invalid(no_json(&error, None)))?;
    Ok(strict.0)
}

/// The one spelling of a tree: keys in ascending order, no white space, members of the top that are null left out, as
/// if they had not been sent.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, true, &mut out);
    out
}

fn write(value: &Value, top: bool, out: &mut String) {
    let part = |out: &mut String, is_first: &mut bool| {
        if !std::mem::take(is_first) {
            out.push(',');
        }
    };
    let mut is_first = true;
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in fields {
                if top && value.is_null() {
                    continue;
                }
                part(out, &mut is_first);
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, false, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for value in values {
                part(out, &mut is_first);
                write(value, false, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree).map(Self)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Exact: no float of this size has a part that an i64 cannot hold.
        let is_whole = value.fract() == 0.0 && value.abs() < 9.0e18;
        Ok(if is_whole {
            Value::from(value as i64)
        } else {
            Value::from(value)
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = parts.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = parts.next_key::<String>()? {
            if fields.contains_key(&name) {
                let name = shortened(&name);
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            let Strict(value) = parts.next_value()?;
            fields.insert(name, value);
        }
        Ok(fields.into())
    }
}

/// A name for a field, as long as an error may repeat it.
pub(crate) fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(LONGEST_NAME).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// The field of the top in which something is wrong.
fn field(path: &serde_path_to_error::Path) -> Option<String> {
    match path.iter().next() {
        Some(Segment::Map { key }) => Some(shortened(key)),
        _ => None,
    }
}

fn no_json(error: &serde_json::Error, field: Option<&str>) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    match field {
        Some(field) => format!("the body is no JSON ({place}, in `{field}`)"),
        None => format!("the body is no JSON ({place})"),
    }
}

fn misspelled(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (inner, field) = (error.inner(), field(error.path()));
    let text = inner.to_string();
    if text.starts_with("duplicate field") && inner.classify() == Category::Data {
        return text.split(" at line").next().unwrap_or("").to_owned();
    }
    match field {
        Some(field) if text.starts_with("number out of range") => {
            format!("`{field}` is a number out of range")
        }
        field => no_json(inner, field.as_deref()),
    }
}

fn mistyped(error: &serde_path_to_error::Error<serde_json::Error>, sent: &[String]) -> String {
    let text = error.inner().to_string();
    if text.starts_with("unknown field") {
        return unknown(&text, sent);
    }
    if text.starts_with("missing field") {
        return text;
    }
    // Before this stands the value, which may be a secret.
    let expected = text.rsplit_once(", expected ").map_or("", |(_, kind)| kind);
    match field(error.path()) {
        Some(field) => format!("`{field}` must be {}", kind(expected)),
        None => "the body must be a JSON object".into(),
    }
}

/// How serde's word for a type reads to a stranger.
fn kind(expected: &str) -> &'static str {
    match expected {
        "a string" => "a string",
        "a boolean" => "true or false",
        "f32" | "f64" => "a number",
        "i64" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        _ => "of another type",
    }
}

/// serde names the first unknown field and all known ones: this names every unknown one, where there are more.
fn unknown(text: &str, sent: &[String]) -> String {
    let Some((_, known)) = text.rsplit_once("`, expected ") else {
        return "there is an unknown field".into();
    };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let unknown: Vec<String> = sent
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| format!("`{}`", shortened(name)))
        .collect();
    let word = if unknown.len() == 1 {
        "field"
    } else {
        "fields"
    };
    let more = unknown.len().saturating_sub(MOST_NAMES);
    let mut named = unknown;
    named.truncate(MOST_NAMES);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (named, known) = (named.join(", "), known.join("`, `"));
    format!("unknown {word} {named}{more}, expected `{known}`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        text: String,
        #[serde(default)]
        count: Option<usize>,
        #[serde(default)]
        seed: Option<i64>,
        #[serde(default)]
        scale: Option<f32>,
    }

    fn told(body: &str) -> String {
        match read_json::<Body>(body.as_bytes()) {
            Err(ApiError::Invalid(text)) => text,
            other => panic!("{body}: {:?}", other.map_err(|error| error.to_string())),
        }
    }

    #[test]
    fn errors_name_the_field_and_no_value() {
        for (body, field) in [
            (
                r#"{"text":"x","count":"128 secret, expected f32"}"#,
                "`count` must be a whole number",
            ),
            (
                r#"{"text":"x","count":1.5}"#,
                "`count` must be a whole number",
            ),
            (
                r#"{"text":"x","count":-1}"#,
                "`count` must be a whole number",
            ),
            (
                r#"{"text":"x","count":99999999999999999999}"#,
                "`count` must be a whole number",
            ),
            (
                r#"{"text":"x","seed":18446744073709551616}"#,
                "`seed` must be a whole number",
            ),
            (
                r#"{"text":"x","seed":18446744073709551615}"#,
                "`seed` must be a whole number",
            ),
            (
                r#"{"text":"x","scale":"secret"}"#,
                "`scale` must be a number",
            ),
            (
                r#"{"text":"x","scale":1e999}"#,
                "`scale` is a number out of range",
            ),
            (r#"{"text":["secret"]}"#, "`text` must be a string"),
            (r#"{"text":null}"#, "`text` must be a string"),
            (r#"{"text":"secret","text":"y"}"#, "duplicate field `text`"),
            (r#"{"text":"x","a":{"b":1,"b":2}}"#, "duplicate field `b`"),
            (r#"{}"#, "missing field `text`"),
            (
                r#"{"text":"x","stepz":3}"#,
                "unknown field `stepz`, expected `text`, `count`",
            ),
            (r#"{"text":"\ud800"}"#, "JSON"),
            (r#"{"text":"x"}{"#, "JSON"),
            ("", "JSON"),
            ("[]", "JSON object"),
            ("null", "JSON object"),
            ("3", "JSON object"),
        ] {
            let told = told(body);
            assert!(told.contains(field), "{body}: {told}");
            assert!(!told.contains("secret"), "{body}: {told}");
        }
        let long = told(&format!(r#"{{"text":"x","{}":1}}"#, "k".repeat(5000)));
        assert!(long.len() < 300, "{}", long.len());
        let many: Vec<String> = (0..5000).map(|n| format!(r#""k{n}":1"#)).collect();
        let many = told(&format!("{{{}}}", many.join(",")));
        assert!(many.len() < 400 && many.contains("more"), "{many}");
        assert!(told(&"[".repeat(20_000)).contains("JSON"));
    }

    #[test]
    fn whole_floats_are_integers() {
        let body: Body = read_json(br#"{"text":"x","count":4.0,"seed":-1.0,"scale":7}"#).unwrap();
        assert_eq!(
            (body.count, body.seed, body.scale),
            (Some(4), Some(-1), Some(7.0))
        );
        let body: Body = read_json(br#"{"text":"x","count":1e2,"scale":7.5}"#).unwrap();
        assert_eq!((body.count, body.scale), (Some(100), Some(7.5)));
    }

    #[test]
    fn order_white_space_and_spelling_make_no_other_body() {
        let of = |text: &str| canonical(&parse(text.as_bytes()).unwrap());
        let one = of(r#"{"b":[1,{"y":2,"x":"\u0061"}],"a":4}"#);
        assert_eq!(one, r#"{"a":4,"b":[1,{"x":"a","y":2}]}"#);
        for same in [
            "{ \"a\" : 4.0,\n\"b\": [1, {\"x\":\"a\",\"y\":2e0}] }",
            r#"{"b":[1,{"y":2,"x":"a"}],"a":4,"c":null}"#,
        ] {
            assert_eq!(of(same), one, "{same}");
        }
        for other in [
            r#"{"a":4,"b":[{"x":"a","y":2},1]}"#,
            r#"{"a":"4","b":[1,{"x":"a","y":2}]}"#,
            r#"{"a":4.5,"b":[1,{"x":"a","y":2}]}"#,
            r#"{"a":4}"#,
        ] {
            assert_ne!(of(other), one, "{other}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,80}|\\{\"text\":\"x\",\"[a-z_]{1,8}\":[0-9a-z\"\\[\\]{}.-]{0,12}\\}") {
            let _ = read_json::<Body>(body.as_bytes());
        }

        #[test]
        fn the_canonical_spelling_is_its_own(names in proptest::collection::vec("[a-c\"\\\\]{0,2}", 0..5), eighths in -8000i32..8000) {
            let fields: Map<String, Value> = names.into_iter().map(|name| (name, json!([f64::from(eighths) / 8.0, "x"]))).collect();
            let text = Value::Object(fields).to_string();
            let once = canonical(&parse(text.as_bytes()).unwrap());
            prop_assert_eq!(canonical(&parse(once.as_bytes()).unwrap()), once);
        }
    }
}
