//! What must survive a restart: one SQLite file, owned by one thread; with `state.url` a copy that all origins share
//! ([`replica`]).
//!
//! Every operation is one transaction, sent to the thread over a bounded channel, so that no async thread ever waits
//! for the disk. Operations that wait at the same time share one commit ([`worker`]). A picture's row, and the bytes it
//! counts, are written before its object ([`images`]).

pub mod audit;
pub mod charges;
pub mod clients;
mod erasing;
mod error;
mod identities;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod living;
mod provider_spends;
pub mod refresh;
mod replica;
pub mod revocations;
mod schema;
pub(crate) mod server;
pub mod sessions;
pub mod spends;
pub mod standing;
pub mod sweeping;
mod truncations;
pub mod users;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use error::StateError;
use replica::Replica;
use worker::Work;

use crate::secret::Secret;

/// Operations that may wait for the thread; more wait outside.
const QUEUE: usize = 1024;

/// How often a copy asks for what others wrote when nothing else makes it.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// The section `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateSettings {
    /// The SQLite file. Its folder is created with mode 700, the file with mode 600.
    pub file: PathBuf,
    /// `redis://host:port/db`: state and limits are shared there by every origin that names it; `file` is a copy then.
    /// A database of its own for each deployment. Empty: limits in memory, state in `file` alone.
    pub url: String,
    /// The password at `url`, from `SIGNET_STATE__PASSWORD` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Milliseconds after which `url` counts as away, and each origin keeps state and limits by itself.
    pub timeout_ms: u64,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            file: PathBuf::from("data/signet.sqlite"),
            url: String::new(),
            password: None,
            password_file: None,
            timeout_ms: 250,
        }
    }
}

impl StateSettings {
    /// For tests: what names a server, where a busy machine must not look like a server that is away.
    #[cfg(test)]
    pub(crate) fn at(url: String) -> Self {
        Self {
            url,
            timeout_ms: 2_000,
            ..Self::default()
        }
    }

    /// A client of `url`.
    ///
    /// # Errors
    /// It is no address.
    pub(crate) fn redis(&self) -> Result<redis::Client, redis::RedisError> {
        use redis::IntoConnectionInfo;
        let mut info = self.url.as_str().into_connection_info()?;
        if let Some(password) = self.given_password().map_err(std::io::Error::other)? {
            let settings = info
                .redis_settings()
                .clone()
                .set_password(password.expose());
            info = info.set_redis_settings(settings);
        }
        redis::Client::open(info)
    }

    fn given_password(&self) -> Result<Option<Secret>, String> {
        let file = self.password_file.as_deref();
        Secret::given("state.password", self.password.as_ref(), file)
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        self.given_password()?;
        let schemes = ["redis://", "redis+unix://", "unix://"];
        if !self.url.is_empty() && !schemes.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err("state.url is no redis:// address".into());
        }
        if self.url.contains('@') {
            return Err("state.url holds a password; it belongs in SIGNET_STATE__PASSWORD".into());
        }
        if !(10..=10_000).contains(&self.timeout_ms) {
            return Err(format!(
                "state.timeout_ms is {}; it must be 10 to 10000",
                self.timeout_ms
            ));
        }
        Ok(())
    }
}

