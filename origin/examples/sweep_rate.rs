//! How fast a sweep is and what memory it takes: `sweep_rate make DIR N` fills a folder store and its ledger,
//! `sweep_rate sweep DIR` sweeps them and prints one JSON object. `scripts/bench` runs both.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::time::Instant;

use origin::clock::Clock;
use origin::state::State;
use origin::state::images::ImageRow;
use origin::storage::{StorageSettings, Store};
use origin::sweep::{Sweep, SweepSettings};
use shared::object_key::ObjectKey;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pictures of one user: as many as 500 MB of small ones.
const EACH: u32 = 1000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    match words.as_slice() {
        ["make", folder, count] => runtime.block_on(make(Path::new(folder), count.parse()?)),
        ["sweep", folder] => runtime.block_on(sweep(Path::new(folder))),
        _ => Err("usage: sweep_rate make DIR N | sweep_rate sweep DIR".into()),
    }
}

async fn make(folder: &Path, count: u32) -> Result<(), Failure> {
    let state = State::open(&folder.join("state.sqlite"))?;
    let now = Clock::System.seconds();
    for user in 0..count.div_ceil(EACH) {
        let below = folder.join(format!("objects/generated/user-{user:06}"));
        std::fs::create_dir_all(&below)?;
        let mut rows = Vec::new();
        for n in 0..EACH.min(count - user * EACH) {
            let id = format!("01a206a6-04f2-7cb5-{user:04x}-{n:012x}");
            let key = format!("generated/user-{user:06}/{id}.png");
            std::fs::write(folder.join("objects").join(&key), b"0123456789")?;
            rows.push(ImageRow {
                id,
                user_id: format!("user-{user:06}"),
                key: ObjectKey::parse(&key).map_err(|error| error.to_string())?,
                width: 1,
                height: 1,
                format: "png".into(),
                bytes: 10,
                seed: 0,
                model: String::new(),
                job_id: None,
                created: now,
                expires: Some(now + 30 * 24 * 3600),
            });
        }
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        state.reserve_images(rows, u64::MAX >> 1).await?;
        state.commit_images(ids).await?;
    }
    Ok(())
}

async fn sweep(folder: &Path) -> Result<(), Failure> {
    let settings = StorageSettings {
        folder: folder.join("objects"),
        ..StorageSettings::default()
    };
    let sweep = Sweep {
        store: Store::open(&settings).await?,
        state: State::open(&folder.join("state.sqlite"))?,
        clock: Clock::System,
        settings: SweepSettings::default(),
        dry_run: false,
        cursor_file: Some(folder.join("cursor")),
    };
    let begun = Instant::now();
    let report = sweep.run(|_| ()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0);
    let clean = report.orphans + report.missing + report.expired + report.foreign == 0;
    println!(
        "{}",
        serde_json::json!({
            "objects": report.objects, "seconds": seconds, "per_second": report.objects as f64 / seconds,
            "peak_mb": peak as f64 / 1000.0 * 1.024, "clean": clean,
        })
    );
    Ok(())
}
