//! What signing and verifying a link cost, beside HS256 tokens of the crate jsonwebtoken that say the same. Alternating
//! rounds; prints nanoseconds a call, median and 99th percentile over rounds of 100 calls.
//!
//!     cargo run --release -p shared --example link_cost
#![allow(clippy::disallowed_methods, reason = "a benchmark asks the clock")]

use std::hint::black_box;
use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use shared::keyring::Keyring;
use shared::link::{SignRequest, UnverifiedLink};
use shared::object_key::ObjectKey;

const ROUNDS: usize = 5_000;
const CALLS: u32 = 100;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

/// What is measured, and its name.
type Work<'a> = (&'a str, Box<dyn FnMut() + 'a>);

fn time(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        work();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = [7u8; 32];
    let ring = Keyring::parse(&format!("k1:{}", STANDARD.encode(secret)))?;
    let key = ObjectKey::parse("generated/usr_1/0190a5d0-ac96-774b-bcce-b302099a8057.png")?;
    // jsonwebtoken reads the clock itself, so the common end lies in the real future.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let request = SignRequest {
        key: &key,
        exp: now + 3600,
        dl: None,
        ep: 0,
        ip: None,
    };
    let link = request.sign(&ring, now)?;
    let tampered = link
        .replace("sig=", "sig=A")
        .get(..link.len())
        .unwrap_or_default()
        .to_owned();

    let (encoding, decoding) = (
        EncodingKey::from_secret(&secret),
        DecodingKey::from_secret(&secret),
    );
    let (header, validation) = (
        Header::new(Algorithm::HS256),
        Validation::new(Algorithm::HS256),
    );
    let claims = Claims {
        sub: key.as_str().into(),
        exp: now + 3600,
    };
    let token = jsonwebtoken::encode(&header, &claims, &encoding)?;

    let opens = |target: &str| {
        UnverifiedLink::parse(target).is_ok_and(|it| it.verify(&ring, now, None).is_ok())
    };
    let decodes = || jsonwebtoken::decode::<Claims>(&token, &decoding, &validation).is_ok();
    if !opens(&link) || opens(&tampered) || !decodes() {
        return Err("the benchmark's own inputs are wrong".into());
    }

    let mut works: [Work<'_>; 5] = [
        (
            "link: sign",
            Box::new(|| drop(black_box(request.sign(&ring, now)))),
        ),
        (
            "link: parse and verify",
            Box::new(|| {
                black_box(opens(black_box(&link)));
            }),
        ),
        (
            "link: parse and refuse",
            Box::new(|| {
                black_box(opens(black_box(&tampered)));
            }),
        ),
        (
            "jsonwebtoken HS256: sign",
            Box::new(|| drop(black_box(jsonwebtoken::encode(&header, &claims, &encoding)))),
        ),
        (
            "jsonwebtoken HS256: verify",
            Box::new(|| {
                black_box(decodes());
            }),
        ),
    ];
    let mut samples: Vec<Vec<f64>> = vec![Vec::with_capacity(ROUNDS); works.len()];
    for _ in 0..ROUNDS {
        for ((_, work), sample) in works.iter_mut().zip(&mut samples) {
            sample.push(time(work));
        }
    }
    println!("| | p50 | p99 |\n|---|--:|--:|");
    for ((name, _), sample) in works.iter().zip(&mut samples) {
        sample.sort_by(f64::total_cmp);
        let at = |share: usize| {
            sample
                .get(sample.len() * share / 100)
                .copied()
                .unwrap_or(f64::NAN)
        };
        println!("| {name} | {:.0} | {:.0} |", at(50), at(99));
    }
    Ok(())
}
