//! What the edge knows to be revoked. The origin says it to one Durable Object ([`crate::revoked_pages`]); every isolate
//! holds a filter of it, fetches the pages that changed, and asks the object about what the filter may hold. So an
//! isolate's memory and what it fetches are bounded, however much is revoked, and an answer is exact all the same.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use shared::edge_auth::{self, Message};
use shared::hex::hex;
use shared::link::{LinkError, PermittedLink};
use shared::problem::{self, Problem};
use shared::revocation::snapshot::{self, Snapshot};
use shared::revocation::{self, Beat, Entry, Filter, Kind, MAX_TEXT, Name};
use worker::Env;

use crate::config::Config;
use crate::gate::{self, Call};
use crate::js::{self, Body};

/// The binding of the Durable Object's namespace.
pub const BINDING: &str = "REVOCATIONS";
/// Where the origin says what is revoked, on the API's host.
pub const PATH: &str = "/.signet/revocations";
/// There is one object, under this name.
const OBJECT: &str = "v1";
/// An isolate asks for what changed after so many seconds.
const AGAIN: u64 = 10;
/// Exact answers that an isolate remembers, until anything changes: some 1 MB.
const REMEMBERED: usize = 4096;

const NOT_A_SNAPSHOT: Problem = Problem {
    status: 400,
    code: "malformed_snapshot",
    title: "This does not say what is revoked.",
};
const NOT_KEPT: Problem = Problem {
    status: 503,
    code: "revocations_unavailable",
    title: "What is revoked could not be kept.",
};
/// What is done while nobody said in the last minute what is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing opens: nobody knows who is suspended by now.
    Closed,
    /// What was revoked by then stays closed, the rest opens.
    Open,
    /// Nothing is ever revoked; links die by their own time and by removing their key.
    Off,
}

/// What a request goes by.
#[derive(Clone)]
pub struct Known {
    filter: Option<Rc<Filter>>,
    rule: Rule,
    /// All there is, in a test.
    given: Option<Rc<Vec<Entry>>>,
}

#[derive(Default)]
struct Kept {
    filter: Option<Rc<Filter>>,
    asked_at: u64,
    /// Exact answers of this version.
    answers: HashMap<String, Rc<Vec<Entry>>>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

impl Kept {
    /// Takes an update; whether it was one of ours.
    fn update(&mut self, bytes: &[u8]) -> bool {
        let mut filter = self.filter.take().unwrap_or_default();
        let before = (filter.version, filter.lineage);
        let is_good = Rc::make_mut(&mut filter).update(bytes).is_some();
        if (filter.version, filter.lineage) != before {
            self.answers.clear();
        }
        // What never was filled knows nothing.
        self.filter = (is_good || filter.taken_ms > 0).then_some(filter);
        is_good
    }

    fn remember(&mut self, name: &Name, entries: Rc<Vec<Entry>>) {
        if self.answers.len() >= REMEMBERED {
            self.answers.clear();
        }
        self.answers.insert(name.to_string(), entries);
    }
}

/// What can be said at once.
enum Said {
    /// All entries of what was asked about.
    All(Vec<Entry>),
    /// These must be asked for.
    Ask(Vec<Name>),
}

impl Known {
    /// What a test gives, and nothing else.
    #[cfg(feature = "test-hooks")]
    pub fn of(entries: Vec<Entry>) -> Self {
        Self {
            filter: None,
            rule: Rule::Closed,
            given: Some(Rc::new(entries)),
        }
    }

    /// What the isolate has; nothing when it is time to ask what changed, which [`Known::now`] does.
    pub fn at_hand(rule: Rule, now: u64) -> Option<Self> {
        let filter = if rule == Rule::Off {
            None
        } else {
            KEPT.with_borrow(|kept| (!is_due(kept, now)).then(|| kept.filter.clone()))?
        };
        Some(Self {
            filter,
            rule,
            given: None,
        })
    }

    /// What the isolate has, after asking what changed when it is time.
    pub async fn now(env: &Env, rule: Rule, now: u64) -> Self {
        if rule != Rule::Off {
            let ask = KEPT.with_borrow_mut(|kept| {
                let ask = is_due(kept, now);
                if ask {
                    kept.asked_at = now;
                }
                ask
            });
            if ask {
                read(env).await;
            }
        }
        let filter = if rule == Rule::Off {
            None
        } else {
            KEPT.with_borrow(|kept| kept.filter.clone())
        };
        Self {
            filter,
            rule,
            given: None,
        }
    }

    fn is_stale(&self, now: u64) -> bool {
        self.given.is_none()
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| revocation::is_stale(filter.taken_ms, now))
    }

