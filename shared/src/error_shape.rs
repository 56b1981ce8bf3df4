//! How an error is written: each family of paths has clients of its own, which read no other shape. The stable code is in
//! all of them.

use crate::problem::{self, Problem, problem_json, push_string};

/// A way to write an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// RFC 9457.
    #[default]
    Problem,
    /// OpenAI's, below `/v1/`.
    OpenAi,
    /// RFC 6749 section 5.2, below `/oauth/`.
    OAuth,
}

impl Shape {
    /// The shape at a path, or at a raw target, whatever is wrong with it.
    pub fn at(path: &str) -> Self {
        if path.starts_with("/v1/") {
            Self::OpenAi
        } else if path.starts_with("/oauth/") {
            Self::OAuth
        } else {
            Self::Problem
        }
    }

    /// The body's media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Problem => problem::MEDIA_TYPE,
            Self::OpenAi | Self::OAuth => "application/json",
        }
    }

    /// The body. Only a problem has a place for the request's id.
    pub fn body(self, problem: Problem, detail: Option<&str>, request_id: Option<&str>) -> String {
        let told = || match detail {
            Some(detail) => format!("{} {detail}", problem.title),
            None => problem.title.to_owned(),
        };
        match self {
            Self::Problem => problem_json(problem, detail, request_id),
            Self::OpenAi => openai(problem, &told()),
            Self::OAuth => oauth(problem, &told()),
        }
    }
}

/// `{"error": {"message", "type", "param", "code"}}`
fn openai(problem: Problem, message: &str) -> String {
    let kind = match problem.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let mut out = String::with_capacity(160);
    out.push_str("{\"error\":{\"message\":");
    push_string(&mut out, message);
    out.push_str(",\"type\":");
    push_string(&mut out, kind);
    out.push_str(",\"param\":null,\"code\":");
    push_string(&mut out, problem.code);
    out.push_str("}}");
    out
}

/// `{"error", "error_description", "code"}`; the two errors that section 5.2 lacks are those of section 4.1.2.1.
fn oauth(problem: Problem, description: &str) -> String {
    let error = match problem.status {
        429 | 503 => "temporarily_unavailable",
        500.. => "server_error",
        _ => "invalid_request",
    };
    // Section 5.2 allows neither quote nor backslash nor anything beyond ASCII in a description.
    let plain = |c: char| (' '..='~').contains(&c) && !matches!(c, '"' | '\\');
    let description: String = description.chars().filter(|c| plain(*c)).collect();
    let mut out = String::with_capacity(160);
    out.push_str("{\"error\":");
    push_string(&mut out, error);
    out.push_str(",\"error_description\":");
    push_string(&mut out, &description);
    out.push_str(",\"code\":");
    push_string(&mut out, problem.code);
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::RATE_LIMITED;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(shape: Shape, detail: &str) -> Value {
        serde_json::from_str(&shape.body(RATE_LIMITED, Some(detail), Some("r1"))).unwrap()
    }

    #[test]
    fn the_path_tells_the_shape() {
        for (path, shape) in [
            ("/v1/models", Shape::OpenAi),
            ("/v1", Shape::Problem),
            ("/oauth/token?x", Shape::OAuth),
            ("/oauthx", Shape::Problem),
            ("/api/generate", Shape::Problem),
        ] {
            assert_eq!(Shape::at(path), shape, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_detail_is_valid_json_in_every_shape(detail in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let problem = read(Shape::Problem, &detail);
            prop_assert_eq!((&problem["code"], &problem["request_id"]), (&json!("rate_limited"), &json!("r1")));
            prop_assert_eq!(read(Shape::OpenAi, &detail), json!({ "error": {
                "message": format!("Too many requests. {detail}"),
                "type": "rate_limit_error", "param": null, "code": "rate_limited",
            } }));
            let oauth = read(Shape::OAuth, &detail);
            prop_assert_eq!((&oauth["error"], &oauth["code"]), (&json!("temporarily_unavailable"), &json!("rate_limited")));
            let told = oauth["error_description"].as_str().unwrap();
            prop_assert!(told.starts_with("Too many requests.") && told.bytes().all(|c| matches!(c, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)));
        }
    }
}
