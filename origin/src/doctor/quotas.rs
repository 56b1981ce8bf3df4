//! Rows about what lasts longer than a rate: the user's hour and the penalty box. They spend, and block.

use futures_util::future::join_all;
use serde_json::json;

use super::http::Ask;
use super::limits::{
    Met, PROMPT, arrive, counted, delete_all, fresh_token, is_generation, is_refusal, refusal,
};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// Most generations made to meet a quota.
const MOST_GENERATIONS: u64 = 60;
/// Most arrivals sent to meet the penalty box.
const MOST_ARRIVALS: u64 = 100;

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
    if !met.more_addresses() || left > MOST_GENERATIONS {
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
        if met.more_addresses() {
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
