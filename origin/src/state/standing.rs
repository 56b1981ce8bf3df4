//! Whether an account may still act, asked at every call: what was decided counts at once, whatever tokens are alive.

use rusqlite::params;

use super::{State, StateError};

/// What was decided about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that stands in the way.
    Good,
    /// The user is suspended.
    Suspended,
    /// The client is disabled, or there is none of this id any more.
    Disabled,
}

impl State {
    /// How a user stands, and the client that acts for them; a session has none.
    ///
    /// # Errors
    /// The state's own.
    pub async fn standing(&self, user: &str, client: Option<&str>) -> Result<Standing, StateError> {
        let (user, client) = (user.to_owned(), client.map(str::to_owned));
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM clients WHERE id = ?2 AND NOT disabled),
                        EXISTS (SELECT 1 FROM users WHERE id = ?1 AND suspended)",
            )?;
            let row = statement.query_row(params![user, client], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(match row {
                (_, true) => Standing::Suspended,
                (true, _) => Standing::Disabled,
                _ => Standing::Good,
            })
        })
        .await
    }
}
