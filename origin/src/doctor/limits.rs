//! Rows about limits: that they are on, and, when asked to spend, each met in the flesh.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use super::http::{Answer, Ask, Http};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// The prompt of generations made here: no log may hold it.
pub const PROMPT: &str = "a plain grey stone on a white table, for the doctor";
/// Most requests sent to meet a rate.
const MOST_AT_ONCE: u64 = 24;
/// Most generations made to meet a quota.
const MOST_GENERATIONS: u64 = 60;
/// Most arrivals sent to meet the penalty box.
const MOST_ARRIVALS: u64 = 100;
/// Limits that every caller must have.
const POLICIES: [&str; 5] = ["address", "token", "user-hour", "jobs", "storage"];

/// The service says which limits apply to the caller.
pub async fn declared(visit: &Visit) -> Verdict {
    let rows = visit.usage_rows().await?;
    let mut saw = Vec::new();
    for policy in POLICIES {
        let row = rows
            .iter()
            .find(|row| row.get("policy").and_then(Value::as_str) == Some(policy));
        let number = |name: &str| row.and_then(|row| row.get(name)?.as_u64());
        let limit = number("limit").filter(|limit| *limit > 0);
        let limit = limit.ok_or_else(|| {
            Finding::Fail(format!(
                "GET /api/usage: no limit {policy} applies to the client"
            ))
        })?;
        let window =
            number("window_seconds").map_or(String::new(), |seconds| format!(" in {seconds} s"));
        saw.push(format!("{policy} {limit}{window}"));
    }
    Ok(format!("GET /api/usage: {}", saw.join(", ")))
}

/// What the rows after the first know: whether a new address is a new client here.
#[derive(Debug, Default)]
pub struct Met {
    addresses: AtomicBool,
}

async fn fresh_token(visit: &Visit) -> Result<String, Finding> {
    let grant = visit.ask_token(&visit.stranger(), None).await?;
    let token = grant.get("access_token").and_then(Value::as_str);
    Ok(token.unwrap_or_default().to_owned())
}

/// Asks for the smallest generation and cancels it at once.
async fn arrive(visit: &Visit, http: &Http, token: &str) -> Result<Answer, Finding> {
    let edge = visit.edge()?;
    let ask = Ask::post(edge, "/api/generate")
        .token(token)
        .header("prefer", "respond-async")
        .body(
            "application/json",
            json!({ "prompt": PROMPT, "steps": 1 }).to_string(),
        );
    let answer = http.send(ask.patiently()).await?;
    if let Some(id) = answer.json().pointer("/job/id").and_then(Value::as_str) {
        let cancel = Ask::new(edge, Method::DELETE, format!("/api/jobs/{id}")).token(token);
        let _ = http.send(cancel).await;
        remove(visit, http, token, id).await;
    }
    Ok(answer)
}

/// Deletes the pictures of a job that was done before it could be cancelled.
async fn remove(visit: &Visit, http: &Http, token: &str, job: &str) {
    let Ok(edge) = visit.edge() else { return };
    let ask = Ask::get(edge, format!("/api/jobs/{job}")).token(token);
    let Ok(answer) = http.send(ask).await else {
        return;
    };
    delete_all(visit, &answer).await;
}

async fn delete_all(visit: &Visit, answer: &Answer) {
    let json = answer.json();
    for image in json
        .get("images")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(id) = image.get("id").and_then(Value::as_str) {
            let _ = visit.delete_image(id).await;
        }
    }
}

fn is_generation(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 202)
}

/// Refused by this policy, or by a front that names none.
fn is_refusal(answer: &Answer, policies: &[&str]) -> bool {
    answer.status == 429
        && answer
            .policy()
            .is_none_or(|policy| policies.contains(&policy))
}

fn refusal(answer: &Answer) -> String {
    let policy = answer
        .policy()
        .map_or(String::new(), |policy| format!(" by {policy}"));
    let wait = answer
        .header("retry-after")
        .map_or(String::new(), |wait| format!(", Retry-After {wait}"));
    format!("{}{policy}{wait}", answer.told())
}

