//! A process's connection to the server at `state.url`, for what is decided there in one round trip: counts, nonces.
//!
//! It is made when it is first needed, and again whenever it broke. After a failure the server is left alone for a
//! moment, in which callers go on by themselves at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::StateSettings;

/// After a failure the server is left alone for so long, so that requests need not wait for it one by one.
const REST: Duration = Duration::from_millis(500);

/// Why the server decided nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    /// Not reached, or not in time. What was sent may have arrived.
    #[error("Redis is away: {0}")]
    Away(String),
    /// It answered what cannot be, or a key holds something else.
    #[error("Redis answers what cannot be right: {0}")]
    Broken(String),
}

/// The connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    connection: ConnectionManager,
    timeout: Duration,
    begun: Instant,
    /// Milliseconds after `begun` until which the server is left alone.
    resting_until: AtomicU64,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// A connection to what the settings name. Must be called on a runtime; a server that is away is no error.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn open(settings: &StateSettings) -> RedisResult<Self> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let config = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(250))
            .set_number_of_retries(1)
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let connection = ConnectionManager::new_lazy_with_config(settings.redis()?, config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                connection,
                timeout,
                begun: Instant::now(),
                resting_until: AtomicU64::new(0),
            }),
        })
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.inner.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn away(&self, reason: String) -> ServerError {
        let rest = u64::try_from(REST.as_millis()).unwrap_or(0);
        let until = self.elapsed() + rest;
        self.inner.resting_until.store(until, Ordering::Relaxed);
        tracing::warn!(reason, "Redis is away: this process decides alone");
        ServerError::Away(reason)
    }

    /// Whether the server answers within the time-out. Asked anew, since a quiet service would not notice.
    pub(crate) async fn answers(&self) -> bool {
        let mut connection = self.inner.connection.clone();
        let ping = redis::cmd("PING");
        let answer = ping.query_async::<String>(&mut connection);
        matches!(
            tokio::time::timeout(self.inner.timeout, answer).await,
            Ok(Ok(_))
        )
    }

    /// What the server answers within the time-out.
    ///
    /// # Errors
    /// [`ServerError`]
    pub(crate) async fn ask<T, F>(
        &self,
        call: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<T, ServerError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.elapsed() < self.inner.resting_until.load(Ordering::Relaxed) {
            return Err(ServerError::Away("it failed a moment ago".into()));
        }
        let answer = call(self.inner.connection.clone());
        match tokio::time::timeout(self.inner.timeout, answer).await {
            Err(_) => Err(self.away("no answer in time".into())),
            Ok(Err(error)) if is_broken(&error) => {
                tracing::error!(%error, "Redis answers what cannot be right");
                Err(ServerError::Broken(error.to_string()))
            }
            Ok(Err(error)) => Err(self.away(error.to_string())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// Whether this name is new to all processes; it is remembered for so many seconds.
    ///
    /// # Errors
    /// [`ServerError`]
    pub(crate) async fn is_first(
        &self,
        kind: &str,
        name: &str,
        seconds: u64,
    ) -> Result<bool, ServerError> {
        let mut set = redis::cmd("SET");
        set.arg(key(kind, name)).arg("");
        set.arg("NX").arg("EX").arg(seconds);
        let set = async |mut connection| set.query_async::<Option<String>>(&mut connection).await;
        Ok(self.ask(set).await?.is_some())
    }

    /// Whether this name was seen by [`Server::is_first`] and is still remembered.
    ///
    /// # Errors
    /// [`ServerError`]
    pub(crate) async fn is_known(&self, kind: &str, name: &str) -> Result<bool, ServerError> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(key(kind, name));
        let ask = async |mut connection| exists.query_async::<bool>(&mut connection).await;
        self.ask(ask).await
    }
}

/// A key of this deployment: all share one hash tag, and so one slot.
pub(crate) fn key(kind: &str, name: &str) -> String {
    format!("{{signet}}:{kind}:{name}")
}

/// Whether the server is there and its data is not what it should be.
pub(crate) fn is_broken(error: &redis::RedisError) -> bool {
    let told = error.to_string();
    error.kind() == redis::ErrorKind::UnexpectedReturnType
        || ["WRONGTYPE", "CORRUPT", "user_script"]
            .iter()
            .any(|word| told.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateSettings;

    #[tokio::test]
    async fn a_server_with_a_password_is_reached_by_the_one_in_the_file() {
        let redis = crate::test_redis::Server::start();
        assert_eq!(
            redis.ask(&["CONFIG", "SET", "requirepass", "hunter2"]),
            "OK"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let with = |settings: StateSettings| async move {
            Server::open(&settings)
                .unwrap()
                .is_first("kind", "name", 9)
                .await
        };
        let settings = StateSettings::at(redis.url());
        assert!(with(settings.clone()).await.is_err(), "no password");
        let named = StateSettings {
            password_file: Some(file),
            ..settings
        };
        assert!(with(named.clone()).await.unwrap());
        let both = StateSettings {
            password: Some(crate::secret::Secret::new("x")),
            ..named.clone()
        };
        assert!(both.validate().unwrap_err().contains("state.password"));
        let gone = StateSettings {
            password_file: Some(folder.path().join("gone")),
            ..named
        };
        assert!(gone.validate().unwrap_err().contains("state.password_file"));
    }
}
