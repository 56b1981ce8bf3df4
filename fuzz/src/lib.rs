//! A mutation runner on the stable toolchain: takes seeds, changes them as attackers and careless proxies do, and
//! hands each result to a target, which panics when one of its promises is broken. No coverage guidance: the seeds
//! (the test vectors) already reach every branch, and a run is repeatable from its number.

use std::time::{Duration, Instant};

/// What proxies, decoders and tired eyes take for one another; inserted anywhere.
const PIECES: [&str; 24] = [
    "//", "/./", "/../", "%2F", "%2f", "%0A", "%00", "%25", "&&", "?", "#", "&exp=9", "&sig=", "=",
    "==", "\\", "@", ":", "\r\n", "\u{0430}", "\u{ff0f}", "\u{ff0e}", "*.", "\"",
];

/// xorshift64*: small, repeatable, good enough to pick places.
pub struct Dice(u64);

impl Dice {
    /// The same number gives the same run.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        usize::try_from(number)
            .unwrap_or(0)
            .checked_rem(limit)
            .unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// One to four changes of `text`; `other` gives pieces to splice in. The result is text again, since every target
/// takes what a server has already read as text.
pub fn mutate(text: &str, other: &str, dice: &mut Dice) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + 1 + dice.below(8)).min(bytes.len());
        match dice.below(9) {
            0 => bytes.insert(at, u8::try_from(dice.below(128)).unwrap_or(0)),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x20;
                }
            }
            5 => {
                let piece = dice.pick(&PIECES).copied().unwrap_or_default();
                bytes.splice(at..at, piece.bytes());
            }
            6 => {
                let again: Vec<u8> = bytes.get(at.min(end)..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, again);
            }
            7 => {
                if let Some(&byte) = bytes.get(at) {
                    bytes.splice(at..=at, format!("%{byte:02X}").bytes());
                }
            }
            _ => {
                let from = dice.below(other.len() + 1);
                let piece = other
                    .as_bytes()
                    .get(from..(from + 24).min(other.len()))
                    .unwrap_or_default();
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text vectors of tests/vectors/links.json, as JSON values.
///
/// # Errors
/// A sentence when the file cannot be read.
pub fn vectors() -> Result<Vec<serde_json::Value>, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/links.json");
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))
}

/// Runs a target for `--seconds N` (default 5) from run number `--seed N` (default 1) and says how often it ran.
/// A target returns the promise that `input` broke, if any; a panic is a finding too.
///
/// # Errors
/// The finding, with the input and the number that repeats the run.
pub fn run(
    name: &str,
    seeds: &[String],
    mut target: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |wanted: &str, default: u64| {
        arguments
            .iter()
            .position(|argument| argument == wanted)
            .map_or(Ok(default), |at| {
                let value = arguments
                    .get(at + 1)
                    .map(String::as_str)
                    .unwrap_or_default();
                value
                    .parse()
                    .map_err(|_| format!("{wanted} wants a number, not {value:?}"))
            })
    };
    let (seconds, number) = (option("--seconds", 5)?, option("--seed", 1)?);
    let mut dice = Dice::new(number);
    let tell = |input: &str, promise: &str| {
        format!("{name}: {promise}\n  input {input:?}\n  repeat with --seed {number}")
    };
    for seed in seeds {
        target(seed).map_err(|promise| tell(seed, &promise))?;
    }
    let (start, mut runs) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1_000 {
            let (Some(one), Some(other)) = (dice.pick(seeds), dice.pick(seeds)) else {
                return Err(format!("{name}: no seeds"));
            };
            let input = mutate(one, other, &mut dice);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
            caught
                .unwrap_or_else(|_| Err("it panicked".into()))
                .map_err(|promise| tell(&input, &promise))?;
            runs += 1;
        }
    }
    println!("{name}: {runs} inputs in {seconds} s, none broke a promise");
    Ok(())
}
