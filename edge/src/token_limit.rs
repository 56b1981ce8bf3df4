//! The limit `token`, exact across all locations: sixteen Durable Objects keep one time for each token id. What a request was
//! charged is given back when the origin charged nothing for it.

use sha2::{Digest, Sha256};
use shared::decided::{Pair, TOKEN};
use shared::gcra::{Decision, Rate};
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::clock;
use crate::counts;
use crate::js::{self, Rows};
use crate::limits::{Refusal, hex};

/// The binding of the objects' namespace.
pub const BINDING: &str = "TOKEN_LIMIT";
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// A charge that can be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    name: String,
    rate: Pair,
}

/// Charges a request to the token `jti`. None when the object could not decide, and the origin must.
///
/// # Errors
/// The refusal.
pub async fn charge(env: &Env, rate: Pair, jti: &str) -> Result<Option<Charge>, Refusal> {
    let digest: [u8; 32] = Sha256::digest(jti.as_bytes()).into();
    let charge = Charge {
        name: hex(digest.split_at(16).0),
        rate,
    };
    let why = match charge.ask(env, "charge").await {
        Ok((200, text)) => match text.parse() {
            Ok(0) => return Ok(Some(charge)),
            Ok(wait) => return Err(refusal(rate, wait)),
            Err(_) => "an answer that is none".to_owned(),
        },
        Ok((status, _)) => format!("status {status}"),
        Err(error) => js::describe(&error),
    };
    js::log_error(&format!(
        "edge: the limit of tokens fails, the origin decides: {why}"
    ));
    Ok(None)
}

impl Charge {
    async fn ask(&self, env: &Env, what: &str) -> Result<(u16, String), JsValue> {
        let first = self.name.chars().next().and_then(|c| c.to_digit(16));
        let first = first.unwrap_or(0);
        let ask = format!("{what} {} {}", self.name, self.rate);
        js::ask_object(env, BINDING, &format!("v1-{first}"), "POST", Some(&ask)).await
    }

    /// Gives it back. A failure costs the caller one request of the rate, and is logged.
    pub async fn give_back(self, env: &Env) {
        match self.ask(env, "refund").await {
            Ok((200, _)) => {}
            Ok((status, _)) => js::log_error(&format!("edge: no refund of a token: {status}")),
            Err(error) => {
                let why = js::describe(&error);
                js::log_error(&format!("edge: no refund of a token: {why}"));
            }
        }
    }
}

/// `wait` in nanoseconds.
fn refusal(rate: Pair, wait: u64) -> Refusal {
    counts::limited(TOKEN);
    let rate = Rate::per_minute(rate.0, rate.1);
    Refusal {
        policy: TOKEN,
        quota: rate.map_or(0, |rate| rate.capacity()),
        window: rate.map_or(0, |rate| rate.window().div_ceil(SECOND)),
        retry_after: wait.div_ceil(SECOND).max(1),
    }
}

/// The object's part: `charge NAME RATE` or `refund NAME RATE`. Answers 0, or the nanoseconds to wait.
///
/// # Errors
/// What the storage throws; a question that is none.
#[wasm_bindgen]
pub fn token_limit(rows: &Rows, ask: &str, now: f64) -> Result<String, JsValue> {
    let (is_charge, key, rate) = question(ask).ok_or_else(|| JsValue::from_str("no question"))?;
    let now = clock::milliseconds(now).saturating_mul(MILLISECOND);
    let stored = rows
        .read(&key)?
        .and_then(|row| row.try_into().ok())
        .map(u64::from_be_bytes);
    let (tat, wait) = if is_charge {
        match rate.decide(stored, now) {
            Decision::Pass { tat, .. } => (Some(tat), 0),
            Decision::Refuse { retry_after, .. } => (None, retry_after.max(1)),
        }
    } else {
        (stored.map(|tat| rate.refund(tat, now)), 0)
    };
    if let Some(tat) = tat {
        rows.write(&key, &tat.to_be_bytes(), tat.div_ceil(MILLISECOND) as f64)?;
    }
    Ok(wait.to_string())
}

fn question(ask: &str) -> Option<(bool, [u8; 16], Rate)> {
    let mut words = ask.split(' ');
    let is_charge = match words.next()? {
        "charge" => true,
        "refund" => false,
        _ => return None,
    };
    let name = words.next().filter(|name| name.len() == 32)?;
    let key = u128::from_str_radix(name, 16).ok()?.to_be_bytes();
    let Pair(per_minute, burst) = Pair::parse(words.next()?)?;
    Some((is_charge, key, Rate::per_minute(per_minute, burst)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_in_their_one_form() {
        let name = "0123456789abcdef0123456789abcdef";
        let (is_charge, key, rate) = question(&format!("charge {name} 20/5")).unwrap();
        assert!(is_charge && key[..2] == [1, 0x23] && Some(rate) == Rate::per_minute(20, 5));
        assert!(!question(&format!("refund {name} 20/5")).unwrap().0);
        for bad in [
            String::new(),
            format!("take {name} 20/5"),
            format!("charge {name} 0/5"),
            format!("charge {name}"),
            "charge 01 20/5".into(),
        ] {
            assert_eq!(question(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_refusal_tells_the_rate_as_the_origin_does() {
        let Refusal {
            quota,
            window,
            retry_after,
            ..
        } = refusal(Pair(20, 5), 2_000_000_001);
        assert_eq!((quota, window, retry_after), (6, 18, 3));
    }
}
