//! The collection as the page is told it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::made::Made;
use super::{SLOT, SLOTS, SPAN, Slot, Watch, Who};

/// Rows of each list.
const ROWS: usize = 12;
const RECENT: usize = 50;
/// Minutes of the chart of how long generations took.
const MINUTES: u64 = 15;
const HOUR: u64 = 3600;

/// What others know at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Jobs that wait.
    pub queued: usize,
    /// Bytes stored or reserved.
    pub stored: u64,
}

/// By what is counted, since names would be most of the text.
fn columns(slots: &[Slot]) -> Value {
    let column = |of: fn(&Slot) -> u32| slots.iter().map(of).collect::<Vec<_>>();
    json!({
        "ok": column(|slot| slot.ok),
        "refused": column(|slot| slot.refused),
        "limited": column(|slot| slot.limited),
        "failed": column(|slot| slot.failed),
        "made": column(|slot| slot.made),
        "opened": column(|slot| slot.opened),
        "denied": column(|slot| slot.denied),
    })
}

impl Watch {
    /// Everything of the page that is collected here; null where nothing is collected.
    pub fn overview(&self, gauges: Gauges) -> Value {
        self.tick(Some(gauges.stored), gauges.queued);
        let Some((mut seen, now)) = self.lock() else {
            return Value::Null;
        };
        let quarter = now.saturating_sub(SLOT * SLOTS as u64);
        let latency = |made: &Made| made.latency_ms;
        let by_minute: Vec<_> = (0..MINUTES)
            .rev()
            .map(|ago| {
                let until = (now / 60 + 1).saturating_sub(ago) * 60;
                seen.latest
                    .percentiles(until.saturating_sub(60), until, latency)
            })
            .collect();
        let (slots, day) = (seen.slots.read(now), seen.day.read(now));
        let limited = seen.limited.top(now.saturating_sub(HOUR), ROWS);
        let prompts = seen
            .prompts
            .top(now.saturating_sub(7 * 24 * HOUR), 10 * ROWS);
        let mut sessions: Vec<_> = seen
            .sessions
            .iter()
            .filter(|(_, session)| session.addresses.len() > 1)
            .collect();
        sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.addresses.len()));
        let sessions: Vec<_> = sessions
            .iter()
            .take(ROWS)
            .map(|(id, session)| {
                json!({
                    // Enough to tell two apart; a session's id is no secret, but nobody needs it whole.
                    "session": id.get(..8).unwrap_or(id),
                    "user": session.user.as_deref(),
                    "addresses": session.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
                    "more": session.addresses.len() >= super::ADDRESSES,
                })
            })
            .collect();
        json!({
            "now": now,
            "slot_seconds": SLOT,
            "slots": columns(&slots),
            "day": {
                "seconds": SPAN,
                "stored": day.iter().map(|span| span.stored).collect::<Vec<_>>(),
                "queued": day.iter().map(|span| span.queued).collect::<Vec<_>>(),
            },
            "latency_ms": {
                "all": seen.latest.percentiles(quarter, u64::MAX, latency),
                "queue": seen.latest.percentiles(quarter, u64::MAX, |made| made.queue_ms),
                "by_minute": by_minute,
            },
            "limited": limited.iter().map(|((policy, who), entry)| {
                let (kind, name) = match who {
                    Who::User(user) => ("user", user.to_string()),
                    Who::Address(address) => ("address", address.to_string()),
                };
                json!({ "policy": policy, kind: name, "count": entry.count - entry.doubt, "last": entry.last })
            }).collect::<Vec<_>>(),
            "reasons": seen.reasons.top(now.saturating_sub(HOUR), ROWS).iter().map(|(reason, entry)| {
                json!({ "reason": reason, "count": entry.count, "last": entry.last })
            }).collect::<Vec<_>>(),
            "refusals": seen.refusals.iter().rev().take(RECENT).map(|(at, refused)| json!({
                "at": at, "route": refused.route, "status": refused.status, "code": refused.code,
                "policy": refused.policy, "address": refused.address.map(|address| address.to_string()),
                "user": refused.user.as_deref(), "request_id": refused.request_id,
            })).collect::<Vec<_>>(),
            "prompts": prompts.iter().filter(|(_, entry)| entry.count - entry.doubt > 1).take(ROWS).map(|(hash, entry)| json!({
                "hash": &**hash, "count": entry.count - entry.doubt, "first": entry.first, "last": entry.last,
                "users": entry.value.users.iter().map(|user| &**user).collect::<Vec<_>>(),
                "more": entry.value.users.len() >= super::PROMPT_USERS,
            })).collect::<Vec<_>>(),
            "sessions": sessions,
            "hours": seen.hours.top(now, ROWS).iter().map(|(user, counts)| {
                json!({ "user": &**user, "counts": counts })
            }).collect::<Vec<_>>(),
        })
    }
}
