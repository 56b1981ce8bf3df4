//! What the edge knows to be revoked: a snapshot that the origin pushes to one Durable Object, read again by every isolate
//! that acts on it.

use std::cell::RefCell;
use std::rc::Rc;

use shared::edge_auth::{self, Message};
use shared::link::{LinkError, PermittedLink};
use shared::problem::{self, Problem};
use shared::revocation::{MAX_TEXT, Snapshot};
use worker::Env;

use crate::config::Config;
use crate::gate::{self, Call};
use crate::js::{self, Body};

/// The binding of the Durable Object's namespace.
pub const BINDING: &str = "REVOCATIONS";
/// Where the origin puts a snapshot, on the API's host.
pub const PATH: &str = "/.signet/revocations";
/// There is one object, under this name.
const OBJECT: &str = "v1";
/// An isolate asks for a newer snapshot after so many seconds.
const AGAIN: u64 = 10;

const NOT_A_SNAPSHOT: Problem = Problem {
    status: 400,
    code: "malformed_snapshot",
    title: "This is no snapshot of revocations.",
};
const NOT_KEPT: Problem = Problem {
    status: 503,
    code: "revocations_unavailable",
    title: "The snapshot could not be kept.",
};

/// What is done while there is no snapshot of the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing opens: nobody knows who is suspended by now.
    Closed,
    /// What the last snapshot revoked stays closed, the rest opens.
    Open,
    /// Nothing is ever revoked; links die by their own time and by removing their key.
    Off,
}

/// What a request goes by.
#[derive(Clone)]
pub struct Known {
    snapshot: Option<Rc<Snapshot>>,
    rule: Rule,
}

struct Kept {
    snapshot: Option<Rc<Snapshot>>,
    asked_at: u64,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { snapshot: None, asked_at: 0 }) };
}

impl Known {
    /// A snapshot given by a test.
    #[cfg(feature = "test-hooks")]
    pub fn of(snapshot: Snapshot) -> Self {
        Self {
            snapshot: Some(Rc::new(snapshot)),
            rule: Rule::Closed,
        }
    }

    /// The isolate's snapshot; nothing when it is time to read it again, which [`Known::now`] does.
    pub fn at_hand(rule: Rule, now: u64) -> Option<Self> {
        let snapshot = if rule == Rule::Off {
            None
        } else {
            KEPT.with_borrow(|kept| (!is_due(kept, now)).then(|| kept.snapshot.clone()))?
        };
        Some(Self { snapshot, rule })
    }

    /// The isolate's snapshot, read again when it is time.
    pub async fn now(env: &Env, rule: Rule, now: u64) -> Self {
        let mut snapshot = None;
        if rule != Rule::Off {
            let ask = KEPT.with_borrow_mut(|kept| {
                snapshot = kept.snapshot.clone();
                let ask = is_due(kept, now);
                if ask {
                    kept.asked_at = now;
                }
                ask
            });
            if ask {
                snapshot = read(env, snapshot).await;
            }
        }
        Self { snapshot, rule }
    }

    /// Whether the link still opens at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`LinkError::Revoked`].
    pub fn check(&self, link: &PermittedLink, now: u64) -> Result<(), LinkError> {
        if let Some(snapshot) = &self.snapshot {
            snapshot.check(link)?;
        }
        let stale = self.snapshot.as_ref().is_none_or(|it| it.is_stale(now));
        if stale && self.rule == Rule::Closed {
            return Err(LinkError::Revoked);
        }
        Ok(())
    }
}

/// Usually every [`AGAIN`] seconds. One that is not fresh is asked for once a second, one that closes by every request:
/// else those that come while the first answer is under way would be refused.
fn is_due(kept: &Kept, now: u64) -> bool {
    match &kept.snapshot {
        Some(snapshot) if snapshot.is_fresh(now) => now >= kept.asked_at + AGAIN,
        Some(snapshot) if !snapshot.is_stale(now) => now != kept.asked_at,
        _ => true,
    }
}