/// The state. Cheap to clone; the thread ends when the last clone is gone.
#[derive(Clone)]
pub struct State {
    work: mpsc::Sender<Work>,
    /// This process, in rows that belong to it.
    me: Arc<str>,
    is_shared: bool,
    /// Set while the shared state is away.
    is_away: Arc<AtomicBool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl State {
    /// Opens or creates the file alone and brings its tables up to date.
    ///
    /// # Errors
    /// [`StateError`] that names the file: not writable, damaged, made by a newer version.
    pub fn open(file: &Path) -> Result<Self, StateError> {
        let settings = StateSettings {
            file: file.into(),
            ..StateSettings::default()
        };
        Self::of(&settings)
    }

    /// Opens or creates what the settings name, and joins the shared state where they name one.
    ///
    /// # Errors
    /// As [`State::open`]; [`StateError::Foreign`] when the file belongs to another shared state.
    pub fn of(settings: &StateSettings) -> Result<Self, StateError> {
        let file = &settings.file;
        let at = |error: StateError| error.at(file);
        create_private(file).map_err(|error| at(StateError::Io(error.to_string())))?;
        let mut connection = Connection::open(file).map_err(|error| at(error.into()))?;
        schema::prepare(&mut connection).map_err(at)?;
        let is_away = Arc::new(AtomicBool::new(false));
        let replica = if settings.url.is_empty() {
            if replica::is_copy(&connection).map_err(at)? {
                return Err(at(StateError::Foreign(
                    "this file is a copy of what is at state.url, which is not set; `signet state leave` makes it a state of its own"
                        .into(),
                )));
            }
            None
        } else {
            Some(Replica::join(&mut connection, settings, &is_away).map_err(at)?)
        };
        let (work, waiting) = mpsc::channel::<Work>(QUEUE);
        let is_shared = replica.is_some();
        if is_shared {
            follow(work.downgrade()).map_err(at)?;
        }
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || worker::run(&mut connection, replica, waiting))
            .map_err(|error| at(StateError::Io(error.to_string())))?;
        let me = format!("{:032x}", rand::random::<u128>()).into();
        Ok(Self {
            work,
            me,
            is_shared,
            is_away,
        })
    }

    /// The name of this process among those that share the state. It is another one after every start.
    pub(crate) fn me(&self) -> Arc<str> {
        Arc::clone(&self.me)
    }

    /// Whether the shared state was away at the last transaction: what others did since is unknown.
    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    /// Whether other origins may share this state.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Makes a copy of a shared state one of its own. No other process may use the file.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn leave(file: &Path) -> Result<(), StateError> {
        let leave = || replica::leave(&Connection::open(file)?);
        leave().map_err(|error| error.at(file))
    }

    /// Runs `work` in one transaction on the state's thread: all of it is kept, or none. It may be run again when
    /// another origin was first, so it must do nothing but read and write the state; its statements must mean the same
    /// on every copy.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction<'_>) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        // Nobody waits any more when the request was dropped; the transaction stands all the same.
        let job = worker::work(work, move |done| drop(answer.send(done)));
        self.work.send(job).await.map_err(|_| StateError::Closed)?;
        answered.await.map_err(|_| StateError::Closed)?
    }

    /// Runs `work` like [`State::transact`], in order with it, without waiting; a failure is logged.
    pub(crate) fn post(
        &self,
        work: impl FnMut(&Transaction<'_>) -> Result<(), StateError> + Send + 'static,
    ) {
        let job = worker::work(work, |done| {
            if let Err(error) = done {
                tracing::error!(code = error.code(), %error, "state failed");
            }
        });
        if let Err(mpsc::error::TrySendError::Full(job)) = self.work.try_send(job)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let work = self.work.clone();
            runtime.spawn(async move { work.send(job).await.map_err(|_| StateError::Closed) });
        }
    }
}

/// Has a copy follow the others' while nobody asks it for anything, until the state is closed.
fn follow(work: mpsc::WeakSender<Work>) -> Result<(), StateError> {
    std::thread::Builder::new()
        .name("state-follow".into())
        .spawn(move || {
            loop {
                std::thread::sleep(FOLLOW_EVERY);
                let Some(work) = work.upgrade() else { return };
                if work
                    .blocking_send(worker::work(|_| Ok(()), |_| {}))
                    .is_err()
                {
                    return;
                }
            }
        })
        .map(|_| ())
        .map_err(|error| StateError::Io(error.to_string()))
}

/// The folder with mode 700 and the file with mode 600, before SQLite makes them wider.
fn create_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map(|_| ())
}
