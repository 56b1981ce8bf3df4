//! The penalty box, exact across all locations: Durable Objects count, each isolate remembers who is blocked, so that
//! a flood that is blocked costs no further call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

use shared::client_ip::{self, AddressGroup};
use shared::decided::{PENALTY_BOX, Pair};
use shared::penalty::stored::{self, WINDOW};
use shared::penalty::{self, Part, Record};
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::clock;
use crate::counts;
use crate::js::{self, Rows};
use crate::limits::Refusal;

/// The binding of the objects' namespace.
pub const BINDING: &str = "PENALTY_BOX";
/// Addresses are spread over so many objects; a /48 and its parts meet in one.
const OBJECTS: u32 = 16;
/// An isolate remembers so many blocks, some 300 KB.
const REMEMBERED: usize = 4096;

thread_local! {
    static BLOCKS: RefCell<Blocks> = RefCell::default();
}

/// Who is blocked, and until when by this isolate's clock in milliseconds.
#[derive(Debug, Default)]
struct Blocks(HashMap<(Part, IpAddr), u64>);

impl Blocks {
    fn until(&self, group: AddressGroup, now: u64) -> Option<u64> {
        let of = |part, address| self.0.get(&(part, address)).copied();
        let narrow = of(Part::Narrow, group.narrow);
        let wide = group.wide.and_then(|wide| of(Part::Wide, wide));
        narrow.max(wide).filter(|&until| now < until)
    }

    /// A full memory forgets what is over, or else those whose block ends first.
    fn remember(&mut self, part: Part, address: IpAddr, until: u64, now: u64) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, end| *end > now);
        }
        if self.0.len() >= REMEMBERED {
            let mut ends: Vec<u64> = self.0.values().copied().collect();
            let (_, middle, _) = ends.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            self.0.retain(|_, end| *end > middle);
        }
        self.0.insert((part, address), until);
    }
}

/// Counts an arrival of `client` at a generation route. True when the object decided; false when it could not, and the
/// origin must.
///
/// # Errors
/// The refusal.
pub async fn arrive(env: &Env, rule: Pair, client: IpAddr, now: u64) -> Result<bool, Refusal> {
    let group = client_ip::group(client);
    if let Some(until) = BLOCKS.with_borrow(|blocks| blocks.until(group, now)) {
        return Err(refusal(rule, until - now));
    }
    let wide = group.wide.map_or_else(|| "-".into(), |it| it.to_string());
    let ask = format!("{} {wide} {rule}", group.narrow);
    let name = object(group);
    let answer = js::ask_object(env, BINDING, &name, "POST", Some(&ask)).await;
    let why = match answer {
        Ok((200, text)) => match read(&text) {
            Some(None) => return Ok(true),
            Some(Some((part, left))) => {
                let address = match part {
                    Part::Narrow => group.narrow,
                    Part::Wide => group.wide.unwrap_or(group.narrow),
                };
                let until = now.saturating_add(left);
                BLOCKS.with_borrow_mut(|blocks| blocks.remember(part, address, until, now));
                return Err(refusal(rule, left));
            }
            None => "an answer that is none".to_owned(),
        },
        Ok((status, _)) => format!("status {status}"),
        Err(error) => js::describe(&error),
    };
    js::log_error(&format!(
        "edge: the penalty box fails, the origin decides: {why}"
    ));
    Ok(false)
}

fn refusal(Pair(quota, _): Pair, left: u64) -> Refusal {
    counts::limited(PENALTY_BOX);
    Refusal {
        policy: PENALTY_BOX,
        quota,
        window: WINDOW / 1000,
        retry_after: left.div_ceil(1000).max(1),
    }
}

fn object(group: AddressGroup) -> String {
    let bits = match group.wide.unwrap_or(group.narrow) {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => v6
            .segments()
            .iter()
            .fold(0, |sum: u32, &part| sum.rotate_left(11) ^ u32::from(part)),
    };
    // Neighbours fall into different objects.
    format!(
        "v1-{}",
        bits.wrapping_mul(0x9E37_79B1) >> 16 & (OBJECTS - 1)
    )
}