    fn say(&self, names: impl FnOnce() -> Vec<Name>) -> Said {
        if let Some(given) = &self.given {
            return Said::All(given.to_vec());
        }
        let Some(filter) = self.filter.as_ref().filter(|filter| !filter.is_empty()) else {
            return Said::All(Vec::new());
        };
        let mut said = Vec::new();
        let mut ask = Vec::new();
        for name in names() {
            if !filter.may_hold(&name) {
                continue;
            }
            match KEPT.with_borrow(|kept| kept.answers.get(&name.to_string()).cloned()) {
                Some(entries) => said.extend(entries.iter().cloned()),
                None => ask.push(name),
            }
        }
        if ask.is_empty() {
            Said::All(said)
        } else {
            Said::Ask(ask)
        }
    }

    /// All entries of these names; none when they must be asked for and nobody answers.
    async fn entries(&self, env: &Env, wanted: Vec<Name>) -> Option<Vec<Entry>> {
        let mut all = Vec::new();
        let ask = match self.say(|| wanted.clone()) {
            Said::All(entries) => return Some(entries),
            Said::Ask(ask) => ask,
        };
        for name in wanted.iter().filter(|name| !ask.contains(name)) {
            let known = KEPT.with_borrow(|kept| kept.answers.get(&name.to_string()).cloned());
            all.extend(known.iter().flat_map(|entries| entries.iter().cloned()));
        }
        let version = self.filter.as_ref().map(|filter| filter.version);
        for (name, entries) in look(env, ask).await? {
            let entries = Rc::new(entries);
            all.extend(entries.iter().cloned());
            KEPT.with_borrow_mut(|kept| {
                // Another request may have fetched what changed meanwhile.
                if kept.filter.as_ref().map(|filter| filter.version) == version {
                    kept.remember(&name, entries);
                }
            });
        }
        Some(all)
    }

    /// The verdict on a link, when that needs no second look.
    pub fn verdict(
        &self,
        link: &PermittedLink,
        client: IpAddr,
        now: u64,
    ) -> Option<Result<(), LinkError>> {
        if self.rule == Rule::Closed && self.is_stale(now) {
            return Some(Err(LinkError::Revoked));
        }
        let names = || revocation::names_of_link(link, Some(client));
        match self.say(names) {
            Said::All(entries) if entries.is_empty() => Some(Ok(())),
            Said::All(entries) => Some(revocation::judge(link, &names(), &entries, now)),
            Said::Ask(_) => None,
        }
    }

    /// Whether the link still opens at `now` (Unix seconds). A second look that fails closes this link alone.
    ///
    /// # Errors
    /// [`LinkError::Revoked`].
    pub async fn check(
        &self,
        env: &Env,
        link: &PermittedLink,
        client: IpAddr,
        now: u64,
    ) -> Result<(), LinkError> {
        if let Some(verdict) = self.verdict(link, client, now) {
            return verdict;
        }
        let names = revocation::names_of_link(link, Some(client));
        match self.entries(env, names.clone()).await {
            Some(entries) => revocation::judge(link, &names, &entries, now),
            None => Err(LinkError::Revoked),
        }
    }

    /// Which of these kinds an API call is refused for. What cannot be found out here, the origin knows.
    pub async fn refuses(&self, env: &Env, names: Vec<Name>, now: u64) -> Option<Kind> {
        let entries = self.entries(env, names).await.unwrap_or_default();
        let alive = entries.into_iter().filter(|entry| entry.ends > now);
        let kinds = alive.map(|entry| entry.kind);
        kinds.filter(|kind| *kind != Kind::Epoch).min()
    }
}

/// Usually every [`AGAIN`] seconds. What is not fresh is asked for once a second, what closes by every request: else
/// those that come while the first answer is under way would be refused.
fn is_due(kept: &Kept, now: u64) -> bool {
    match &kept.filter {
        Some(filter) if revocation::is_fresh(filter.taken_ms, now) => now >= kept.asked_at + AGAIN,
        Some(filter) if !revocation::is_stale(filter.taken_ms, now) => now != kept.asked_at,
        _ => true,
    }
}

/// Asks the object what changed; without an answer what is at hand stays.
async fn read(env: &Env) {
    let question = KEPT.with_borrow(|kept| {
        let filter = kept.filter.as_ref();
        filter.map_or_else(
            || "changes - 0".to_owned(),
            |filter| format!("changes {} {}", hex(&filter.lineage), filter.version),
        )
    });
    match js::ask_object_bytes(env, BINDING, OBJECT, &question).await {
        Ok((200, bytes)) => {
            if !KEPT.with_borrow_mut(|kept| kept.update(&bytes)) {
                js::log_error("edge: the kept revocations cannot be read");
            }
        }
        Ok((404, _)) => {}
        Ok((status, _)) => js::log_error(&format!("edge: the revocations answered {status}")),
        Err(error) => {
            let why = js::describe(&error);
            js::log_error(&format!("edge: the revocations do not answer: {why}"));
        }
    }
}

