//! Measures the engine alone and behind its queue: seconds a picture, the share of time outside
//! ONNX Runtime, pictures a second for so many users at once, resident memory.
//!
//! `engine_bench MODEL_FOLDER [STEPS] [PICTURES] [USERS…]` measures one after the other, then so many
//! users at once; `engine_bench one MODEL_FOLDER STEPS PICTURES USERS…` the users with one picture a
//! call; `engine_bench soak MODEL_FOLDER STEPS PICTURES` makes pictures of many kinds by many users
//! and tells the resident memory after a tenth of them and after all; `engine_bench parity
//! MODEL_FOLDER STEPS` makes one picture on the CPU and one on the device and tells how far latents
//! and pictures are apart. The environment's `SIGNET_BENCH_SIDE` asks for another size,
//! `SIGNET_BENCH_GUIDANCE` for another guidance scale, `SIGNET_BENCH_N` for so many pictures a
//! request, `SIGNET_BENCH_DEVICE=cuda` for a GPU, `SIGNET_BENCH_LATENTS=device` or `host` for where latents lie between
//! steps, `SIGNET_BENCH_GRAPHS=0` for no CUDA graphs; `SIGNET_BENCH_OVERLAP=1` or `0` has the text encoder and the decoder
//! run beside the denoiser or take turns with it, whatever the device. Prints one JSON object a line.

use origin::infer::{
    BatchKey, Device, Draft, Engine, ImageSpec, InferError, Latents, Pixels, Row, Settings,
};
use origin::schedule::{self, Facts, JobSpec, Observation, Queue, Work};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1).peekable();
    let mode = arguments.next_if(|word| ["one", "soak", "parity"].contains(&word.as_str()));
    let models: Vec<PathBuf> = arguments.next().map(PathBuf::from).into_iter().collect();
    let mut numbers = arguments.filter_map(|text| text.parse::<usize>().ok());
    let (steps, pictures) = (numbers.next().unwrap_or(20), numbers.next().unwrap_or(20));
    let users: Vec<usize> = numbers.collect();
    let start = Instant::now();
    let device = match variable("DEVICE").as_deref() {
        Some("cuda") => Device::Cuda,
        _ => Device::Cpu,
    };
    let latents = match variable("LATENTS").as_deref() {
        Some("device") => Latents::Device,
        Some("host") => Latents::Host,
        _ => Latents::Auto,
    };
    let settings = Settings {
        models,
        device,
        latents,
        cuda_graphs: variable("GRAPHS").as_deref() != Some("0"),
        ..Settings::default()
    };
    let engine = Arc::new(Engine::load(&settings)?);
    if mode.as_deref() == Some("parity") {
        let cpu = Settings {
            device: Device::Cpu,
            ..settings
        };
        return parity(&Engine::load(&cpu)?, &engine, steps);
    }
    println!(
        "{}",
        json!({"load_seconds": start.elapsed().as_secs_f64(), "device": engine.device()})
    );
    let is_plain = mode.is_none();
    if is_plain {
        alone(&engine, steps, pictures)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    if mode.as_deref() == Some("soak") {
        return runtime.block_on(soak(&engine, steps, pictures));
    }
    for count in users {
        runtime.block_on(together(&engine, steps, pictures, count, is_plain))?;
    }
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark has no configuration"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(format!("SIGNET_BENCH_{name}")).ok()
}

/// A prompt that no other picture has: those that were encoded already cost nothing.
fn spec(engine: &Engine, steps: usize, seed: u64) -> origin::infer::ImageSpec {
    let mut spec = engine
        .model("")
        .unwrap_or_else(|_| std::process::exit(2))
        .spec(&format!("a red apple {seed}"), seed);
    spec.steps = steps;
    let number = |name| variable(name).and_then(|text| text.parse::<f32>().ok());
    if let Some(side) = number("SIDE") {
        (spec.width, spec.height) = (side as usize, side as usize);
    }
    spec.n = number("N").map_or(1, |n| n as usize);
    spec.guidance_scale = number("GUIDANCE").unwrap_or(spec.guidance_scale);
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
    let each = spec(engine, steps, 0).n;
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
            "pictures_a_request": each, "seconds_a_picture": total / (pictures * each) as f64,
            "median": seconds.get(pictures / 2),
            "text_seconds": spent.first(), "denoise_seconds": spent.get(1), "decode_seconds": spent.get(2),
            "share_outside_runtime": 1.0 - inside / total,
            "resident_mib": resident_mib(),
        })
    );
    Ok(())
}

/// The engine, with its stages laid side by side or one after the other as the environment says.
struct Laid {
    engine: Arc<Engine>,
    overlaps: bool,
}

impl Laid {
    fn new(engine: &Arc<Engine>) -> Self {
        let overlaps = match variable("OVERLAP").as_deref() {
            Some("1") => true,
            Some("0") => false,
            _ => engine.overlaps(),
        };
        let engine = Arc::clone(engine);
        Self { engine, overlaps }
    }
}

impl Work for Laid {
    type Row = Row;
    type Key = BatchKey;
    type Draft = Draft;

    fn overlaps(&self) -> bool {
        self.overlaps
    }

    fn prepare(&self, spec: &ImageSpec) {
        self.engine.prepare(spec);
    }

    fn is_ready(&self, spec: &ImageSpec) -> bool {
        self.engine.is_ready(spec)
    }

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Row>, InferError> {
        self.engine.rows(spec)
    }

