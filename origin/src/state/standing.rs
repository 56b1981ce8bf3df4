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
    /// The client is disabled, or there is none of this id any more; or the token was revoked.
    Disabled,
}

/// Whom a call is for, and by what.
#[derive(Clone, Debug)]
pub struct Acting {
    /// The user.
    pub user: String,
    /// The client; none for a session.
    pub client: Option<String>,
    /// The token's id.
    pub token: String,
}

impl State {
    /// How a user stands, the client that acts for them, and the token.
    ///
    /// # Errors
    /// The state's own.
    pub async fn standing(&self, acting: Acting) -> Result<Standing, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM clients WHERE id = ?2 AND NOT disabled)
                        OR EXISTS (SELECT 1 FROM revoked WHERE kind = 'token' AND name = ?3),
                        EXISTS (SELECT 1 FROM users WHERE id = ?1 AND suspended)",
            )?;
            let row = statement.query_row(params![acting.user, acting.client, acting.token], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(match row {
                (_, true) => Standing::Suspended,
                (true, _) => Standing::Disabled,
                _ => Standing::Good,
            })
        })
        .await
    }
}
