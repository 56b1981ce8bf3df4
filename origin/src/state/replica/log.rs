//! The log in Redis or Valkey: entries behind a snapshot, appended to by compare-and-set.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redis::Script;

use super::entry::Entry;
use super::position::Position;
use crate::state::{StateError, StateSettings};

/// After a failure the server is left alone for so long: what waits need not wait for it one by one.
const REST: Duration = Duration::from_millis(500);
/// A snapshot may take so many time-outs on its way.
const SNAPSHOT_TIMEOUTS: u32 = 40;
/// Bytes of an entry that the time-out is meant for.
const PIECE: usize = 256 * 1024;
/// The log is folded into a snapshot when it is larger than the last one, but not below so many bytes.
const LEAST_BYTES: u64 = 1 << 20;
/// The log is folded into a snapshot this often, and an entry is gone after twice this: it may hold a prompt.
const MOST_AGE: Duration = Duration::from_secs(600);

static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/commit.lua")));
static SNAPSHOT_OF: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/snapshot.lua")));
static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/publish.lua")));
static COMPACT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/compact.lua")));

const META: &str = "{signet}:state:meta";
const LOG: &str = "{signet}:state:log";
const SNAPSHOT: &str = "{signet}:state:snapshot";
const LOCK: &str = "{signet}:state:lock";

/// What the log says to an origin that has seen it up to a position.
#[derive(Debug)]
pub(super) enum Told {
    /// All of it was seen, and the entry is appended; whether the caller is to make a snapshot.
    Done { snapshot: bool },
    /// These come next.
    Behind(Vec<Entry>),
    /// The position is not in the log: begin with the snapshot.
    Far,
    /// The log has lost what was seen of it; this is where it stands.
    Ahead(Position),
    /// There is no log.
    Empty,
    /// An older program began it, and all of it was seen.
    Old,
}

/// Why it said nothing.
#[derive(Debug)]
pub(super) enum LogError {
    /// Not reached, or not in time. What was sent may have arrived.
    Away(String),
    /// No use in going on.
    Failed(StateError),
}

impl From<LogError> for StateError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Away(reason) => Self::Away(reason),
            LogError::Failed(error) => error,
        }
    }
}

/// A snapshot of the whole state.
pub(super) struct Snapshot {
    pub(super) at: Position,
    /// An SQLite file, compressed with gzip.
    pub(super) bytes: Vec<u8>,
}

/// A connection that is made when it is needed, and again when it broke.
pub(super) struct Log {
    client: redis::Client,
    connection: Option<redis::Connection>,
    timeout: Duration,
    resting_until: Option<Instant>,
    known_schema: i64,
}

impl Log {
    pub(super) fn open(settings: &StateSettings, known_schema: i64) -> Result<Self, StateError> {
        let client = settings
            .redis()
            .map_err(|error| StateError::Io(error.to_string()))?;
        Ok(Self {
            client,
            connection: None,
            timeout: Duration::from_millis(settings.timeout_ms),
            resting_until: None,
            known_schema,
        })
    }

    /// Another connection to the same log.
    pub(super) fn again(&self) -> Self {
        Self {
            client: self.client.clone(),
            connection: None,
            resting_until: None,
            ..*self
        }
    }

