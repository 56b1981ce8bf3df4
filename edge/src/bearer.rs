//! Access tokens at the edge: one with a bad signature, for another service or past its time does not reach the origin.
//! Only public keys are here: the origin's JWKS, read again every [`AGAIN`] seconds and for a key id that is new.
//!
//! A shield and no authority: the origin verifies every token itself, and knows at once which are revoked. So where no
//! keys are known, tokens pass.

use std::cell::RefCell;
use std::collections::HashSet;

use sha2::{Digest, Sha256};
use shared::access_token::Unverified;
use shared::revocation::Name;

use crate::config::Config;
use crate::js;
use crate::origin;

/// Keys are read again after so many seconds, as the origin's `Cache-Control` has it; it shows a new key for twice as
/// long before it signs.
const AGAIN: u64 = 300;
/// Between two questions for keys, in seconds, whatever tokens name.
const BETWEEN: u64 = 10;
/// A question may take so many seconds.
const WAIT: u64 = 5;
/// With the origin away keys count for so many seconds.
const BOUND: u64 = 24 * 3600;
/// Tokens whose signature is known to hold, some 200 KB.
const VERIFIED: usize = 4096;
const PATH: &str = "/.well-known/jwks.json";

thread_local! {
    static KEYS: RefCell<Keys> = RefCell::default();
}

/// The origin's public keys; the keys themselves lie on the other side of the border, by their ids.
#[derive(Debug, Default)]
struct Keys {
    set: Option<Set>,
    /// When they were asked for last, and whether that is still under way.
    asked_at: Option<u64>,
    is_asking: bool,
    verified: HashSet<[u8; 32]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    issuer: String,
    audience: String,
    kids: Vec<String>,
    read_at: u64,
}

/// What is known of a bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// The token is good: its id, and what may have been revoked of it.
    Known(String, [Name; 3]),
    /// No keys to judge by: the origin will.
    Unknown,
}

/// The token is not valid; whoever sent it is told no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Keys {
    /// Whether the keys are to be asked for, at the sight of a token that names `kid`.
    fn is_due(&self, kid: &str, now: u64) -> bool {
        let asked_lately = self.asked_at.is_some_and(|at| now < at + BETWEEN);
        let known = |set: &Set| now < set.read_at + AGAIN && set.kids.iter().any(|it| it == kid);
        !asked_lately && !self.set.as_ref().is_some_and(known)
    }

    /// The keys that count.
    fn current(&self, now: u64) -> Option<&Set> {
        self.set.as_ref().filter(|set| now < set.read_at + BOUND)
    }

    /// Whether an answer is still to come, which may bring the key.
    fn awaits(&self, now: u64) -> bool {
        self.is_asking && self.asked_at.is_some_and(|at| now < at + WAIT)
    }

    fn begin(&mut self, now: u64) {
        self.asked_at = Some(now);
        self.is_asking = true;
    }

    /// Takes what came; after a failure the keys at hand stay.
    fn end(&mut self, set: Option<Set>) {
        self.is_asking = false;
        if let Some(set) = set {
            if self.set.as_ref().is_none_or(|old| old.kids != set.kids) {
                self.verified.clear();
            }
            self.set = Some(set);
        }
    }

    fn remember(&mut self, name: [u8; 32]) {
        if self.verified.len() >= VERIFIED {
            self.verified.clear();
        }
        self.verified.insert(name);
    }
}

/// Looks at a token. `now` in Unix seconds.
///
/// # Errors
/// [`Refused`].
pub async fn check(token: &str, config: &Config, now: u64) -> Result<Bearer, Refused> {
    let parsed = Unverified::parse(token);
    let kid = parsed.as_ref().map_or("", |it| it.kid.as_str());
    let due = KEYS.with_borrow_mut(|keys| {
        // What is in no form of ours asks for nothing, once there are keys.
        let due = keys.is_due(kid, now) && (parsed.is_ok() || keys.current(now).is_none());
        if due {
            keys.begin(now);
        }
        due
    });
    if due {
        let set = ask(config, now).await;
        KEYS.with_borrow_mut(|keys| keys.end(set));
    }
    let name: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let (is_known, is_verified) = {
        let verdict = KEYS.with_borrow(|keys| {
            let Some(set) = keys.current(now) else {
                return Ok(None);
            };
            let parsed = parsed.as_ref().map_err(|_| Refused)?;
            parsed
                .check(&set.issuer, &set.audience, now)
                .map_err(|_| Refused)?;
            let is_known = set.kids.contains(&parsed.kid);
            if !is_known && keys.awaits(now) {
                return Ok(None);
            }
            Ok(Some((is_known, keys.verified.contains(&name))))
        })?;
        let Some(verdict) = verdict else {
            return Ok(Bearer::Unknown);
        };
        verdict
    };
    let parsed = parsed.map_err(|_| Refused)?;
    if !is_known {
        return Err(Refused);
    }
    if !is_verified {
        match js::verify_token(&parsed.kid, &parsed.signature, parsed.signed).await {
            Ok(true) => KEYS.with_borrow_mut(|keys| keys.remember(name)),
            Ok(false) => return Err(Refused),
            Err(error) => {
                let why = js::describe(&error);
                js::log_error(&format!("edge: a token could not be verified: {why}"));
                return Ok(Bearer::Unknown);
            }
        }
    }
    Ok(Bearer::Known(parsed.jti().to_owned(), parsed.names()))
}

