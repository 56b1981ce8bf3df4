//! The decoding process: this same program, started with [`ARGUMENT`], for one upload.
//!
//! The order comes as an argument, the file on standard input; the answer goes to standard output
//! as one line of JSON, followed by the picture. What goes wrong shows in the exit status.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::{Limits, UploadError, sanitise};

/// First argument of the decoding process. No command of the command line has this name.
pub const ARGUMENT: &str = "sanitise-worker";

/// Exit status when the walls do not stand.
pub const NO_WALLS: u8 = 70;

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The limits of the picture.
    pub limits: Limits,
    /// Size of the file in bytes.
    pub length: usize,
    /// Memory it may take, in bytes.
    pub memory: u64,
    /// Processor time it may take, in seconds.
    pub seconds: u64,
    /// Whether others go first at the processors: a small file's decoder, and the service itself.
    #[serde(default)]
    pub is_patient: bool,
}

/// How far a patient decoder steps back (nice(2)): beside one that does not it gets half as much. Further back it would
/// starve beside an engine that keeps all processors busy.
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 3;

/// What it answers before the picture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Size of the picture's file in bytes.
    pub length: usize,
}

/// Does the work when this process was started for it; `main` calls this before anything else.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let order = arguments
        .next()
        .and_then(|text| serde_json::from_str(&text).ok());
    Some(match order {
        Some(order) => run(&order),
        None => ExitCode::from(64),
    })
}

fn run(order: &Order) -> ExitCode {
    #[cfg(target_os = "linux")]
    if order.is_patient {
        // Refused, it is as quick as the others.
        let _ = rustix::process::nice(STEP_BACK);
    }
    #[cfg(target_os = "linux")]
    if super::wall::raise(order.memory, order.seconds).is_err() {
        return ExitCode::from(NO_WALLS);
    }
    match answer(order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(order: &Order) -> std::io::Result<()> {
    let mut file = Vec::with_capacity(order.length);
    std::io::stdin()
        .lock()
        .take(order.length as u64)
        .read_to_end(&mut file)?;
    let done = sanitise(&file, &order.limits);
    drop(file);
    let (reply, picture) = match done {
        Ok(image) => {
            let reply = Reply {
                size: (image.width, image.height),
                length: image.png.len(),
            };
            (Ok(reply), image.png)
        }
        Err(error) => (Err::<Reply, UploadError>(error), bytes::Bytes::new()),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    // The raw descriptor: standard output's own buffer would be one more copy.
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.write_all(&picture)?;
    out.flush()
}