    fn step(&self, rows: &mut [&mut Row], max_slots: usize) -> Vec<Result<(), InferError>> {
        self.engine.step(rows, max_slots)
    }

    fn decode(&self, row: &Row) -> Result<Pixels, InferError> {
        self.engine.decode(row)
    }

    fn want_preview(&self, row: &mut Row) {
        row.want_preview();
    }

    fn draft(&self, row: &mut Row) -> Option<Draft> {
        self.engine.draft(row)
    }

    fn draw(&self, draft: &Draft) -> Option<Pixels> {
        self.engine.draw(draft)
    }

    fn facts(row: &Row) -> Facts<BatchKey> {
        Engine::facts(row)
    }

    fn rehearsal(&self) -> Option<ImageSpec> {
        self.engine.rehearsal()
    }
}

/// So many users, each asking for one picture after the other; `batched`, or one picture a call.
async fn together(
    engine: &Arc<Engine>,
    steps: usize,
    pictures: usize,
    users: usize,
    batched: bool,
) -> Outcome {
    let calls = Arc::new(AtomicU64::new(0));
    let rows = Arc::new(AtomicU64::new(0));
    let (calls_seen, rows_seen) = (Arc::clone(&calls), Arc::clone(&rows));
    let observer = Box::new(move |what| {
        if let Observation::Batch { slots } = what {
            calls_seen.fetch_add(1, Ordering::Relaxed);
            rows_seen.fetch_add(slots as u64, Ordering::Relaxed);
        }
    });
    let defaults = schedule::Settings::default();
    // One picture takes two rows with guidance, which stay together.
    let settings = schedule::Settings {
        longest_wait_seconds: 86_400,
        max_batch: if batched { defaults.max_batch } else { 1 },
        ..defaults
    };
    let queue = Queue::start(Arc::new(Laid::new(engine)), settings, observer)?;
    let inside = engine.seconds();
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
            "mode": if batched { "together" } else { "one" }, "overlaps": Laid::new(engine).overlaps(), "users": users, "pictures": seconds.len(), "failed": failed,
            "pictures_a_second": seconds.len() as f64 / total,
            "median_seconds": at(0.5), "p95_seconds": at(0.95),
            "share_inside_runtime": engine.seconds().iter().zip(inside).map(|(a, b)| a - b).sum::<f64>() / total,
            "mean_rows_a_call": rows.load(Ordering::Relaxed) as f64 / calls.load(Ordering::Relaxed).max(1) as f64,
            "resident_mib": resident_mib(),
        })
    );
    Ok(())
}

/// The same picture on two devices: latents after every step, and the picture.
fn parity(one: &Engine, other: &Engine, steps: usize) -> Outcome {
    let first = |engine: &Engine| -> Result<_, Box<dyn std::error::Error>> {
        let rows = engine.rows(&spec(engine, steps, 5))?;
        rows.into_iter().next().ok_or_else(|| "no row".into())
    };
    let (mut a, mut b) = (first(one)?, first(other)?);
    let mut latents = 0.0f32;
    while !a.is_finished() {
        for (engine, row) in [(one, &mut a), (other, &mut b)] {
            engine
                .step(&mut [row], 2)
                .into_iter()
                .collect::<Result<(), _>>()?;
        }
        let apart = a.look()?.iter().zip(b.look()?);
        latents = apart.map(|(x, y)| (x - y).abs()).fold(latents, f32::max);
    }
    let (a, b) = (one.decode(&a)?, other.decode(&b)?);
    let apart = a.rgb.iter().zip(&b.rgb).map(|(x, y)| x.abs_diff(*y));
    println!(
        "{}",
        json!({
            "mode": "parity", "devices": [one.device(), other.device()], "steps": steps,
            "latents_apart": latents, "grey_levels_apart": apart.max(),
        })
    );
    Ok(())
}

/// Pictures of many kinds by sixteen users, and the resident memory on the way.
async fn soak(engine: &Arc<Engine>, steps: usize, pictures: usize) -> Outcome {
    let settings = schedule::Settings {
        longest_wait_seconds: 86_400,
        ..Default::default()
    };
    let queue = Queue::start(Arc::clone(engine), settings, Box::new(|_| {}))?;
    let info = engine.model("")?;
    let mut early = None;
    let mut made = 0;
    while made < pictures {
        let mut jobs = Vec::new();
        for i in made..(made + 32).min(pictures) {
            let mut image = spec(engine, steps + i % 3, i as u64);
            let (prompt, guidance) = match i % 3 {
                0 => ("a red apple", 1.0),
                1 => ("the heart", 3.0),
                _ => ("", 7.5),
            };
            image.prompt = format!("{prompt} number {i}");
            image.guidance_scale = guidance;
            image.width = if i % 4 == 0 {
                info.min_side
            } else {
                info.width
            };
            let job = JobSpec {
                image,
                deadline: None,
            };
            jobs.push(queue.submit(job, &format!("user-{}", i % 16), 1)?);
        }
        made += jobs.len();
        for job in jobs {
            job.outcome().await?;
        }
        if made >= pictures / 10 && early.is_none() {
            early = resident_mib().map(|mib| (made, mib));
        }
    }
    let (after, before) = early.ok_or("the system does not tell the resident memory")?;
    let now = resident_mib().ok_or("the system does not tell the resident memory")?;
    println!(
        "{}",
        json!({
            "mode": "soak", "after": after, "resident_mib": before,
            "pictures": made, "resident_mib_then": now, "growth": now / before - 1.0,
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
