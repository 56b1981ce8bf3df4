//! Measures on a real model what admission and fairness promise: by how much one user's flood
//! delays another's single job, and whether `Retry-After` is the truth.
//!
//! `fair_bench MODEL_FOLDER [STEPS] [ROUNDS]`. Prints one JSON object a line.

use origin::infer::{Device, Engine, ImageSpec, InferError, Settings};
use origin::schedule::{self, JobSpec, Observation, Queue, QueueError};
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Rows and duration of each call of the denoiser.
type Calls = Arc<Mutex<Vec<(usize, Duration)>>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let mut numbers = arguments.filter_map(|text| text.parse::<usize>().ok());
    let (steps, rounds) = (numbers.next().unwrap_or(20), numbers.next().unwrap_or(5));
    let settings = Settings {
        models: folder.into_iter().collect(),
        device: Device::Cpu,
        ..Settings::default()
    };
    let engine = Arc::new(Engine::load(&settings)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for round in 0..rounds {
        runtime.block_on(flood(&engine, steps, round))?;
    }
    for users in [2, 4] {
        runtime.block_on(retries(&engine, steps, users, rounds))?;
    }
    Ok(())
}

fn wish(engine: &Engine, steps: usize, seed: usize) -> Result<JobSpec, InferError> {
    let info = engine.model("")?;
    Ok(JobSpec {
        image: ImageSpec {
            steps,
            ..info.spec(&format!("a red apple {seed}"), seed as u64)
        },
        deadline: None,
    })
}

fn queue(engine: &Arc<Engine>, longest: u64) -> std::io::Result<(Queue, Calls)> {
    let calls = Calls::default();
    let (seen, rows) = (Arc::clone(&calls), Mutex::new(0));
    let observer = Box::new(move |what| {
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Observation::Batch { slots } => *rows = slots,
            Observation::Stage {
                stage: "denoise",
                took,
            } => seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((*rows, took)),
            _ => {}
        }
    });
    let settings = schedule::Settings {
        depth: 4096,
        longest_wait_seconds: longest,
        ..schedule::Settings::default()
    };
    let queue = Queue::start(Arc::clone(engine), settings, observer)?;
    Ok((queue, calls))
}

/// One user asks for 200 pictures, another for one in the midst of them.
async fn flood(engine: &Arc<Engine>, steps: usize, round: usize) -> Outcome {
    let (queue, calls) = queue(engine, 86_400)?;
    let ends: Arc<Mutex<Vec<(Instant, Duration)>>> = Arc::default();
    let mut tasks = Vec::new();
    for i in 0..200 {
        let job = queue.submit(wish(engine, steps, i)?, "flood", 1)?;
        let ends = Arc::clone(&ends);
        tasks.push(tokio::spawn(async move {
            if let Ok(done) = job.outcome().await {
                let end = (Instant::now(), done.ran);
                ends.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(end);
            }
        }));
    }
    // Somewhere in the midst of a call, once all rows are at different steps.
    tokio::time::sleep(Duration::from_millis(6000 + 170 * round as u64)).await;
    let before = calls.lock().unwrap_or_else(PoisonError::into_inner).len();
    let begun = Instant::now();
    let one = queue.submit(wish(engine, steps, 1000)?, "one", 1)?;
    one.outcome().await?;
    let took = begun.elapsed().as_secs_f64();
    let meanwhile: Vec<(usize, Duration)> = {
        let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().skip(before).copied().collect()
    };
    let count = meanwhile.len().max(1) as f64;
    let a_step = meanwhile
        .iter()
        .map(|(_, took)| took.as_secs_f64())
        .sum::<f64>()
        / count;
    // What a job takes in these calls: those of the flood that ran at the same time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut own: Vec<f64> = {
        let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        let beside = ends.iter().filter(|(end, _)| *end > begun);
        beside.map(|(_, ran)| ran.as_secs_f64()).collect()
    };
    own.sort_by(f64::total_cmp);
    let own = own.get(own.len() / 2).copied().unwrap_or(0.0);
    let row = json!({
        "mode": "flood", "seconds": took, "seconds_of_the_floods_jobs": own, "step_seconds": a_step,
        "steps_late": (took - own) / a_step,
        "rows_a_call": meanwhile.iter().map(|(rows, _)| *rows as f64).sum::<f64>() / count,
    });
    println!("{row}");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    queue.stop(Duration::from_secs(30)).await;
    Ok(())
}

/// Users fill the queue, then one who asks for much is told to come back, and asks until it is taken.
async fn retries(engine: &Arc<Engine>, steps: usize, users: usize, rounds: usize) -> Outcome {
    let longest = 12;
    let (queue, _) = queue(engine, longest)?;
    let mut jobs = Vec::new();
    let mut seed = 0;
    for round in 0..rounds {
        // As much as is admitted of each; the rate of full calls must be known first.
        for fill in [false, true] {
            for user in 0..users {
                for _ in 0..if fill { 400 } else { 12 } {
                    seed += 1;
                    let wish = wish(engine, steps, seed)?;
                    match queue.submit(wish, &format!("user-{user}"), 1) {
                        Ok(job) => jobs.push(job),
                        Err(_) => break,
                    }
                }
            }
            if !fill && round == 0 {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
        seed += 1;
        let mut large = wish(engine, 100, seed)?;
        large.image.n = 4;
        let begun = Instant::now();
        let mut told = None;
        loop {
            match queue.submit(large.clone(), &format!("late-{round}"), 1) {
                Ok(job) => break jobs.push(job),
                Err(QueueError::Busy { retry_after }) => {
                    told.get_or_insert(retry_after.as_secs_f64());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let truth = begun.elapsed().as_secs_f64();
        let row = json!({
            "mode": "retry", "users": users, "round": round, "told_seconds": told, "true_seconds": truth,
        });
        println!("{row}");
    }
    drop(jobs);
    queue.stop(Duration::from_secs(30)).await;
    Ok(())
}
