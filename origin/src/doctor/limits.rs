//! Rows about rates: that limits are on and, when asked to spend, that each is met.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Method;
use serde_json::{Value, json};

use super::http::{Answer, Ask, Http};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// The prompt of generations made here: no log may hold it.
pub const PROMPT: &str = "a plain grey stone on a white table, for the doctor";
/// Most generations made to meet a rate, beside what comes free meanwhile.
const MOST_AT_ONCE: u64 = 24;
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

impl Met {
    /// Whether there are more addresses than one here.
    pub(super) fn more_addresses(&self) -> bool {
        self.addresses.load(Ordering::Relaxed)
    }
}

pub(super) async fn fresh_token(visit: &Visit) -> Result<String, Finding> {
    let grant = visit.ask_token(&visit.stranger(), None).await?;
    let token = grant.get("access_token").and_then(Value::as_str);
    Ok(token.unwrap_or_default().to_owned())
}

/// Asks for the smallest generation, without waiting for it.
pub(super) async fn arrive(visit: &Visit, http: &Http, token: &str) -> Result<Answer, Finding> {
    let ask = Ask::post(visit.edge()?, "/api/generate")
        .token(token)
        .header("prefer", "respond-async")
        .body(
            "application/json",
            json!({ "prompt": PROMPT, "steps": 1 }).to_string(),
        );
    Ok(http.send(ask.patiently()).await?)
}

/// Cancels jobs, and deletes the pictures of those that were done before.
async fn cancel(visit: &Visit, token: &str, jobs: &mut Vec<String>) {
    let Ok(edge) = visit.edge() else { return };
    for id in jobs.drain(..) {
        let path = format!("/api/jobs/{id}");
        let stop = Ask::new(edge, Method::DELETE, path.clone()).token(token);
        let _ = visit.http.send(stop).await;
        if let Ok(answer) = visit.http.send(Ask::get(edge, path).token(token)).await {
            delete_all(visit, &answer).await;
        }
    }
}

/// Deletes the pictures of an answer.
pub(super) async fn delete_all(visit: &Visit, answer: &Answer) {
    let json = answer.json();
    let images = json.get("images").and_then(Value::as_array);
    for image in images.into_iter().flatten() {
        if let Some(id) = image.get("id").and_then(Value::as_str) {
            let _ = visit.delete_image(id).await;
        }
    }
}

/// Generates with one token until `policy` refuses; `http` gives the client of each request.
///
/// # Errors
/// What refused instead, or that nothing did though more passed than the limit lets through in the time it took.
async fn until_refused(
    visit: &Visit,
    policy: &str,
    token: &str,
    http: impl Fn() -> Http,
) -> Result<(u64, Answer), Finding> {
    let limit = visit.usage(policy, "limit").await.unwrap_or(MOST_AT_ONCE);
    let window = visit.usage(policy, "window_seconds").await.unwrap_or(60);
    let begun = visit.clock.seconds();
    let (mut passed, mut jobs) = (0u64, Vec::new());
    let outcome = loop {
        let answer = match arrive(visit, &http(), token).await {
            Ok(answer) => answer,
            Err(error) => break Err(error),
        };
        if is_generation(&answer) {
            passed += 1;
            let id = answer
                .json()
                .pointer("/job/id")
                .and_then(Value::as_str)
                .map(str::to_owned);
            jobs.extend(id);
        } else if answer.status == 429 && answer.policy() == Some("jobs") && !jobs.is_empty() {
            // Another limit, which cancelling makes room under.
            cancel(visit, token, &mut jobs).await;
        } else if is_refusal(&answer, &[policy]) {
            break Ok((passed, answer));
        } else {
            break Err(Finding::Fail(format!(
                "{passed} generations passed, then {}, where the limit {policy} was to refuse",
                refusal(&answer)
            )));
        }
        // What came free meanwhile, on a slow way.
        let freed = (visit.clock.seconds() - begun + 1) * limit / window.max(1);
        if passed > limit.min(MOST_AT_ONCE) + freed.min(MOST_AT_ONCE) + 1 {
            break Err(Finding::Fail(format!(
                "{passed} generations passed in {} s, and the limit {policy} refused none",
                visit.clock.seconds() - begun
            )));
        }
    };
    cancel(visit, token, &mut jobs).await;
    outcome
}

pub(super) fn is_generation(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 202)
}

/// Refused by this policy, or by a front that names none.
pub(super) fn is_refusal(answer: &Answer, policies: &[&str]) -> bool {
    answer.status == 429
        && answer
            .policy()
            .is_none_or(|policy| policies.contains(&policy))
}

pub(super) fn refusal(answer: &Answer) -> String {
    let policy = answer
        .policy()
        .map_or(String::new(), |policy| format!(" by {policy}"));
    let wait = answer
        .header("retry-after")
        .map_or(String::new(), |wait| format!(", Retry-After {wait}"));
    format!("{}{policy}{wait}", answer.told())
}

/// One address generates until it is told to wait; another one need not.
pub async fn address(visit: &Visit, met: &Met) -> Verdict {
    let (http, token) = (visit.stranger(), fresh_token(visit).await?);
    let (passed, answer) = until_refused(visit, "address", &token, || http.clone()).await?;
    let saw = format!(
        "{passed} generations from one address passed, then {}",
        refusal(&answer)
    );
    ensure(
        answer.header("retry-after").is_some() || answer.policy().is_none(),
        || format!("{saw}, without Retry-After"),
    )?;
    let again = arrive(visit, &visit.stranger(), &token).await?;
    let other = is_generation(&again);
    let id = again
        .json()
        .pointer("/job/id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    cancel(visit, &token, &mut id.into_iter().collect()).await;
    met.addresses.store(other, Ordering::Relaxed);
    Ok(if other {
        format!("{saw}; another address passed")
    } else {
        saw
    })
}

/// One token generates from ever new addresses, where there are such; else its counter is watched.
pub async fn token(visit: &Visit, met: &Met) -> Verdict {
    let token = fresh_token(visit).await?;
    if !met.more_addresses() {
        return counted(visit, &token, "token").await;
    }
    let (passed, answer) = until_refused(visit, "token", &token, || visit.stranger()).await?;
    Ok(format!(
        "{passed} generations with one token from as many addresses passed, then {}",
        refusal(&answer)
    ))
}

/// One generation moves a policy by one. From one address more cannot be seen: its own limit comes first.
pub(super) async fn counted(visit: &Visit, token: &str, policy: &str) -> Verdict {
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
