//! What is revoked, as the edge is told.

use std::collections::HashMap;

use rusqlite::params;
use shared::revocation::Snapshot;

use super::images::unsigned;
use super::{State, StateError};

/// Single links that may be revoked at once; beyond that an owner's epoch is the means.
pub const MAX_LINKS: i64 = 10_000;

impl State {
    /// Revokes one link, named as [`shared::link::fingerprint`] does, until its end. False when too many are already.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_link(&self, print: [u8; 16], exp: u64) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let known: i64 =
                tx.query_row("SELECT COUNT(*) FROM revoked_links", [], |row| row.get(0))?;
            if known >= MAX_LINKS {
                return Ok(false);
            }
            tx.execute(
                "INSERT INTO revoked_links (print, exp) VALUES (?1, ?2) ON CONFLICT (print) DO NOTHING",
                params![print, exp as i64],
            )?;
            Ok(true)
        })
        .await
    }

    /// Whether this link was revoked.
    ///
    /// # Errors
    /// The state's own.
    pub async fn is_link_revoked(&self, print: [u8; 16]) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let sql = "SELECT EXISTS (SELECT 1 FROM revoked_links WHERE print = ?1)";
            Ok(tx.query_row(sql, [print], |row| row.get(0))?)
        })
        .await
    }

    /// All that is revoked at `now_ms` (Unix milliseconds). Links that have ended are forgotten.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revocations(&self, now_ms: u64) -> Result<Snapshot, StateError> {
        let users = self.decided_users().await?;
        let links = self
            .transact(move |tx| {
                let now = (now_ms / 1000) as i64;
                // Asked every few seconds: a statement that changes nothing would stand in the log of all origins.
                let is_any_over: bool = tx
                    .prepare_cached("SELECT EXISTS (SELECT 1 FROM revoked_links WHERE exp <= ?1)")?
                    .query_row([now], |row| row.get(0))?;
                if is_any_over {
                    tx.execute("DELETE FROM revoked_links WHERE exp <= ?1", [now])?;
                }
                let mut statement = tx.prepare("SELECT print, exp FROM revoked_links")?;
                let rows = statement
                    .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                    .collect::<Result<HashMap<[u8; 16], u64>, _>>()?;
                Ok(rows)
            })
            .await?;
        let mut snapshot = Snapshot {
            taken_ms: now_ms,
            links,
            ..Snapshot::default()
        };
        for (id, user) in users {
            if user.link_epoch > 0 {
                snapshot.epochs.insert(id.clone(), user.link_epoch);
            }
            if user.suspended {
                snapshot.suspended.insert(id);
            }
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_snapshot_holds_what_is_revoked_and_forgets_links_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        assert!(state.revoke_link([1; 16], 100).await.unwrap());
        assert!(state.revoke_link([2; 16], 200).await.unwrap());
        state.suspend_user("bad", true).await.unwrap();
        state.suspend_user("forgiven", true).await.unwrap();
        state.suspend_user("forgiven", false).await.unwrap();
        state.revoke_links("old").await.unwrap();
        assert!(state.is_link_revoked([1; 16]).await.unwrap());
        let text = state.revocations(100_000).await.unwrap().to_text();
        let print = "02".repeat(16);
        assert_eq!(
            text,
            format!("signet-revoked-v1 100000\nepoch old 1\nlink {print} 200\nsuspended bad\n")
        );
        assert!(!state.is_link_revoked([1; 16]).await.unwrap());
    }
}