/// The origin's keys; none when it does not answer with any.
async fn ask(config: &Config, now: u64) -> Option<Set> {
    let answer = origin::get(config, PATH, now, WAIT).await;
    let set = match answer {
        Some(text) => js::take_keys(&text)
            .await
            .ok()
            .and_then(|lines| read(&lines, now)),
        None => None,
    };
    if set.is_none() {
        js::log_error("edge: the origin's public keys cannot be had; those at hand count");
    }
    set
}

/// Issuer, audience and key ids, a line each.
fn read(lines: &str, now: u64) -> Option<Set> {
    let mut lines = lines.split('\n').map(str::to_owned);
    let (issuer, audience) = (lines.next()?, lines.next()?);
    let kids: Vec<String> = lines.filter(|kid| !kid.is_empty()).collect();
    let is_whole = !issuer.is_empty() && !audience.is_empty() && !kids.is_empty();
    is_whole.then_some(Set {
        issuer,
        audience,
        kids,
        read_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(read_at: u64, kids: &str) -> Option<Set> {
        read(
            &format!("https://a\nhttps://b\n{}", kids.replace(' ', "\n")),
            read_at,
        )
    }

    #[test]
    fn keys_are_asked_for_at_first_after_a_while_and_for_new_ids_but_never_more_often_than_allowed()
    {
        let mut keys = Keys::default();
        assert!(keys.is_due("a", 1_000));
        keys.begin(1_000);
        assert!(!keys.is_due("a", 1_000) && keys.awaits(1_000) && !keys.awaits(1_000 + WAIT));
        keys.end(set(1_000, "a b"));
        assert!(!keys.is_due("a", 1_299) && keys.is_due("a", 1_300));
        assert!(!keys.is_due("c", 1_009) && keys.is_due("c", 1_010));
        // A thousand made-up ids a second ask six times a minute.
        let mut asked = 0;
        for at in 0..60_000u64 {
            let now = 2_000 + at / 1_000;
            if keys.is_due(&format!("x{at}"), now) {
                keys.begin(now);
                keys.end(set(now, "a b"));
                asked += 1;
            }
        }
        assert_eq!(asked, 6);
    }

    #[test]
    fn with_the_origin_away_keys_count_up_to_their_bound() {
        let mut keys = Keys::default();
        keys.end(set(1_000, "a"));
        keys.begin(1_400);
        keys.end(None);
        assert!(keys.current(1_400).is_some() && keys.current(1_000 + BOUND - 1).is_some());
        assert!(keys.current(1_000 + BOUND).is_none());
        assert!(!keys.is_due("a", 1_409) && keys.is_due("a", 1_410));
    }

    #[test]
    fn other_keys_forget_which_tokens_were_good() {
        let mut keys = Keys::default();
        keys.end(set(1, "a b"));
        keys.remember([1; 32]);
        keys.end(set(2, "a b"));
        assert!(keys.verified.contains(&[1; 32]));
        keys.end(set(3, "b"));
        assert!(keys.verified.is_empty());
        for n in 0..10_000u32 {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&n.to_be_bytes());
            keys.remember(name);
        }
        assert!(keys.verified.len() <= VERIFIED);
    }

    #[test]
    fn an_answer_without_keys_or_names_is_none() {
        for lines in ["", "a", "a\nb", "a\nb\n", "\nb\nk", "a\n\nk"] {
            assert_eq!(read(lines, 1), None, "{lines:?}");
        }
    }
}