/// The newest snapshot: the object's, or the one at hand when it cannot be had.
async fn read(env: &Env, at_hand: Option<Rc<Snapshot>>) -> Option<Rc<Snapshot>> {
    let text = match js::ask_object(env, BINDING, OBJECT, "GET", None).await {
        Ok((200, text)) => text,
        Ok((404, _)) => return at_hand,
        Ok((status, _)) => {
            js::log_error(&format!("edge: the revocations answered {status}"));
            return at_hand;
        }
        Err(error) => {
            let why = js::describe(&error);
            js::log_error(&format!("edge: the revocations do not answer: {why}"));
            return at_hand;
        }
    };
    let Some(read) = Snapshot::parse(&text) else {
        js::log_error("edge: the kept revocations cannot be read");
        return at_hand;
    };
    KEPT.with_borrow_mut(|kept| {
        // Another request may have read a newer one meanwhile.
        if kept
            .snapshot
            .as_ref()
            .is_none_or(|it| it.taken_ms <= read.taken_ms)
        {
            kept.snapshot = Some(Rc::new(read));
        }
        kept.snapshot.clone()
    })
}

/// Takes a snapshot in that the origin signed with the edge's keyring, as the edge signs to the origin.
///
/// # Errors
/// The answer's problem.
pub async fn receive(call: &Call<'_>, env: &Env, config: &Config) -> Result<(), Problem> {
    if call.method != "PUT" {
        return Err(problem::METHOD_NOT_ALLOWED);
    }
    let inbound = js::all_headers(call.request);
    let header = |name: &str| gate::find(&inbound, name);
    let limit = u64::try_from(MAX_TEXT).unwrap_or(0);
    let declared = header("content-length").and_then(|text| text.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > limit) {
        return Err(problem::BODY_TOO_LARGE);
    }
    let message = Message {
        method: call.method,
        authority: &config.api_host,
        path: PATH,
        query: None,
        headers: edge_auth::HEADERS.map(header),
    };
    // Before the body is read: a stranger makes the edge hold nothing.
    edge_auth::verify(
        &config.edge_keys,
        &message,
        header("signature-input").unwrap_or(""),
        header("signature").unwrap_or(""),
        call.now,
    )
    .map_err(|_| problem::EDGE_ONLY)?;
    let body = Body::take(call.request, None, MAX_TEXT, limit).await;
    let bytes = body
        .ok()
        .and_then(|body| body.bytes())
        .ok_or(problem::BODY_TOO_LARGE)?;
    if header("content-digest") != Some(edge_auth::content_digest(&bytes).as_str()) {
        return Err(problem::EDGE_ONLY);
    }
    let text = String::from_utf8(bytes).map_err(|_| NOT_A_SNAPSHOT)?;
    Snapshot::parse(&text).ok_or(NOT_A_SNAPSHOT)?;
    match js::ask_object(env, BINDING, OBJECT, "PUT", Some(&text)).await {
        Ok((204, _)) => Ok(()),
        Ok((status, _)) => {
            js::log_error(&format!(
                "edge: the revocations answered {status} to a snapshot"
            ));
            Err(NOT_KEPT)
        }
        Err(error) => {
            let why = js::describe(&error);
            js::log_error(&format!("edge: a snapshot could not be kept: {why}"));
            Err(NOT_KEPT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_snapshot_is_asked_for_every_ten_seconds_and_a_stale_one_by_everybody() {
        let kept = |taken_at: u64| Kept {
            snapshot: Some(Rc::new(Snapshot {
                taken_ms: taken_at * 1000,
                ..Snapshot::default()
            })),
            asked_at: 1_000,
        };
        assert!(!is_due(&kept(1_000), 1_009) && is_due(&kept(1_000), 1_010));
        assert!(!is_due(&kept(960), 1_000) && is_due(&kept(960), 1_001));
        assert!(is_due(&kept(900), 1_000));
        let nothing = Kept {
            snapshot: None,
            asked_at: 1_000,
        };
        assert!(is_due(&nothing, 1_000));
    }
}