/// One address generates until it is told to wait.
pub async fn address(visit: &Visit, met: &Met) -> Verdict {
    let declared = visit
        .usage("address", "limit")
        .await
        .unwrap_or(MOST_AT_ONCE);
    let most = declared.min(MOST_AT_ONCE) + 2;
    let (http, token) = (visit.stranger(), fresh_token(visit).await?);
    let mut passed = 0;
    for _ in 0..most {
        let answer = arrive(visit, &http, &token).await?;
        if is_generation(&answer) {
            passed += 1;
            continue;
        }
        ensure(is_refusal(&answer, &["address"]), || {
            format!(
                "{passed} generations from one address passed, then {}",
                refusal(&answer)
            )
        })?;
        ensure(answer.header("retry-after").is_some(), || {
            format!(
                "{passed} generations from one address passed, then {} without Retry-After",
                answer.told()
            )
        })?;
        let other = visit.stranger();
        let again = arrive(visit, &other, &token).await?;
        met.addresses
            .store(is_generation(&again), Ordering::Relaxed);
        let others = if is_generation(&again) {
            "; another address passed"
        } else {
            ""
        };
        return Ok(format!(
            "{passed} generations from one address passed, then {}{others}",
            refusal(&answer)
        ));
    }
    Err(Finding::Fail(format!(
        "{passed} generations at once from one address all passed"
    )))
}

/// One token generates from ever new addresses, where there are such; else its counter is watched.
pub async fn token(visit: &Visit, met: &Met) -> Verdict {
    let token = fresh_token(visit).await?;
    if !met.addresses.load(Ordering::Relaxed) {
        return counted(visit, &token, "token").await;
    }
    let declared = visit.usage("token", "limit").await.unwrap_or(MOST_AT_ONCE);
    let most = declared.min(MOST_AT_ONCE) + 2;
    let mut passed = 0;
    for _ in 0..most {
        let answer = arrive(visit, &visit.stranger(), &token).await?;
        if is_generation(&answer) {
            passed += 1;
            continue;
        }
        ensure(is_refusal(&answer, &["token"]), || {
            format!(
                "{passed} generations with one token passed, then {}",
                refusal(&answer)
            )
        })?;
        return Ok(format!(
            "{passed} generations with one token from as many addresses passed, then {}",
            refusal(&answer)
        ));
    }
    Err(Finding::Fail(format!(
        "{passed} generations at once with one token all passed"
    )))
}

/// One generation moves a policy by one. From one address more cannot be seen: its own limit comes first.
async fn counted(visit: &Visit, token: &str, policy: &str) -> Verdict {
    let edge = visit.edge()?;
    let used = async || {
        let answer = visit
            .http
            .send(Ask::get(edge, "/api/usage").token(token))
            .await?;
        let rows = answer
            .json()
            .get("limits")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let row = rows
            .into_iter()
            .find(|row| row.get("policy").and_then(Value::as_str) == Some(policy));
        let used = row.and_then(|row| row.get("used")?.as_u64());
        used.ok_or_else(|| Finding::Fail(format!("GET /api/usage shows no policy {policy:?}")))
    };
    let before = used().await?;
    let answer = visit.patiently(&visit.http, || {
        Ask::post(edge, "/api/generate")
            .token(token)
            .body(
                "application/json",
                json!({ "prompt": PROMPT, "steps": 1 }).to_string(),
            )
            .patiently()
    });
    let answer = answer.await?;
    delete_all(visit, &answer).await;
    ensure(is_generation(&answer), || {
        format!("a generation to count: {}", refusal(&answer))
    })?;
    let after = used().await?;
    ensure(after == before + 1, || {
        format!("a generation moved the policy {policy} from {before} to {after}")
    })?;
    Ok(format!(
        "a generation moved the policy {policy} from {before} to {after}; from one address its limit cannot be reached"
    ))
}

