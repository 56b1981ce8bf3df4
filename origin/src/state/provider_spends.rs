//! What a provider of pictures was paid on each day: the durable side of its budget ([`crate::provider`]).

use rusqlite::{OptionalExtension, Transaction, params};

use super::charges::signed;
use super::{State, StateError};

impl State {
    /// Spends `micros` on `day` (days since the epoch) if no more than `most` is spent on it then; whether it was.
    ///
    /// # Errors
    /// The state's own; nothing may be spent then.
    pub async fn spend_on_provider(
        &self,
        day: u64,
        micros: u64,
        most: u64,
    ) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let after = spent(tx, day)?.checked_add(micros);
            if !after.is_some_and(|after| after <= most && i64::try_from(after).is_ok()) {
                return Ok(false);
            }
            tx.execute(
                "INSERT INTO provider_spends (day, micros) VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET micros = micros + ?2",
                params![signed(day), signed(micros)],
            )?;
            // Older days are only history.
            tx.execute(
                "DELETE FROM provider_spends WHERE day < ?1",
                [signed(day.saturating_sub(31))],
            )?;
            Ok(true)
        })
        .await
    }

    /// Gives back what was spent on `day`. Returns at once; later operations see it.
    pub fn refund_from_provider(&self, day: u64, micros: u64) {
        self.post(move |tx| {
            tx.execute(
                "UPDATE provider_spends SET micros = max(0, micros - ?2) WHERE day = ?1",
                params![signed(day), signed(micros)],
            )?;
            Ok(())
        });
    }

    /// What was spent on `day`.
    ///
    /// # Errors
    /// The state's own.
    pub async fn spent_on_provider(&self, day: u64) -> Result<u64, StateError> {
        self.transact(move |tx| spent(tx, day)).await
    }
}

fn spent(tx: &Transaction<'_>, day: u64) -> Result<u64, StateError> {
    let found: Option<i64> = tx
        .query_row(
            "SELECT micros FROM provider_spends WHERE day = ?1",
            [signed(day)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.map_or(0, super::images::unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hundred_at_once_never_pass_the_budget_and_refunds_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        let state = State::open(&file).unwrap();
        let tries = (0..100).map(|_| state.spend_on_provider(9, 7, 300));
        let taken = futures_util::future::join_all(tries).await;
        let taken = taken.into_iter().filter(|taken| *taken == Ok(true)).count();
        assert_eq!(taken, 42, "42 × 7 = 294 is the most within 300");
        assert_eq!(state.spent_on_provider(9).await, Ok(294));
        state.refund_from_provider(9, 7);
        assert_eq!(state.spend_on_provider(9, 13, 300).await, Ok(true));
        assert_eq!(state.spend_on_provider(9, 1, 300).await, Ok(false));
        assert_eq!(
            state.spend_on_provider(9, u64::MAX, u64::MAX).await,
            Ok(false)
        );
        // Another day is another budget, and a restart forgets nothing.
        assert_eq!(state.spend_on_provider(10, 300, 300).await, Ok(true));
        drop(state);
        let state = State::open(&file).unwrap();
        assert_eq!(state.spent_on_provider(9).await, Ok(300));
        assert_eq!(state.spent_on_provider(10).await, Ok(300));
    }
}
