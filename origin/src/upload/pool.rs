//! Who is decoded when, and what a decoder that dies or hangs means: an error of that upload alone.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::cost::Cost;
use super::queue::{Queue, Room, Turn, Wish};
use super::worker::{ARGUMENT, NO_WALLS, Order, Reply};
use super::{Admitted, Isolation, Limits, SanitisedImage, UploadError, UploadSettings, sanitise};

/// How much longer than its processor time a decoder may take: it shares the processors with others.
const PATIENCE: u32 = 6;

/// All uploads of the service. Cheap to clone: the clones share one budget.
#[derive(Debug, Clone)]
pub struct Uploads {
    settings: Arc<UploadSettings>,
    program: Arc<PathBuf>,
    queue: Queue,
    /// Whose files these are, among whom turns are shared fairly; empty for the service's own.
    user: Arc<str>,
}

impl Uploads {
    /// # Errors
    /// Settings that cannot work, or a program that cannot be found, in words for the operator.
    pub fn new(settings: UploadSettings) -> Result<Self, String> {
        settings.validate()?;
        let program = match &settings.worker {
            Some(path) => path.clone(),
            None => std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?,
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = if settings.parallel == 0 {
            processors
        } else {
            settings.parallel as usize
        };
        Ok(Self {
            queue: Queue::new(Room {
                memory: u64::from(settings.memory_mib),
                large: settings.memory_for_large(),
                turns,
                waiting: u64::from(settings.memory_mib) << 19,
            }),
            user: "".into(),
            program: Arc::new(program),
            settings: Arc::new(settings),
        })
    }

    /// The same memory and turns, for pictures of other limits.
    ///
    /// # Errors
    /// Limits that cannot work.
    pub fn with_limits(&self, image: Limits) -> Result<Self, String> {
        let settings = UploadSettings {
            image,
            ..self.settings.as_ref().clone()
        };
        settings.validate()?;
        Ok(Self {
            settings: Arc::new(settings),
            ..self.clone()
        })
    }

    /// The same, for the files of this user.
    pub fn of(&self, user: &str) -> Self {
        Self {
            user: user.into(),
            ..self.clone()
        }
    }

    /// The settings in use.
    pub fn settings(&self) -> &UploadSettings {
        &self.settings
    }

    /// What a file is and asks for, from its header. What that rules out is refused here and now.
    ///
    /// # Errors
    /// The rule that the header breaks.
    pub fn look_at(&self, file: &[u8]) -> Result<Admitted, UploadError> {
        Admitted::read(file, &self.settings.image)
    }

    /// Turns an upload into a picture of our own making: [`Uploads::look_at`] and [`Uploads::draw`].
    ///
    /// # Errors
    /// Those of either.
    pub async fn sanitise(&self, file: Bytes) -> Result<SanitisedImage, UploadError> {
        let image = self.look_at(&file)?;
        self.draw(file, &image).await
    }

    /// Turns a file that was looked at into a picture of our own making, once it has its share of memory and its turn.
    ///
    /// # Errors
    /// The rule that the file breaks, or [`UploadError::Busy`].
    pub async fn draw(&self, file: Bytes, image: &Admitted) -> Result<SanitisedImage, UploadError> {
        let _turn = self.admit(image.cost, file.len()).await?;
        match self.settings.isolation {
            Isolation::Process => self.in_process(file, image).await,
            Isolation::Thread => self.in_thread(file).await,
        }
    }

    fn wish(&self, cost: Cost, bytes: usize) -> Wish<'_> {
        Wish {
            user: &self.user,
            memory: cost.memory.div_ceil(1 << 20),
            units: cost.units,
            bytes: bytes as u64,
        }
    }

