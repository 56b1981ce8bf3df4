//! Ways in which a front breaks one item of the checklist.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::front::{Arrived, Bend, problem};
use crate::http::Answer;

pub fn bend(
    change: impl Fn(&Arrived, &dyn Fn(&Arrived) -> Answer) -> Answer + Send + Sync + 'static,
) -> Bend {
    Arc::new(change)
}

/// Answers pass but for one header.
pub fn without_header(name: &'static str) -> Bend {
    bend(move |arrived, pass| {
        let mut answer = pass(arrived);
        answer.headers.retain(|(known, _)| known != name);
        answer
    })
}

/// Pictures whose request is bad are asked for again as a good one.
pub fn forgiving(
    is_forgiven: impl Fn(&str) -> bool + Send + Sync + 'static,
    good: Arc<Mutex<String>>,
) -> Bend {
    bend(move |arrived, pass| {
        let answer = pass(arrived);
        if !arrived.images || arrived.method != "GET" {
            return answer;
        }
        if answer.status == 200 {
            *good.lock().unwrap() = arrived.target.clone();
            return answer;
        }
        if !is_forgiven(&arrived.target) {
            return answer;
        }
        let target = good.lock().unwrap().clone();
        pass(&Arrived {
            target,
            headers: Vec::new(),
            ..arrived.clone()
        })
    })
}

pub fn rewritten(answer: Answer, change: impl FnOnce(&mut Value)) -> Answer {
    let mut json = answer.json();
    change(&mut json);
    Answer {
        body: json.to_string().into_bytes(),
        ..answer
    }
}

/// Each with the row that it breaks; `ring` is the deployment's.
pub fn all(ring: &str) -> Vec<(&'static str, Bend)> {
    let good = Arc::new(Mutex::new(String::new()));
    vec![
        (
            "limits-declared",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("GET", "/api/usage") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| {
                    json["limits"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|row| row["policy"] != "user-hour")
                })
            }),
        ),
        (
            "token-life",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("POST", "/oauth/token") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| json["expires_in"] = json!(86_400))
            }),
        ),
        (
            "token-scopes",
            bend(|arrived, pass| {
                // A front that forgets which scopes were asked for.
                let mut other = arrived.clone();
                if arrived.is("POST", "/oauth/token")
                    && String::from_utf8_lossy(&arrived.body).contains("scope=images")
                {
                    other.body = b"grant_type=client_credentials".to_vec();
                }
                pass(&other)
            }),
        ),
        (
            "token-bearer",
            bend(|arrived, pass| {
                let mut other = arrived.clone();
                if let Some((path, query)) = arrived.target.split_once("?access_token=") {
                    other
                        .headers
                        .push(("authorization".into(), format!("Bearer {query}")));
                    other.target = path.to_owned();
                }
                pass(&other)
            }),
        ),
        (
            "upload-type",
            bend(|arrived, pass| {
                // A service that believes the declared type.
                if arrived.is("POST", "/api/upload")
                    && arrived.header("content-type") == Some("text/html")
                {
                    return problem(415, "unsupported_image_type");
                }
                pass(arrived)
            }),
        ),
        (
            "body-limit",
            bend(|arrived, pass| {
                if arrived.is("POST", "/api/generate") && arrived.body.len() > 300 << 10 {
                    return problem(400, "malformed_request");
                }
                pass(arrived)
            }),
        ),
        ("link-opens", without_header("content-security-policy")),
        (
            "link-unsigned",
            forgiving(
                |target| target.starts_with("/uploads/") && !target.contains('?'),
                Arc::clone(&good),
            ),
        ),
        (
            "link-expired",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if answer.status == 410 {
                    Answer {
                        status: 200,
                        ..answer
                    }
                } else {
                    answer
                }
            }),
        ),
        (
            "link-tampered",
            forgiving(|target| target.contains("kid=xk1"), Arc::clone(&good)),
        ),
        (
            "link-spelling",
            forgiving(|target| target.contains("%75"), Arc::clone(&good)),
        ),
        (
            "link-spelling",
            forgiving(|target| target.starts_with("//"), Arc::clone(&good)),
        ),
        (
            "link-referer",
            bend(|arrived, pass| {
                let mut other = arrived.clone();
                other.headers.retain(|(name, _)| name != "referer");
                pass(&other)
            }),
        ),
        (
            "upload-reencoded",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.images && answer.status == 200 {
                    answer.body.extend(b"tEXt");
                }
                answer
            }),
        ),
        (
            "images-host",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.images {
                    answer.headers.push(("set-cookie".into(), "seen=1".into()));
                }
                answer
            }),
        ),
        (
            "operator-private",
            bend(|arrived, pass| {
                if !arrived.images && arrived.target == "/healthz" {
                    return Answer {
                        status: 200,
                        headers: Vec::new(),
                        body: b"ok".to_vec(),
                    };
                }
                pass(arrived)
            }),
        ),
        (
            "client-secrets",
            bend({
                let key = ring
                    .split_once(':')
                    .unwrap()
                    .1
                    .trim_end_matches('=')
                    .to_owned();
                move |arrived, pass| {
                    let mut answer = pass(arrived);
                    if arrived.target == "/" && !arrived.images {
                        answer.body.extend(format!("<!-- {key} -->").bytes());
                    }
                    answer
                }
            }),
        ),
        (
            "client-secrets",
            bend(|arrived, pass| {
                let mut answer = pass(arrived);
                if arrived.target.ends_with("/api.js") {
                    let key = format!("const key = 'sk-{}';", "a1B2c3D4e5F6g7H8".repeat(3));
                    answer.body.extend(key.bytes());
                }
                answer
            }),
        ),
        (
            "storage-quota",
            bend(|arrived, pass| {
                let answer = pass(arrived);
                if !arrived.is("GET", "/api/usage") || answer.status != 200 {
                    return answer;
                }
                rewritten(answer, |json| {
                    for row in json["limits"].as_array_mut().unwrap() {
                        if row["policy"] == "storage" {
                            row["used"] = json!(0);
                        }
                    }
                })
            }),
        ),
    ]
}