    /// Whether the server failed a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        self.resting_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn call<T>(
        &mut self,
        timeout: Duration,
        ask: impl FnOnce(&mut redis::Connection) -> redis::RedisResult<T>,
    ) -> Result<T, LogError> {
        if self.is_resting() {
            return Err(LogError::Away("it failed a moment ago".into()));
        }
        let begun = Instant::now();
        let asked = (|| {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.client.get_connection_with_timeout(self.timeout)?,
            };
            connection.set_read_timeout(Some(timeout))?;
            connection.set_write_timeout(Some(timeout))?;
            let answer = ask(&mut connection);
            Ok((connection, answer))
        })();
        match asked {
            Ok((connection, Ok(answer))) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            Ok((connection, Err(error))) if crate::state::server::is_broken(&error) => {
                self.connection = Some(connection);
                Err(LogError::Failed(StateError::Foreign(error.to_string())))
            }
            // An answer that comes late must not be taken for the next one: the connection is dropped.
            Ok((_, Err(error))) | Err(error) => {
                // A resolver that is down knows no time-out of ours: those who wait must get on in between.
                let rest = REST.max(begun.elapsed().saturating_sub(timeout) * 10);
                self.resting_until = Some(Instant::now() + rest);
                Err(LogError::Away(error.to_string()))
            }
        }
    }

    /// Appends an entry behind `at`, or without one asks whether there is anything new.
    pub(super) fn commit(&mut self, at: &Position, entry: Option<&str>) -> Result<Told, LogError> {
        let mut call = COMMIT.prepare_invoke();
        call.key(META).key(LOG).key(LOCK);
        call.arg(at.version).arg(&at.head).arg(self.known_schema);
        call.arg(entry.unwrap_or_default()).arg(LEAST_BYTES);
        call.arg(u64::try_from(MOST_AGE.as_millis()).unwrap_or(u64::MAX));
        call.arg(&at.lineage);
        // What was written during an outage may be much at once.
        let pieces = u32::try_from(entry.map_or(0, str::len) / PIECE).unwrap_or(u32::MAX);
        let timeout = self.timeout * (pieces.min(SNAPSHOT_TIMEOUTS) + 1);
        let known = self.known_schema;
        let told: Vec<String> = self.call(timeout, |redis| call.invoke(redis))?;
        let failed = |error| Err(LogError::Failed(error));
        match told.split_first() {
            Some((word, rest)) => match (word.as_str(), rest.first()) {
                ("done", Some(due)) => Ok(Told::Done {
                    snapshot: due == "1",
                }),
                ("behind", Some(_)) => {
                    let entries: Result<_, _> =
                        rest.iter().map(|text| Entry::parse(text)).collect();
                    entries.map(Told::Behind).map_err(LogError::Failed)
                }
                ("far", _) => Ok(Told::Far),
                ("ahead", Some(version)) => Ok(Told::Ahead(Position {
                    version: version.parse().unwrap_or(0),
                    head: rest.get(1).cloned().unwrap_or_default(),
                    lineage: at.lineage.clone(),
                })),
                ("foreign", _) => failed(StateError::Foreign(
                    "state.url holds another state than the one that this file is a copy of".into(),
                )),
                ("empty", _) => Ok(Told::Empty),
                ("old", _) => Ok(Told::Old),
                ("newer", Some(found)) => failed(StateError::TooNew {
                    found: found.parse().unwrap_or(i64::MAX),
                    known,
                }),
                _ => failed(StateError::Foreign(
                    "the log says what no script of ours says".into(),
                )),
            },
            None => failed(StateError::Foreign("the log says nothing".into())),
        }
    }

    /// The last snapshot.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot, LogError> {
        let mut call = SNAPSHOT_OF.prepare_invoke();
        call.key(META).key(SNAPSHOT);
        let told: Option<(u64, String, String, Vec<u8>)> =
            self.call(self.timeout * SNAPSHOT_TIMEOUTS, |redis| call.invoke(redis))?;
        let (version, head, lineage, bytes) = told.ok_or_else(|| {
            LogError::Failed(StateError::Foreign("the log has lost its snapshot".into()))
        })?;
        let at = Position {
            version,
            head,
            lineage,
        };
        Ok(Snapshot { at, bytes })
    }

    /// Begins the log with a snapshot, behind `seen`; whether nobody else was first.
    pub(super) fn publish(
        &mut self,
        seen: &Position,
        snapshot: &Snapshot,
    ) -> Result<bool, LogError> {
        let mut call = PUBLISH.prepare_invoke();
        call.key(META).key(LOG).key(SNAPSHOT);
        call.arg(seen.version).arg(&seen.head);
        call.arg(snapshot.at.version).arg(&snapshot.at.head);
        call.arg(self.known_schema).arg(snapshot.bytes.as_slice());
        call.arg(&snapshot.at.lineage);
        self.call(self.timeout * SNAPSHOT_TIMEOUTS, |redis| call.invoke(redis))
    }

    /// Puts a newer snapshot in place of the last.
    pub(super) fn compact(&mut self, snapshot: &Snapshot) -> Result<bool, LogError> {
        let mut call = COMPACT.prepare_invoke();
        call.key(META).key(LOG).key(SNAPSHOT).key(LOCK);
        call.arg(snapshot.at.version).arg(&snapshot.at.head);
        call.arg(snapshot.bytes.as_slice());
        self.call(self.timeout * SNAPSHOT_TIMEOUTS, |redis| call.invoke(redis))
    }
}
