//! What may be spent on a provider in a day.

use super::ProviderError;
use crate::clock::Clock;
use crate::state::State;

const DAY: u64 = 24 * 3600;

/// A day's budget, counted in the state's file: it outlives the process. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    pub(super) state: State,
    pub(super) clock: Clock,
    /// Of one picture, in millionths.
    pub(super) price: u64,
    /// Of one day (UTC), in millionths.
    pub(super) per_day: Option<u64>,
}

/// Money that a call took. It counts until it is given back: what the provider may have billed is spent, whatever
/// became of the call or of this process.
#[derive(Debug)]
#[must_use]
pub(super) struct Spent {
    budget: Budget,
    day: u64,
    micros: u64,
}

impl Budget {
    fn cost(&self, pictures: usize) -> u64 {
        self.price.saturating_mul(pictures as u64)
    }

    fn spent(&self) -> ProviderError {
        let retry_after = DAY - self.clock.seconds() % DAY;
        ProviderError::Budget { retry_after }
    }

    /// Whether so many pictures are within the budget now. Decides nothing: [`Budget::take`] does.
    ///
    /// # Errors
    /// [`ProviderError::Budget`], or the state's own.
    pub(super) async fn check(&self, pictures: usize) -> Result<(), ProviderError> {
        let Some(most) = self.per_day else {
            return Ok(());
        };
        let spent = self
            .state
            .spent_on_provider(self.clock.seconds() / DAY)
            .await?;
        if spent.saturating_add(self.cost(pictures)) > most {
            return Err(self.spent());
        }
        Ok(())
    }

    /// Takes what so many pictures cost.
    ///
    /// # Errors
    /// [`ProviderError::Budget`], or the state's own: nothing is spent that is not written down.
    pub(super) async fn take(&self, pictures: usize) -> Result<Spent, ProviderError> {
        let (day, micros) = (self.clock.seconds() / DAY, self.cost(pictures));
        if micros > 0 {
            let most = self.per_day.unwrap_or(u64::MAX);
            if !self.state.spend_on_provider(day, micros, most).await? {
                return Err(self.spent());
            }
        }
        Ok(Spent {
            budget: self.clone(),
            day,
            micros,
        })
    }
}

impl Spent {
    /// Nothing was billed.
    pub(super) fn give_back(self) {
        if self.micros > 0 {
            self.budget
                .state
                .refund_from_provider(self.day, self.micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_day_has_its_budget_and_the_next_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget {
            state: State::open(&folder.path().join("s.sqlite")).unwrap(),
            clock: Clock::manual(20_000 * DAY + DAY - 10),
            price: 400,
            per_day: Some(1_000),
        };
        let first = budget.take(2).await.unwrap();
        assert_eq!(
            budget.check(1).await,
            Err(ProviderError::Budget { retry_after: 10 })
        );
        assert!(budget.take(1).await.is_err());
        first.give_back();
        assert_eq!(budget.check(2).await, Ok(()));
        // Dropped, as by a cancelled job: it stays spent.
        drop(budget.take(2).await.unwrap());
        assert!(budget.take(1).await.is_err());
        budget.clock.advance(10);
        assert!(budget.take(2).await.is_ok());
        assert!(budget.take(usize::MAX).await.is_err());
    }
}
