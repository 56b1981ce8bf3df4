//! What operators watch live, collected in bounded memory (docs/operator.md has the sums). Nothing of it is written
//! down, nothing of it holds a prompt, a token or a key, and a flood of strangers grows none of it.
//!
//! Prometheus has the long view and knows no user; this knows who, for the operator who has to act.

mod heavy;
mod hours;
mod made;
mod overview;
mod series;
mod windows;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::client_ip::group;

use crate::auth::Recognised;
use crate::clock::Clock;
use heavy::Heavy;
use hours::Hours;
use made::{Latest, Made};
use series::Series;
use windows::Windows;

pub use overview::Gauges;

/// Seconds of a slot, and slots: a quarter of an hour.
const SLOT: u64 = 5;
const SLOTS: usize = 180;
/// Spans of stored bytes and queue depth: five minutes each, a day in all.
const SPAN: u64 = 300;
const SPANS: usize = 288;
/// Entries of the lists of who does something most.
const HEAVIEST: usize = 256;
const REFUSALS: usize = 200;
const LATEST: usize = 2_000;
const SESSIONS: usize = 20_000;
const USERS: usize = 20_000;
const USERS_BY_HOUR: usize = 1_000;
/// Addresses remembered of one session, and users of one prompt; more are only known to be more.
const ADDRESSES: usize = 21;
const PROMPT_USERS: usize = 8;
/// Windows of sessions and users, in seconds.
const WINDOW: u64 = 3600;

/// Answers and links of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Answers below 400.
    pub ok: u32,
    /// Answers 4xx but 429.
    pub refused: u32,
    /// Answers 429.
    pub limited: u32,
    /// Answers 5xx.
    pub failed: u32,
    /// Pictures made.
    pub made: u32,
    /// Links opened, here and at the edge.
    pub opened: u32,
    /// Links refused, here and at the edge.
    pub denied: u32,
}

/// The gauges of five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Bytes stored or reserved; none where nobody looked.
    pub stored: Option<u64>,
    /// Jobs that waited, at most.
    pub queued: u32,
}

/// Whom a limit refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(Arc<str>),
    Address(IpAddr),
}

/// An answer that is a refusal or a failure.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Route template.
    pub route: Cow<'static, str>,
    /// HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: &'static str,
    /// The limit that refused.
    pub policy: Option<&'static str>,
    /// The client, where it is known.
    pub address: Option<IpAddr>,
    /// The user, where one was recognised.
    pub user: Option<Arc<str>>,
    /// As in the answer's `x-request-id`.
    pub request_id: String,
}

/// Limits that count by address; the others count by user.
const BY_ADDRESS: [&str; 4] = ["address", "penalty-box", "links", "token-endpoint"];

impl Refused {
    fn who(&self) -> Option<Who> {
        let address = self
            .address
            .map(|address| Who::Address(group(address).narrow));
        let user = self.user.clone().map(Who::User);
        if self
            .policy
            .is_some_and(|policy| BY_ADDRESS.contains(&policy))
        {
            address.or(user)
        } else {
            user.or(address)
        }
    }
}

