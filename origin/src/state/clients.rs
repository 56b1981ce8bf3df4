//! OAuth clients.

use rusqlite::{OptionalExtension, Row, params};

use shared::revocation::{Kind, NEVER};

use super::revocations::bar;
use super::{State, StateError};

/// A registered client. The secret is kept as a hash ([`crate::auth::clients`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// `client_id`.
    pub id: String,
    /// For people.
    pub name: String,
    /// `sha256:` and base64url, or a PHC string of an older version.
    pub secret_hash: String,
    /// The user whose pictures and quotas it works on.
    pub user_id: String,
    /// Space-separated scopes it may ask for.
    pub scopes: String,
    /// Gets no more tokens.
    pub disabled: bool,
    /// Unix seconds.
    pub created: u64,
}

const COLUMNS: &str = "id, name, secret_hash, user_id, scopes, disabled, created";

fn read(row: &Row<'_>) -> rusqlite::Result<ClientRow> {
    Ok(ClientRow {
        id: row.get(0)?,
        name: row.get(1)?,
        secret_hash: row.get(2)?,
        user_id: row.get(3)?,
        scopes: row.get(4)?,
        disabled: row.get(5)?,
        created: super::images::unsigned(row.get(6)?),
    })
}

impl State {
    /// Adds a client.
    ///
    /// # Errors
    /// [`StateError::Exists`] for an id that is taken.
    pub async fn add_client(&self, client: ClientRow) -> Result<(), StateError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO clients (id, name, secret_hash, user_id, scopes, disabled, created) VALUES (?1,?2,?3,?4,?5,?6,?7)",
                params![client.id, client.name, client.secret_hash, client.user_id, client.scopes, client.disabled, client.created as i64],
            )?;
            Ok(())
        })
        .await
    }

    /// Puts another hash of the same secret in the place of the one that this row has, unless somebody else did.
    ///
    /// # Errors
    /// The state's own.
    pub async fn replace_secret_hash(
        &self,
        client: &ClientRow,
        hash: String,
    ) -> Result<(), StateError> {
        let (id, old) = (client.id.clone(), client.secret_hash.clone());
        self.transact(move |tx| {
            tx.execute(
                "UPDATE clients SET secret_hash = ?3 WHERE id = ?1 AND secret_hash = ?2",
                [&id, &old, &hash],
            )?;
            Ok(())
        })
        .await
    }

    /// The client with this id.
    ///
    /// # Errors
    /// The state's own.
    pub async fn client(&self, id: &str) -> Result<Option<ClientRow>, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            Ok(tx
                .query_row(
                    &format!("SELECT {COLUMNS} FROM clients WHERE id = ?1"),
                    [&id],
                    read,
                )
                .optional()?)
        })
        .await
    }

    /// All clients, oldest first.
    ///
    /// # Errors
    /// The state's own.
    pub async fn clients(&self) -> Result<Vec<ClientRow>, StateError> {
        self.transact(|tx| {
            let mut statement = tx.prepare(&format!(
                "SELECT {COLUMNS} FROM clients ORDER BY created, id"
            ))?;
            let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    /// Switches a client off; whether there is one with this id.
    ///
    /// # Errors
    /// The state's own.
    pub async fn disable_client(&self, id: &str) -> Result<bool, StateError> {
        let id = id.to_owned();
        self.transact(move |tx| {
            let is_there = tx.execute("UPDATE clients SET disabled = 1 WHERE id = ?1", [&id])? > 0;
            if is_there {
                bar(tx, Kind::Client, &id, 0, NEVER)?;
            }
            Ok(is_there)
        })
        .await
    }
}