/// Asks the object about names, exactly.
async fn look(env: &Env, names: Vec<Name>) -> Option<Vec<(Name, Vec<Entry>)>> {
    let lines: Vec<String> = names.iter().map(ToString::to_string).collect();
    let question = format!("look\n{}", lines.join("\n"));
    let answer = js::ask_object(env, BINDING, OBJECT, "POST", Some(&question)).await;
    let text = match answer {
        Ok((200, text)) => text,
        Ok((status, _)) => {
            js::log_error(&format!(
                "edge: the revocations answered {status} to a look"
            ));
            return None;
        }
        Err(error) => {
            let why = js::describe(&error);
            js::log_error(&format!("edge: the revocations do not answer: {why}"));
            return None;
        }
    };
    let entries = text.lines().map(Entry::parse).collect::<Option<Vec<_>>>()?;
    let of = |name: &Name| {
        let own = entries.iter().filter(|entry| name.is_of(entry));
        own.cloned().collect()
    };
    Some(names.iter().map(|name| (name.clone(), of(name))).collect())
}

/// What the origin is told back: a status, and perhaps the digests of the pages that are kept.
pub type Told = (u16, String);

/// Takes in what the origin signed with the edge's keyring, as the edge signs to the origin.
///
/// # Errors
/// The answer's problem.
pub async fn receive(call: &Call<'_>, env: &Env, config: &Config) -> Result<Told, Problem> {
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
    let is_known = if text.starts_with(snapshot::HEAD) {
        Snapshot::parse(&text).is_some()
    } else {
        Beat::parse(&text).is_some()
    };
    if !is_known {
        return Err(NOT_A_SNAPSHOT);
    }
    match js::ask_object(env, BINDING, OBJECT, "PUT", Some(&text)).await {
        Ok((status @ (204 | 409), text)) => Ok((status, text)),
        Ok((status, _)) => {
            js::log_error(&format!("edge: the revocations answered {status} to news"));
            Err(NOT_KEPT)
        }
        Err(error) => {
            let why = js::describe(&error);
            js::log_error(&format!("edge: what is revoked could not be kept: {why}"));
            Err(NOT_KEPT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::revocation::filter::{LINEAGE, of_page, update_head, update_page};

    fn kept(taken_at: u64) -> Kept {
        let mut filter = Filter::default();
        let head = update_head(taken_at * 1000, 1, [1; LINEAGE], true);
        filter.update(&head).unwrap();
        Kept {
            filter: Some(Rc::new(filter)),
            asked_at: 1_000,
            ..Kept::default()
        }
    }

    #[test]
    fn fresh_ones_are_asked_for_now_and_then_old_ones_every_second_and_stale_ones_always() {
        assert!(!is_due(&kept(1_000), 1_009) && is_due(&kept(1_000), 1_010));
        assert!(!is_due(&kept(960), 1_000) && is_due(&kept(960), 1_001));
        assert!(is_due(&kept(900), 1_000));
        assert!(is_due(&Kept::default(), 1_000));
    }

    #[test]
    fn exact_answers_are_forgotten_when_anything_changed_and_never_grow_past_their_bound() {
        let mut kept = Kept::default();
        let entry = Entry::new(Kind::Suspended, "u", 0, 9).unwrap();
        let name = entry.subject();
        let update = |version: u64, whole: bool| {
            let mut bytes = update_head(5_000, version, [1; LINEAGE], whole);
            let filter = of_page(std::slice::from_ref(&entry));
            update_page(&mut bytes, name.place().page, &filter);
            bytes
        };
        assert!(!kept.update(&[1, 2, 3]) && kept.filter.is_none());
        assert!(kept.update(&update(1, true)));
        kept.remember(&name, Rc::new(vec![entry.clone()]));
        assert!(kept.update(&update(1, false)) && kept.answers.len() == 1);
        assert!(kept.update(&update(2, false)) && kept.answers.is_empty());
        assert!(
            !kept.update(&[1, 2, 3]) && kept.filter.is_some(),
            "what was there stays"
        );
        for n in 0..3 * REMEMBERED {
            kept.remember(&Name::owner(&format!("u{n}")), Rc::default());
        }
        assert!(kept.answers.len() <= REMEMBERED);
    }
}