    /// Waits for memory and a turn, while so many bytes of a file wait as well.
    pub(super) async fn admit(&self, cost: Cost, bytes: usize) -> Result<Turn, UploadError> {
        let wish = self.wish(cost, bytes);
        if wish.memory > u64::from(self.settings.memory_mib) {
            return Err(UploadError::Memory);
        }
        let wait = Duration::from_secs(self.settings.wait_seconds);
        match timeout(wait, self.queue.enter(wish)).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(UploadError::Busy {
                retry_after: self.settings.wait_seconds,
            }),
        }
    }

    fn process_time(&self) -> Duration {
        Duration::from_millis(self.settings.process_ms)
    }

    async fn in_process(
        &self,
        file: Bytes,
        image: &Admitted,
    ) -> Result<SanitisedImage, UploadError> {
        let limits = self.settings.image;
        let seconds = self.process_time().as_secs().max(1);
        let order = Order {
            limits,
            length: file.len(),
            memory: image.memory(),
            seconds,
            is_patient: !self.wish(image.cost, file.len()).is_small(),
        };
        let order = serde_json::to_string(&order).map_err(internal)?;
        let mut child = Command::new(self.program.as_path())
            .args([ARGUMENT, &order])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(internal)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(output)) = (input, output) else {
            return Err(UploadError::Internal("no pipes to the decoder".into()));
        };
        let talk = async {
            let send = async {
                // A decoder that ends before it has read all says why by its status.
                let _ = input.write_all(&file).await;
                drop(input);
            };
            let mut answer = Vec::new();
            let mut output = output.take(answer_limit(&limits));
            let ((), read) = tokio::join!(send, output.read_to_end(&mut answer));
            read?;
            // A decoder that would say more gets no ear, and ends.
            drop(output);
            Ok::<_, std::io::Error>((answer, child.wait().await?))
        };
        match timeout(self.process_time() * PATIENCE, talk).await {
            Ok(Ok((answer, status))) => judge(answer, status),
            Ok(Err(error)) => Err(internal(error)),
            Err(_) => Err(UploadError::Timeout),
        }
    }

    async fn in_thread(&self, file: Bytes) -> Result<SanitisedImage, UploadError> {
        let limits = self.settings.image;
        let work = tokio::task::spawn_blocking(move || sanitise(&file, &limits));
        match timeout(self.process_time() * PATIENCE, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(_panic)) => Err(UploadError::Damaged),
            Err(_) => Err(UploadError::Timeout),
        }
    }
}

/// No picture within the limits packs larger than this, and no decoder may answer more.
fn answer_limit(limits: &Limits) -> u64 {
    let side = u64::from(limits.max_side);
    side * side * 4 + side + (1 << 20)
}

fn judge(mut answer: Vec<u8>, status: ExitStatus) -> Result<SanitisedImage, UploadError> {
    if !status.success() {
        return Err(cause(status));
    }
    let odd = || UploadError::Internal("the decoder's answer is malformed".into());
    let end = answer
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or_else(odd)?;
    let head = answer.get(..end).ok_or_else(odd)?;
    let reply: Reply =
        serde_json::from_slice::<Result<Reply, UploadError>>(head).map_err(|_| odd())??;
    answer.drain(..=end);
    if answer.len() != reply.length {
        return Err(odd());
    }
    Ok(SanitisedImage {
        width: reply.size.0,
        height: reply.size.1,
        png: answer.into(),
    })
}

/// Why a decoder ended without an answer.
#[cfg(unix)]
fn cause(status: ExitStatus) -> UploadError {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(NO_WALLS) => {
            UploadError::Internal("the decoder's walls do not stand".into())
        }
        // Rust's panic.
        (Some(101), _) => UploadError::Damaged,
        (_, Some(libc::SIGXCPU)) => UploadError::Timeout,
        // Rust aborts when memory ends; the kernel kills when the machine's does.
        (_, Some(libc::SIGABRT | libc::SIGKILL)) => UploadError::Memory,
        (_, Some(_)) => UploadError::Damaged,
        _ => UploadError::Internal(format!("the decoder ended with {status}")),
    }
}

#[cfg(not(unix))]
fn cause(status: ExitStatus) -> UploadError {
    UploadError::Internal(format!("the decoder ended with {status}"))
}

fn internal(error: impl std::fmt::Display) -> UploadError {
    UploadError::Internal(error.to_string())
}
