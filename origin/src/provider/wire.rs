//! What is said to a provider and what it answers: `POST {base}/images/generations` of the OpenAI API.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::Uri;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Settings;
use crate::infer::ImageSpec;

/// A picture as an answer holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The file itself.
    File(Bytes),
    /// Where it can be fetched.
    At(Uri),
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    b64_json: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// Longest address of a picture, in bytes.
const LONGEST_URL: usize = 4096;

/// The body of a request: what to make, and nothing of who asks.
pub(super) fn request(settings: &Settings, spec: &ImageSpec) -> Bytes {
    let mut body: Map<String, Value> = Map::new();
    for (name, value) in &settings.fields {
        body.insert(name.clone(), json!(value));
    }
    body.insert("model".into(), json!(settings.model));
    body.insert("prompt".into(), json!(spec.prompt));
    body.insert("n".into(), json!(spec.n));
    body.insert(
        "size".into(),
        json!(format!("{}x{}", spec.width, spec.height)),
    );
    if !settings.response_format.is_empty() {
        body.insert("response_format".into(), json!(settings.response_format));
    }
    Value::Object(body).to_string().into()
}

/// The `n` pictures of an answer.
///
/// # Errors
/// What is wrong with it, without any of its text.
pub fn read(answer: &[u8], n: usize) -> Result<Vec<Sent>, &'static str> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| "the answer is not the JSON that is expected")?;
    if answer.data.len() != n {
        return Err("the answer holds another number of pictures");
    }
    answer.data.into_iter().map(Item::read).collect()
}

impl Item {
    fn read(self) -> Result<Sent, &'static str> {
        match (self.b64_json, self.url) {
            (Some(text), _) => {
                let file = STANDARD.decode(text.as_bytes());
                file.map(|file| Sent::File(file.into()))
                    .map_err(|_| "a picture is not in base64")
            }
            (None, Some(url)) => {
                let uri = Some(url).filter(|url| url.len() <= LONGEST_URL);
                uri.and_then(|url| url.parse().ok())
                    .map(Sent::At)
                    .ok_or("a picture's address is none")
            }
            (None, None) => Err("a picture is missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pictures_are_read_in_both_forms_and_nothing_else_is() {
        let two = br#"{"created":1,"data":[{"b64_json":"AQID"},{"url":"https://a.example/p.png?sig=x","revised_prompt":"p"}]}"#;
        assert_eq!(
            read(two, 2),
            Ok(vec![
                Sent::File(Bytes::from_static(&[1, 2, 3])),
                Sent::At(Uri::from_static("https://a.example/p.png?sig=x")),
            ])
        );
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":[]}"#,
            r#"{"data":[{}]}"#,
            r#"{"data":[{"b64_json":null,"url":null}]}"#,
            r#"{"data":[{"b64_json":"%%%"}]}"#,
            r#"{"data":[{"b64_json":1}]}"#,
            r#"{"data":[{"url":"a b"}]}"#,
            r#"{"data":[{"b64_json":"AQID"},{"b64_json":"AQID"}]}"#,
            r#"{"data":[{"b64_json":"AQID"}]} x"#,
        ] {
            assert!(read(bad.as_bytes(), 1).is_err(), "{bad}");
        }
        let long = format!(
            r#"{{"data":[{{"url":"https://a.example/{}"}}]}}"#,
            "a".repeat(LONGEST_URL)
        );
        assert!(read(long.as_bytes(), 1).is_err());
        // Deep nesting ends as an error, not as a stack overflow.
        let deep = format!(
            r#"{{"data":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(read(deep.as_bytes(), 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(
            answer in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "\\{\"data\":\\[\\{\"(url|b64_json)\":\"[a-zA-Z0-9+/=:.@ ?#%\\[\\]-]{0,24}\"\\}\\]\\}".prop_map(String::into_bytes),
            ],
        ) {
            if let Ok(pictures) = read(&answer, 1) {
                prop_assert_eq!(pictures.len(), 1);
            }
        }
    }
}
