//! Measures the engine alone and behind its queue: seconds a picture, the share of time outside
//! ONNX Runtime, pictures a second for so many users at once, resident memory.
//!
//! `cargo run --release -p origin --example engine_bench -- MODEL_FOLDER [STEPS] [PICTURES] [USERS…]`
//! prints one JSON object a line.

use origin::infer::{Engine, Settings};
use origin::schedule::{self, JobSpec, Observation, Queue};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let models = arguments.next().map(PathBuf::from).into_iter().collect();
    let mut numbers = arguments.filter_map(|text| text.parse::<usize>().ok());
    let (steps, pictures) = (numbers.next().unwrap_or(20), numbers.next().unwrap_or(20));
    let users: Vec<usize> = numbers.collect();
    let start = Instant::now();
    let engine = Arc::new(Engine::load(&Settings {
        models,
        ..Settings::default()
    })?);
    println!(
        "{}",
        json!({"load_seconds": start.elapsed().as_secs_f64(), "device": engine.device()})
    );
    alone(&engine, steps, pictures)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for count in users {
        runtime.block_on(together(&engine, steps, pictures, count))?;
    }
    Ok(())
}

fn spec(engine: &Engine, steps: usize, seed: u64) -> origin::infer::ImageSpec {
    let mut spec = engine
        .model("")
        .unwrap_or_else(|_| std::process::exit(2))
        .spec("a red apple", seed);
    spec.steps = steps;
    spec
}

/// One picture after the other, nobody else about.
fn alone(engine: &Engine, steps: usize, pictures: usize) -> Outcome {
    let go = |seed| {
        engine.generate(&spec(engine, steps, seed), &mut |_| {
            ControlFlow::Continue(())
        })
    };
    go(0)?;
    let before = engine.seconds();
    let mut seconds: Vec<f64> = Vec::new();
    for seed in 0..pictures as u64 {
        let start = Instant::now();
        go(seed)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let total: f64 = seconds.iter().sum();
    let after = engine.seconds();
    let spent: Vec<f64> = after
        .iter()
        .zip(before)
        .map(|(a, b)| (a - b) / pictures as f64)
        .collect();
    let inside: f64 = spent.iter().sum::<f64>() * pictures as f64;
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "mode": "alone", "steps": steps, "pictures": pictures,
            "seconds_a_picture": total / pictures as f64,
            "median": seconds.get(pictures / 2),
            "text_seconds": spent.first(), "denoise_seconds": spent.get(1), "decode_seconds": spent.get(2),
            "share_outside_runtime": 1.0 - inside / total,
            "resident_mib": resident_mib(),
        })
    );
    Ok(())
}

/// So many users, each asking for one picture after the other.
async fn together(engine: &Arc<Engine>, steps: usize, pictures: usize, users: usize) -> Outcome {
    let calls = Arc::new(AtomicU64::new(0));
    let rows = Arc::new(AtomicU64::new(0));
    let (calls_seen, rows_seen) = (Arc::clone(&calls), Arc::clone(&rows));
    let observer = Box::new(move |what| {
        if let Observation::Batch { slots } = what {
            calls_seen.fetch_add(1, Ordering::Relaxed);
            rows_seen.fetch_add(slots as u64, Ordering::Relaxed);
        }
    });
    let settings = schedule::Settings {
        longest_wait_seconds: 86_400,
        ..Default::default()
    };
    let queue = Queue::start(Arc::clone(engine), settings, observer)?;
    let each = pictures.div_ceil(users).max(1);
    let start = Instant::now();
    let mut tasks = Vec::new();
    for user in 0..users {
        let (queue, engine) = (queue.clone(), Arc::clone(engine));
        tasks.push(tokio::spawn(async move {
            let mut seconds = Vec::new();
            for i in 0..each {
                let image = spec(&engine, steps, (user * 1000 + i) as u64);
                let start = Instant::now();
                let job = queue.submit(
                    JobSpec {
                        image,
                        deadline: None,
                    },
                    &format!("user-{user}"),
                    1,
                );
                match job {
                    Ok(job) => job.outcome().await.map_err(|error| error.to_string())?,
                    Err(error) => return Err(error.to_string()),
                };
                seconds.push(start.elapsed().as_secs_f64());
            }
            Ok::<_, String>(seconds)
        }));
    }
    let mut seconds = Vec::new();
    let mut failed = 0;
    for task in tasks {
        match task.await? {
            Ok(mut some) => seconds.append(&mut some),
            Err(_) => failed += 1,
        }
    }
    let total = start.elapsed().as_secs_f64();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        seconds
            .get((seconds.len() as f64 * share) as usize)
            .copied()
    };
    println!(
        "{}",
        json!({
            "mode": "together", "users": users, "pictures": seconds.len(), "failed": failed,
            "pictures_a_second": seconds.len() as f64 / total,
            "median_seconds": at(0.5), "p95_seconds": at(0.95),
            "mean_rows_a_call": rows.load(Ordering::Relaxed) as f64 / calls.load(Ordering::Relaxed).max(1) as f64,
            "resident_mib": resident_mib(),
        })
    );
    Ok(())
}

/// Resident memory of this process, where the system tells.
fn resident_mib() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0 / 1_048_576.0)
}
