//! What was spent lately: the durable side of the limits ([`crate::quota`]).

use rusqlite::params;

use super::charges::signed;
use super::{State, StateError};

/// An admission that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Who spent it.
    pub user_id: String,
    /// When, in Unix nanoseconds.
    pub at: u64,
    /// How much, in thousandths of a unit.
    pub milliunits: u64,
}

impl State {
    /// Records an admission before its job starts.
    ///
    /// # Errors
    /// The state's own; nothing may be spent then.
    pub async fn reserve_spend(
        &self,
        id: &str,
        user: &str,
        at: u64,
        milliunits: u64,
    ) -> Result<(), StateError> {
        let (id, user) = (id.to_owned(), user.to_owned());
        self.transact(move |tx| {
            tx.prepare_cached(
                "INSERT INTO spends (id, user_id, at, milliunits) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id, user, signed(at), signed(milliunits)])?;
            Ok(())
        })
        .await
    }

    /// Settles an admission that no job has: kept with so many milliunits, or none of it. Returns at once; where the
    /// process ends before it is written, the next start gives the charge back.
    pub fn settle_spend(&self, id: Box<str>, kept: Option<u64>) {
        self.post(move |tx| {
            match kept {
                Some(milliunits) => tx
                    .prepare_cached("UPDATE spends SET settled = 1, milliunits = ?2 WHERE id = ?1 AND settled = 0")?
                    .execute(params![id, signed(milliunits)])?,
                None => tx
                    .prepare_cached("DELETE FROM spends WHERE id = ?1 AND settled = 0")?
                    .execute([&id])?,
            };
            Ok(())
        });
    }

    /// What was spent since `from` (Unix nanoseconds), oldest first, with what open jobs reserved. Gives back what a
    /// crash left unsettled and no open job has, and forgets what is older.
    ///
    /// # Errors
    /// The state's own.
    pub async fn recover_spends(&self, from: u64) -> Result<Vec<Spend>, StateError> {
        self.transact(move |tx| {
            tx.execute(
                "DELETE FROM spends WHERE at < ?1 OR (settled = 0 AND id NOT IN
                 (SELECT spend FROM jobs WHERE status = 'open' AND spend IS NOT NULL))",
                [signed(from)],
            )?;
            let mut statement =
                tx.prepare("SELECT user_id, at, milliunits FROM spends ORDER BY at")?;
            let rows = statement
                .query_map([], |row| {
                    Ok(Spend {
                        user_id: row.get(0)?,
                        at: super::images::unsigned(row.get(1)?),
                        milliunits: super::images::unsigned(row.get(2)?),
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    /// Forgets spends from before `from` (Unix nanoseconds).
    ///
    /// # Errors
    /// The state's own.
    pub async fn forget_spends(&self, from: u64) -> Result<(), StateError> {
        self.transact(move |tx| {
            tx.execute("DELETE FROM spends WHERE at < ?1", [signed(from)])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settled_spends_survive_and_unsettled_ones_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.sqlite");
        let state = State::open(&file).unwrap();
        for (id, at) in [
            ("old", 5),
            ("kept", 50),
            ("part", 60),
            ("crashed", 70),
            ("refunded", 80),
        ] {
            state.reserve_spend(id, "u", at, 1_000).await.unwrap();
        }
        state.settle_spend("old".into(), Some(1_000));
        state.settle_spend("kept".into(), Some(1_000));
        state.settle_spend("part".into(), Some(300));
        state.settle_spend("refunded".into(), None);
        // Settled once, for good.
        state.settle_spend("part".into(), Some(900));
        state.settle_spend("kept".into(), None);
        state.user("u").await.unwrap();
        drop(state);
        let state = State::open(&file).unwrap();
        let found = state.recover_spends(40).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|spend| (spend.at, spend.milliunits))
            .collect();
        assert_eq!(found, [(50, 1_000), (60, 300)]);
    }
}