/// One user generates with ever new tokens from ever new addresses until the hour's quota is used up.
pub async fn user(visit: &Visit, met: &Met) -> Verdict {
    let left = visit.usage("user-hour", "remaining").await?;
    if left == 0 {
        let token = fresh_token(visit).await?;
        let answer = arrive(visit, &visit.stranger(), &token).await?;
        ensure(is_refusal(&answer, &["user-hour"]), || {
            format!(
                "nothing is left of the user's hour, and a generation got {}",
                refusal(&answer)
            )
        })?;
        return Ok(format!(
            "nothing is left of the user's hour, and a generation got {}",
            refusal(&answer)
        ));
    }
    if !met.addresses.load(Ordering::Relaxed) || left > MOST_GENERATIONS {
        return counted(visit, &fresh_token(visit).await?, "user-hour").await;
    }
    let mut passed = 0;
    let batch = |token: String| async move {
        let http = visit.stranger();
        let generations = (0..3).map(|_| {
            let ask = visit.edge().map(|edge| {
                Ask::post(edge, "/api/generate")
                    .token(&token)
                    .body(
                        "application/json",
                        json!({ "prompt": PROMPT, "steps": 1 }).to_string(),
                    )
                    .patiently()
            });
            let http = &http;
            async move { Ok::<_, Finding>(http.send(ask?).await?) }
        });
        join_all(generations).await
    };
    // Each batch passes the limits of address and token; a few more than fit.
    for _ in 0..left / 3 + 2 {
        let mut refused = None;
        for answer in batch(fresh_token(visit).await?).await {
            let answer = answer?;
            delete_all(visit, &answer).await;
            if is_generation(&answer) {
                passed += 1;
            } else {
                refused = Some(answer);
            }
        }
        if let Some(answer) = refused {
            ensure(
                is_refusal(&answer, &["user-hour", "user", "units-day"]),
                || {
                    format!(
                        "{passed} generations of one user passed, then {}",
                        refusal(&answer)
                    )
                },
            )?;
            ensure(passed <= left, || {
                format!("{passed} generations passed where {left} were left of the hour")
            })?;
            return Ok(format!(
                "{passed} generations of one user passed, then {}",
                refusal(&answer)
            ));
        }
    }
    Err(Finding::Fail(format!(
        "{left} generations were left of the user's hour, and {passed} passed"
    )))
}

/// Arrivals without a token, until the address is blocked; other addresses and routes are not.
pub async fn penalty_box(visit: &Visit, met: &Met) -> Verdict {
    let edge = visit.edge()?;
    let declared = visit
        .usage("penalty-box", "limit")
        .await
        .unwrap_or(30)
        .min(MOST_ARRIVALS);
    let http = visit.stranger();
    let mut arrived = 0u64;
    let blocked = loop {
        arrived += 1;
        let ask = Ask::post(edge, "/api/generate").body("application/json", "{}");
        let answer = http.send(ask).await?;
        if answer.status != 401 {
            break answer;
        }
        ensure(arrived <= declared + 5, || {
            format!(
                "{arrived} arrivals at POST /api/generate without a token within a minute, and none was blocked"
            )
        })?;
    };
    let is_block = matches!(blocked.status, 429 | 403)
        && blocked
            .policy()
            .is_none_or(|policy| policy == "penalty-box");
    ensure(is_block, || {
        format!(
            "arrival {arrived} at POST /api/generate got {}",
            refusal(&blocked)
        )
    })?;
    let mut saw = vec![format!(
        "arrival {arrived} at POST /api/generate without a token got {}",
        refusal(&blocked)
    )];
    let wait: u64 = blocked
        .header("retry-after")
        .and_then(|wait| wait.parse().ok())
        .unwrap_or(u64::MAX);
    ensure(wait > 60, || {
        format!(
            "{}; a block lasts longer than the minute it counts",
            saw.join("; ")
        )
    })?;
    if let Ok(token) = visit.token() {
        let good = arrive(visit, &http, token).await?;
        ensure(!is_generation(&good), || {
            format!("{}; with a good token the address passed", saw.join("; "))
        })?;
        saw.push(format!("with a good token {}", good.told()));
        let other = http.send(Ask::get(edge, "/api/usage").token(token)).await?;
        saw.push(format!("GET /api/usage from there {}", other.told()));
        if met.addresses.load(Ordering::Relaxed) {
            let ask = Ask::post(edge, "/api/generate").body("application/json", "{}");
            let other = visit.stranger().send(ask).await?;
            ensure(other.status == 401, || {
                format!(
                    "{}; another address without a token: {}",
                    saw.join("; "),
                    refusal(&other)
                )
            })?;
            saw.push("another address is not blocked".into());
        }
    }
    Ok(saw.join("; "))
}