/// The object's part: an arrival asked as `NARROW WIDE ARRIVALS/SECONDS`, with `-` for no /48. Answers what [`read`]
/// reads.
///
/// # Errors
/// What the storage throws; a question that is none.
#[wasm_bindgen]
pub fn penalty_arrive(rows: &Rows, ask: &str, now: f64) -> Result<String, JsValue> {
    let (narrow, wide, Pair(arrivals, seconds)) =
        question(ask).ok_or_else(|| JsValue::from_str("no question"))?;
    let (rule, now) = (stored::rule(arrivals, seconds), clock::milliseconds(now));
    let take = |key: &[u8]| -> Result<Record, JsValue> {
        Ok(Record::from_bytes(&rows.read(key)?.unwrap_or_default()))
    };
    let narrow_key = stored::key(narrow, false);
    let wide_key = wide.map(|wide| stored::key(wide, true));
    let mut narrow = take(&narrow_key)?;
    let mut wide = wide_key.as_deref().map(take).transpose()?;
    let before = (narrow.clone(), wide.clone());
    let verdict = penalty::arrive(&mut narrow, wide.as_mut(), rule, now);
    let put = |key: &[u8], record: &Record, was: &Record| {
        if record == was {
            return Ok(());
        }
        rows.write(key, &record.to_bytes(), record.forgotten_at(rule) as f64)
    };
    put(&narrow_key, &narrow, &before.0)?;
    if let (Some(key), Some(wide), Some(was)) = (&wide_key, &wide, &before.1) {
        put(key, wide, was)?;
    }
    Ok(match verdict {
        Ok(()) => "0".into(),
        Err((part, blocked)) => {
            let name = if part == Part::Wide { "wide" } else { "narrow" };
            format!("{} {name}", blocked.until.saturating_sub(now))
        }
    })
}

fn question(ask: &str) -> Option<(IpAddr, Option<IpAddr>, Pair)> {
    let mut words = ask.split(' ');
    let narrow = words.next()?.parse().ok()?;
    let wide = match words.next()? {
        "-" => None,
        wide => Some(wide.parse().ok()?),
    };
    Some((narrow, wide, Pair::parse(words.next()?)?))
}

/// `0`, or the milliseconds of a block that are left and which part is blocked.
fn read(answer: &str) -> Option<Option<(Part, u64)>> {
    if answer == "0" {
        return Some(None);
    }
    let (left, part) = answer.split_once(' ')?;
    let part = match part {
        "narrow" => Part::Narrow,
        "wide" => Part::Wide,
        _ => return None,
    };
    Some(Some((part, left.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> AddressGroup {
        client_ip::group(text.parse().unwrap())
    }

    #[test]
    fn an_isolate_remembers_blocks_until_they_end_and_no_more_than_it_may() {
        let mut blocks = Blocks::default();
        let one = group("2001:db8:1:2::3");
        blocks.remember(Part::Narrow, one.narrow, 900, 0);
        assert_eq!(blocks.until(one, 899), Some(900));
        assert_eq!(blocks.until(one, 900), None);
        let neighbour = group("2001:db8:1:3::3");
        assert_eq!(blocks.until(neighbour, 1), None);
        blocks.remember(Part::Wide, one.wide.unwrap(), 500, 0);
        assert_eq!(blocks.until(neighbour, 1), Some(500));
        assert_eq!(blocks.until(one, 1), Some(900));
        for n in 0..100_000u32 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
            blocks.remember(Part::Narrow, address, 1_000 + u64::from(n), 1);
        }
        assert!(blocks.0.len() <= REMEMBERED);
        let last = AddressGroup {
            narrow: std::net::Ipv4Addr::from_bits(99_999).into(),
            wide: None,
        };
        assert!(blocks.until(last, 1).is_some());
    }

    #[test]
    fn a_network_and_its_parts_meet_in_one_object_and_neighbours_are_spread() {
        assert_eq!(
            object(group("2001:db8:1:2::3")),
            object(group("2001:db8:1:ffff::"))
        );
        let mut seen = std::collections::HashMap::new();
        for n in 0..1600u32 {
            let name = object(group(&format!("192.0.{}.{}", n / 256, n % 256)));
            *seen.entry(name).or_insert(0) += 1;
        }
        assert!(
            seen.len() == 16 && seen.values().all(|&n| n < 200),
            "{seen:?}"
        );
    }

    #[test]
    fn questions_and_answers_are_read_in_their_one_form() {
        assert_eq!(
            question("192.0.2.1 - 30/600"),
            Some(("192.0.2.1".parse().unwrap(), None, Pair(30, 600)))
        );
        for bad in [
            "",
            "192.0.2.1",
            "x - 30/600",
            "192.0.2.1 - 30",
            "192.0.2.1 y 30/600",
        ] {
            assert_eq!(question(bad), None, "{bad}");
        }
        assert_eq!(read("0"), Some(None));
        assert_eq!(read("5 wide"), Some(Some((Part::Wide, 5))));
        for bad in ["", "1", "x wide", "-1 wide", "1 other"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
