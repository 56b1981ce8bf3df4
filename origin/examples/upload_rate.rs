//! What sanitising an upload costs: `upload_rate time FILE…` prints one JSON object a file (median milliseconds, mean
//! milliseconds of processor, bytes of the result), `upload_rate walled SIGNET FILE…` the same through the decoding
//! process, `upload_rate peak FILE` the most memory that one upload takes. `scripts/bench` runs them.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::{Duration, Instant};

use origin::upload::{Admitted, Limits, UploadSettings, Uploads, sanitise};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Each file is done so often, and for at least so long.
const TIMES: usize = 5;
const SPAN: Duration = Duration::from_millis(600);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["time", files @ ..] => files.iter().try_for_each(|file| inside(file)),
        ["walled", program, files @ ..] => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            files
                .iter()
                .try_for_each(|file| runtime.block_on(walled(program, file)))
        }
        ["peak", file] => peak(file),
        _ => Err("usage: upload_rate time FILE… | walled SIGNET FILE… | peak FILE".into()),
    }
}

fn told(file: &str, mut spans: Vec<Duration>, ticks: u64, outcome: &Result<usize, &'static str>) {
    let cpu = (processor().unwrap_or(0) - ticks) as f64 * 10.0 / spans.len().max(1) as f64;
    spans.sort();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    let (bytes, refused) = match outcome {
        Ok(bytes) => (Some(bytes), None),
        Err(code) => (None, Some(code)),
    };
    println!(
        "{}",
        serde_json::json!({ "file": file, "ms": median.as_secs_f64() * 1000.0, "cpu_ms": cpu, "bytes": bytes, "refused": refused })
    );
}

fn inside(file: &str) -> Result<(), Failure> {
    let bytes = std::fs::read(file)?;
    let limits = Limits::default();
    let (mut spans, begun, ticks) = (Vec::new(), Instant::now(), processor()?);
    loop {
        let one = Instant::now();
        let outcome = sanitise(&bytes, &limits);
        spans.push(one.elapsed());
        if spans.len() >= TIMES && begun.elapsed() > SPAN {
            let outcome = outcome.map(|image| image.png.len());
            told(file, spans, ticks, &outcome.map_err(|error| error.code()));
            return Ok(());
        }
    }
}

async fn walled(program: &str, file: &str) -> Result<(), Failure> {
    let bytes = bytes::Bytes::from(std::fs::read(file)?);
    let uploads = Uploads::new(UploadSettings {
        worker: Some(program.into()),
        process_ms: 60_000,
        ..UploadSettings::default()
    })?;
    let (mut spans, begun, ticks) = (Vec::new(), Instant::now(), processor()?);
    loop {
        let one = Instant::now();
        let outcome = uploads.sanitise(bytes.clone()).await;
        spans.push(one.elapsed());
        if spans.len() >= TIMES && begun.elapsed() > SPAN {
            let outcome = outcome.map(|image| image.png.len());
            told(file, spans, ticks, &outcome.map_err(|error| error.code()));
            return Ok(());
        }
    }
}

fn peak(file: &str) -> Result<(), Failure> {
    let before = most("VmSize:")?;
    let bytes = std::fs::read(file)?;
    let bound = Admitted::read(&bytes, &Limits::default())?.memory();
    let image = sanitise(&bytes, &Limits::default())?;
    println!(
        "{}",
        serde_json::json!({
            "file": file, "width": image.width, "height": image.height,
            "peak_mb": (most("VmPeak:")? - before) as f64 * 1.024 / 1000.0, "bound_mb": bound as f64 / 1e6,
        })
    );
    Ok(())
}

/// Processor time of this process and its ended children, in hundredths of a second.
fn processor() -> Result<u64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let times: Vec<u64> = fields.skip(11).take(4).flat_map(str::parse).collect();
    Ok(times.iter().sum())
}

/// Address space of this process in KiB, now (`VmSize:`) or at most so far (`VmPeak:`): the walls count memory when it is
/// asked for, not when it is touched.
fn most(which: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let text = line.and_then(|line| line.split_whitespace().next());
    Ok(text.unwrap_or("0").parse()?)
}
