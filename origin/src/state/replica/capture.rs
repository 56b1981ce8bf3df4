//! The statements that a transaction wrote, as SQLite ran them, with their values.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use crate::state::StateError;

/// Statements of the transaction under way.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    /// Whether anybody wants them: what is replayed is in the log already.
    wanted: bool,
    /// A statement could not be told with its values.
    failed: bool,
    statements: Vec<String>,
}

impl Capture {
    /// Listens to a connection.
    pub(super) fn of(connection: &mut Connection) -> Result<Self, StateError> {
        let capture = Self::default();
        let heard = capture.clone();
        connection.trace_v2(
            TraceEventCodes::SQLITE_TRACE_STMT,
            Some(move |event: TraceEvent<'_>| {
                if let TraceEvent::Stmt(statement, sql) = event
                    && writes(sql)
                {
                    heard.take_note(statement.expanded_sql());
                }
            }),
        )?;
        Ok(capture)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Captured) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_note(&self, sql: Option<String>) {
        self.with(|captured| match sql {
            _ if !captured.wanted => {}
            Some(sql) => captured.statements.push(sql),
            None => captured.failed = true,
        });
    }

    /// What runs from now on is wanted.
    pub(super) fn begin(&self) {
        self.with(|captured| {
            *captured = Captured {
                wanted: true,
                ..Captured::default()
            }
        });
    }

    /// The statements since the last call, or since [`Capture::begin`].
    ///
    /// # Errors
    /// SQLite had no memory to write one out.
    pub(super) fn take(&self) -> Result<Vec<String>, StateError> {
        self.with(|captured| {
            if captured.failed {
                return Err(StateError::Other("a statement is too long to share".into()));
            }
            Ok(std::mem::take(&mut captured.statements))
        })
    }

    /// Nothing is wanted until the next [`Capture::begin`].
    pub(super) fn end(&self) {
        self.with(|captured| *captured = Captured::default());
    }
}

/// Whether a statement changes rows. The state's own statements begin with their verb.
fn writes(sql: &str) -> bool {
    let verb = sql.trim_start().get(..6).unwrap_or("");
    ["INSERT", "UPDATE", "DELETE", "REPLAC"]
        .iter()
        .any(|known| verb.eq_ignore_ascii_case(known))
}
