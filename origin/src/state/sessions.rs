//! Who is signed in, and sign-ins on their way: known by the hash of their cookie alone, so that nobody who reads the
//! state can take one over. They outlive a restart, and every origin that shares the state knows them.

use rusqlite::{OptionalExtension, Transaction, params};

use super::images::unsigned;
use super::{State, StateError};

/// Sessions of one client of one user at once; beyond it the one that would end first goes.
const MOST_SESSIONS: i64 = 200;
/// Sign-ins on their way at once; beyond it the oldest go.
const MOST_SIGN_INS: i64 = 20_000;

/// Where a session counts. One never counts for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The studio and its API.
    Studio,
    /// The operator's page.
    Operator,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Studio => "studio",
            Self::Operator => "operator",
        }
    }
}

/// Whoever is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The user.
    pub user_id: String,
    /// The client.
    pub client_id: String,
    /// Unix seconds; it counts before them.
    pub ends: u64,
}

/// Makes room: what has ended is forgotten, and of too many the one that would end first.
fn make_room(
    tx: &Transaction<'_>,
    kind: Kind,
    row: &SessionRow,
    now: u64,
) -> Result<(), StateError> {
    let is_any_over: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sessions WHERE ends <= ?1)")?
        .query_row([now as i64], |row| row.get(0))?;
    if is_any_over {
        tx.execute("DELETE FROM sessions WHERE ends <= ?1", [now as i64])?;
    }
    let whose = params![row.user_id, row.client_id, kind.word()];
    let known: i64 = tx
        .prepare_cached(
            "SELECT COUNT(*) FROM sessions WHERE user_id = ?1 AND client_id = ?2 AND kind = ?3",
        )?
        .query_row(whose, |row| row.get(0))?;
    if known >= MOST_SESSIONS {
        tx.execute(
            "DELETE FROM sessions WHERE hash = (SELECT hash FROM sessions
             WHERE user_id = ?1 AND client_id = ?2 AND kind = ?3 ORDER BY ends, hash LIMIT 1)",
            whose,
        )?;
    }
    Ok(())
}

impl State {
    /// Begins a session under the hash of its cookie.
    ///
    /// # Errors
    /// The state's own.
    pub async fn begin_session(
        &self,
        kind: Kind,
        hash: [u8; 32],
        row: SessionRow,
        now: u64,
    ) -> Result<(), StateError> {
        self.transact(move |tx| {
            make_room(tx, kind, &row, now)?;
            tx.execute(
                "INSERT INTO sessions (hash, kind, user_id, client_id, ends) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![hash, kind.word(), row.user_id, row.client_id, row.ends as i64],
            )?;
            Ok(())
        })
        .await
    }

