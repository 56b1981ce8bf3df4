//! What Content Credentials cost: one JSON object a format, for a noisy picture of 512×512. `scripts/bench` runs it.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use origin::clock::Clock;
use origin::infer::{Format, Pixels, encode};
use origin::provenance::{Provenance, make};

const SIDE: usize = 512;
const TIMES: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let clock = Clock::System;
    let provenance = Provenance::new(&make(clock.seconds())?, &clock)?;
    let rgb = (0..SIDE * SIDE * 3).map(|n| (n * n / 7 % 251) as u8);
    let pixels = Pixels {
        width: SIDE,
        height: SIDE,
        rgb: rgb.collect(),
        seed: 0,
    };
    for format in [Format::Png, Format::Jpeg, Format::Webp] {
        let file = encode(&pixels, format)?;
        let (mut spans, mut marked) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let one = Instant::now();
            marked = provenance.mark(file.clone(), format, "model")?.len();
            spans.push(one.elapsed());
        }
        spans.sort();
        let median = spans.get(TIMES / 2).copied().unwrap_or_default();
        println!(
            "{}",
            serde_json::json!({
                "format": format.name(), "bytes": file.len(), "more": marked - file.len(),
                "ms": median.as_secs_f64() * 1000.0,
            })
        );
    }
    Ok(())
}