#[derive(Debug, Default)]
struct Session {
    user: Option<Arc<str>>,
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Prompt {
    users: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Seen {
    slots: Series<Slot>,
    day: Series<Span>,
    reasons: Heavy<&'static str, ()>,
    limited: Heavy<(&'static str, Who), ()>,
    refusals: std::collections::VecDeque<(u64, Refused)>,
    latest: Latest,
    prompts: Heavy<Arc<str>, Prompt>,
    sessions: Windows<Session>,
    users: Windows<u32>,
    hours: Hours,
}

/// The collection. Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub struct Watch {
    clock: Clock,
    /// None where nothing is to be collected.
    seen: Option<Arc<Mutex<Seen>>>,
    session_ips: prometheus::Histogram,
    user_generations: prometheus::Histogram,
}

impl Watch {
    /// Nothing seen yet. Windows that end are told to the two histograms.
    pub fn new(
        clock: Clock,
        collect: bool,
        session_ips: prometheus::Histogram,
        user_generations: prometheus::Histogram,
    ) -> Self {
        let seen = Seen {
            slots: Series::new(SLOTS, SLOT),
            day: Series::new(SPANS, SPAN),
            reasons: Heavy::new(HEAVIEST),
            limited: Heavy::new(HEAVIEST),
            refusals: std::collections::VecDeque::new(),
            latest: Latest::new(LATEST),
            prompts: Heavy::new(HEAVIEST),
            sessions: Windows::new(SESSIONS, WINDOW),
            users: Windows::new(USERS, WINDOW),
            hours: Hours::new(USERS_BY_HOUR),
        };
        Self {
            clock,
            seen: collect.then(|| Arc::new(Mutex::new(seen))),
            session_ips,
            user_generations,
        }
    }

    fn lock(&self) -> Option<(MutexGuard<'_, Seen>, u64)> {
        let seen = self.seen.as_ref()?;
        let guard = seen.lock().unwrap_or_else(PoisonError::into_inner);
        Some((guard, self.clock.seconds()))
    }

    /// An answer below 400.
    pub fn answered(&self, session: Option<&Recognised>, address: Option<IpAddr>) {
        let Some((mut seen, now)) = self.lock() else {
            return;
        };
        if let Some(slot) = seen.slots.at(now) {
            slot.ok += 1;
        }
        self.session(&mut seen, session, address, now);
    }

    /// Any other answer.
    pub fn refused(&self, refused: Refused, session: Option<&Recognised>) {
        let Some((mut seen, now)) = self.lock() else {
            return;
        };
        self.session(&mut seen, session, refused.address, now);
        if let Some(slot) = seen.slots.at(now) {
            match refused.status {
                429 => slot.limited += 1,
                500.. => slot.failed += 1,
                _ => slot.refused += 1,
            }
        }
        seen.reasons
            .note(refused.policy.unwrap_or(refused.code), now);
        if let (Some(policy), Some(who)) = (refused.policy, refused.who()) {
            seen.limited.note((policy, who), now);
        }
        if seen.refusals.len() >= REFUSALS {
            seen.refusals.pop_front();
        }
        seen.refusals.push_back((now, refused));
    }

    /// Links, opened or refused: one here, many in a report of the edge.
    pub fn links(&self, opened: bool, count: u64) {
        if let Some((mut seen, now)) = self.lock()
            && let Some(slot) = seen.slots.at(now)
        {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let sum = if opened {
                &mut slot.opened
            } else {
                &mut slot.denied
            };
            *sum = sum.saturating_add(count);
        }
    }

    /// A session (a token's `jti`, or the studio's) was used from an address; IPv6 counts by /64.
    fn session(
        &self,
        seen: &mut Seen,
        session: Option<&Recognised>,
        address: Option<IpAddr>,
        now: u64,
    ) {
        let (Some(known), Some(address)) = (session, address) else {
            return;
        };
        let (session, early) = seen.sessions.at(&known.session, now);
        let address = group(address).narrow;
        if session.addresses.len() < ADDRESSES && !session.addresses.contains(&address) {
            session.addresses.push(address);
        }
        if session.user.is_none() {
            session.user = Some(Arc::clone(&known.user));
        }
        if let Some(early) = early {
            self.session_ips.observe(early.addresses.len() as f64);
        }
    }

    /// A generation of so many pictures is done. `before` is the prompt's hash under the key before, while that is kept.
    pub fn made(
        &self,
        user: &Arc<str>,
        hash: &str,
        before: Option<&str>,
        pictures: u32,
        took: (u64, u64),
    ) {
        let Some((mut seen, now)) = self.lock() else {
            return;
        };
        let (latency_ms, queue_ms) = took;
        if let Some(slot) = seen.slots.at(now) {
            slot.made = slot.made.saturating_add(pictures);
        }
        seen.latest.note(Made {
            at: now,
            latency_ms,
            queue_ms,
        });
        let hash: Arc<str> = hash.into();
        if let Some(before) = before {
            seen.prompts.rename(&Arc::from(before), Arc::clone(&hash));
        }
        let prompt = &mut seen.prompts.note(hash, now).value;
        if prompt.users.len() < PROMPT_USERS && !prompt.users.contains(user) {
            prompt.users.push(Arc::clone(user));
        }
        seen.hours.note(user, pictures, now);
        let (count, early) = seen.users.at(user, now);
        *count = count.saturating_add(pictures);
        if let Some(early) = early {
            self.user_generations.observe(f64::from(early));
        }
    }

    /// Notes the gauges, and tells the histograms of the windows that ended.
    pub fn tick(&self, stored: Option<u64>, queued: usize) {
        let Some((mut seen, now)) = self.lock() else {
            return;
        };
        if let Some(span) = seen.day.at(now) {
            span.stored = stored.or(span.stored);
            span.queued = span.queued.max(u32::try_from(queued).unwrap_or(u32::MAX));
        }
        for session in seen.sessions.end(now) {
            self.session_ips.observe(session.addresses.len() as f64);
        }
        for count in seen.users.end(now) {
            self.user_generations.observe(f64::from(count));
        }
    }
}
