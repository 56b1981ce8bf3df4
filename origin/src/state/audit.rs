//! What operators did. Act and row are one transaction, so that none stands without the other. The oldest rows go first.

use rusqlite::{Transaction, params};
use serde_json::{Value, json};

use super::images::unsigned;
use super::{State, StateError};

/// Acts that are kept.
const MOST: i64 = 100_000;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Unix seconds.
    pub at: u64,
    /// The client that did it, or `command` for the program's own commands.
    pub actor: String,
    /// From where; empty for commands.
    pub address: String,
    /// `suspend`, `resume`, `revoke-links`, `cancel`, `sign-in`; `disable` of a client, `block` and `allow` of an address.
    pub action: String,
    /// The user, job, client or address it was done to.
    pub subject: String,
    /// As in the answer's `x-request-id`.
    pub request_id: String,
}

impl AuditRow {
    /// The log's line.
    pub fn log(&self, outcome: &'static str) {
        tracing::info!(
            target: "signet::audit",
            event = "operator_action",
            actor = self.actor,
            ip = self.address,
            action = self.action,
            subject = self.subject,
            outcome,
            request_id = self.request_id,
        );
    }

    /// As the operator's page is told.
    pub fn to_json(&self) -> Value {
        json!({
            "at": self.at, "actor": self.actor, "address": self.address, "action": self.action, "subject": self.subject,
            "request_id": self.request_id,
        })
    }
}

/// What an act changes in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing here: a cancelled job, a sign-in.
    Elsewhere,
    /// The subject is suspended until this time, in Unix seconds.
    Suspend(u64),
    /// The subject is let in again.
    Resume,
    /// The subject's links that were signed so far are refused.
    RevokeLinks,
}

fn note(tx: &Transaction<'_>, row: &AuditRow) -> Result<(), StateError> {
    tx.prepare_cached(
        "INSERT INTO audit (at, actor, address, action, subject, request_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![row.at as i64, row.actor, row.address, row.action, row.subject, row.request_id])?;
    tx.execute(
        "DELETE FROM audit WHERE id <= (SELECT MAX(id) FROM audit) - ?1",
        [MOST],
    )?;
    Ok(())
}

impl State {
    /// Carries an act out and writes it down, and tells the log how it went.
    ///
    /// # Errors
    /// The state's own, and [`StateError::NoUser`] for a decision about nobody; then nothing was changed.
    pub async fn act(&self, row: AuditRow, change: Change) -> Result<(), StateError> {
        let written = row.clone();
        let outcome = self
            .transact(move |tx| {
                let is_about_user = change != Change::Elsewhere;
                if is_about_user && !super::users::exists(tx, &written.subject)? {
                    return Err(StateError::NoUser);
                }
                note(tx, &written)?;
                match change {
                    Change::Elsewhere => {}
                    Change::Suspend(ends) => {
                        super::users::suspend(tx, &written.subject, Some(ends))?;
                    }
                    Change::Resume => super::users::suspend(tx, &written.subject, None)?,
                    Change::RevokeLinks => drop(super::users::revoke_links(tx, &written.subject)?),
                }
                Ok(())
            })
            .await;
        row.log(if outcome.is_ok() { "done" } else { "failed" });
        outcome
    }

    /// The latest acts, the newest first.
    ///
    /// # Errors
    /// The state's own.
    pub async fn audit(&self, most: u32) -> Result<Vec<AuditRow>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT at, actor, address, action, subject, request_id FROM audit ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([most], |row| {
                Ok(AuditRow {
                    at: unsigned(row.get(0)?),
                    actor: row.get(1)?,
                    address: row.get(2)?,
                    action: row.get(3)?,
                    subject: row.get(4)?,
                    request_id: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::revocation::NEVER;

    #[tokio::test]
    async fn acts_change_the_state_and_the_newest_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        let row = |subject: &str| AuditRow {
            at: 7,
            actor: "cl_1".into(),
            address: "127.0.0.1".into(),
            action: "suspend".into(),
            subject: subject.into(),
            request_id: "r".into(),
        };
        for subject in ["a", "b", "c"] {
            state.revoke_links(subject).await.unwrap();
            state
                .act(row(subject), Change::Suspend(NEVER))
                .await
                .unwrap();
        }
        state.act(row("b"), Change::Resume).await.unwrap();
        state.act(row("c"), Change::RevokeLinks).await.unwrap();
        assert!(!state.user("b").await.unwrap().suspended);
        let user = state.user("c").await.unwrap();
        assert!(user.suspended && user.link_epoch == 2);
        assert_eq!(state.audit(2).await.unwrap(), [row("c"), row("b")]);
    }

    #[tokio::test]
    async fn a_decision_about_nobody_changes_nothing_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("s.sqlite")).unwrap();
        let row = |action: &str| AuditRow {
            at: 7,
            actor: "cl_1".into(),
            address: String::new(),
            action: action.into(),
            subject: "nobody".into(),
            request_id: String::new(),
        };
        for (action, change) in [
            ("suspend", Change::Suspend(NEVER)),
            ("resume", Change::Resume),
            ("revoke-links", Change::RevokeLinks),
        ] {
            let refused = state.act(row(action), change).await;
            assert_eq!(refused, Err(StateError::NoUser), "{action}");
        }
        assert!(!state.user_exists("nobody").await.unwrap());
        assert_eq!(state.audit(9).await.unwrap(), []);
        // Not about a user.
        let sign_in = state.act(row("sign-in"), Change::Elsewhere).await;
        assert_eq!(sign_in, Ok(()));
    }
}