    /// The session of this cookie's hash, while it lasts.
    ///
    /// # Errors
    /// The state's own.
    pub async fn session(
        &self,
        kind: Kind,
        hash: [u8; 32],
        now: u64,
    ) -> Result<Option<SessionRow>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT user_id, client_id, ends FROM sessions WHERE hash = ?1 AND kind = ?2 AND ends > ?3",
            )?;
            let row = statement.query_row(params![hash, kind.word(), now as i64], |row| {
                Ok(SessionRow {
                    user_id: row.get(0)?,
                    client_id: row.get(1)?,
                    ends: unsigned(row.get(2)?),
                })
            });
            Ok(row.optional()?)
        })
        .await
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The state's own.
    pub async fn end_session(&self, kind: Kind, hash: [u8; 32]) -> Result<(), StateError> {
        self.transact(move |tx| {
            tx.execute(
                "DELETE FROM sessions WHERE hash = ?1 AND kind = ?2",
                params![hash, kind.word()],
            )?;
            Ok(())
        })
        .await
    }

    /// Begins a sign-in under the hash of its cookie.
    ///
    /// # Errors
    /// The state's own.
    pub async fn begin_sign_in(
        &self,
        hash: [u8; 32],
        ends: u64,
        now: u64,
    ) -> Result<(), StateError> {
        self.transact(move |tx| {
            let (known, is_any_over): (i64, bool) = tx
                .prepare_cached("SELECT COUNT(*), COALESCE(MIN(ends) <= ?1, 0) FROM sign_ins")?
                .query_row([now as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if is_any_over {
                tx.execute("DELETE FROM sign_ins WHERE ends <= ?1", [now as i64])?;
            } else if known >= MOST_SIGN_INS {
                tx.execute(
                    "DELETE FROM sign_ins WHERE hash = (SELECT hash FROM sign_ins ORDER BY ends, hash LIMIT 1)",
                    [],
                )?;
            }
            tx.execute(
                "INSERT INTO sign_ins (hash, ends) VALUES (?1, ?2)",
                params![hash, ends as i64],
            )?;
            Ok(())
        })
        .await
    }

    /// Takes a sign-in out: whether it was on its way. It counts once, wherever it comes back.
    ///
    /// # Errors
    /// The state's own.
    pub async fn take_sign_in(&self, hash: [u8; 32], now: u64) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let taken = tx.execute(
                "DELETE FROM sign_ins WHERE hash = ?1 AND ends > ?2",
                params![hash, now as i64],
            )?;
            Ok(taken > 0)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: &str, ends: u64) -> SessionRow {
        SessionRow {
            user_id: user.into(),
            client_id: "studio".into(),
            ends,
        }
    }

    fn hash(n: usize) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        (folder, state)
    }

    #[tokio::test]
    async fn a_session_counts_where_it_began_until_its_end_and_outlives_the_process() {
        let (folder, state) = state();
        let row = of("u", 100);
        let (studio, operator) = (Kind::Studio, Kind::Operator);
        state
            .begin_session(studio, hash(1), row.clone(), 10)
            .await
            .unwrap();
        drop(state);
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        let get = async |kind, n, now| state.session(kind, hash(n), now).await.unwrap();
        assert_eq!(get(studio, 1, 99).await, Some(row));
        assert_eq!(get(studio, 1, 100).await, None);
        assert_eq!(get(operator, 1, 99).await, None);
        state.end_session(operator, hash(1)).await.unwrap();
        assert!(get(studio, 1, 99).await.is_some());
        state.end_session(studio, hash(1)).await.unwrap();
        assert_eq!(get(studio, 1, 99).await, None);
    }

    #[tokio::test]
    async fn nobody_has_sessions_without_end_and_nobody_pushes_others_out() {
        let (_folder, state) = state();
        let begin = async |user: &str, n: usize, ends, now| {
            let row = of(user, ends);
            state.begin_session(Kind::Studio, hash(n), row, now).await
        };
        begin("other", 1_000, 500, 0).await.unwrap();
        for n in 0..=MOST_SESSIONS as usize {
            begin("u", n, 1_000 + n as u64, 0).await.unwrap();
        }
        let has = async |n: usize, now| {
            let found = state.session(Kind::Studio, hash(n), now).await.unwrap();
            found.is_some()
        };
        assert!(!has(0, 0).await, "the first to end makes room");
        assert!(has(1, 0).await && has(1_000, 0).await);
        begin("u", 2_000, 9_000, 500).await.unwrap();
        assert!(!has(1_000, 0).await, "what has ended is forgotten");
    }

    #[tokio::test]
    async fn a_sign_in_counts_once_and_in_time() {
        let (_folder, state) = state();
        state.begin_sign_in(hash(1), 100, 10).await.unwrap();
        assert!(!state.take_sign_in(hash(1), 100).await.unwrap());
        assert!(!state.take_sign_in(hash(2), 99).await.unwrap());
        assert!(state.take_sign_in(hash(1), 99).await.unwrap());
        assert!(!state.take_sign_in(hash(1), 99).await.unwrap());
    }
}
