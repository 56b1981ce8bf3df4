//! What a job's prompts were cut to, as its answers tell: numbers, nothing of the prompts.

use super::{State, StateError};
use rusqlite::OptionalExtension;

impl State {
    /// Writes down what a job of this process tells of its prompts, as JSON. Returns at once.
    pub fn note_truncation(&self, id: &str, told: String) {
        let (id, me) = (id.to_owned(), self.me());
        self.post(move |tx| {
            tx.execute(
                "UPDATE jobs SET truncated = ?2 WHERE id = ?1 AND origin = ?3",
                [&*id, &*told, &*me],
            )?;
            Ok(())
        });
    }

    /// What a job tells of its prompts, as JSON; none where they were read whole.
    ///
    /// # Errors
    /// The state's own.
    pub async fn truncation(&self, id: &str) -> Result<Option<String>, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let sql = "SELECT truncated FROM jobs WHERE id = ?1";
            let told = tx.query_row(sql, [&id], |row| row.get(0)).optional()?;
            Ok(told.flatten())
        })
        .await
    }
}
