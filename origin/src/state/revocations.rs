//! What is revoked, a row for each entry ([`shared::revocation`]), and how the edge is told what differs.
//!
//! A trigger keeps the digests of the pages that entries lie on, on every copy of a shared state alike. Everything ends:
//! an entry that outlives every link and token that it could close is forgotten, and only a suspension lasts until it is
//! taken back, unless it was given an end.

use std::collections::BTreeMap;

use rusqlite::{Row, Transaction, params};
use shared::access_token::{MAX_LIFE, SKEW};
use shared::link::MAX_LIFE as LINK_LIFE;
use shared::revocation::page::Page;
use shared::revocation::{Entry, Kind, MAX_SINGLE, NEVER, Name};

use super::images::unsigned;
use super::{State, StateError};

/// Text of pages that is read at once, in bytes, to tell the edge.
const AT_ONCE: usize = 4 * 1024 * 1024;

/// Seconds for which what a kind closes can live on; an entry without an end gets this one.
fn lasts(kind: Kind) -> Option<u64> {
    match kind {
        // No link that old opens: its epoch need not be known any more.
        Kind::Epoch => Some(LINK_LIFE + 2 * SKEW),
        // A disabled client gets no more tokens.
        Kind::Client => Some(MAX_LIFE + 2 * SKEW),
        _ => None,
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
    let (value, ends) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
    Ok(Kind::parse(&kind).and_then(|kind| Entry::new(kind, &name, value, ends)))
}

/// Revokes something, in place of an entry of the same kind and name.
pub(super) fn bar(
    tx: &Transaction<'_>,
    kind: Kind,
    name: &str,
    value: u64,
    ends: u64,
) -> Result<(), StateError> {
    let entry = Entry::new(kind, name, value, ends.min(NEVER))
        .ok_or_else(|| StateError::Other(format!("no {} has this name", kind.as_str())))?;
    tx.prepare_cached(
        "INSERT INTO revoked (kind, name, value, ends, page, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kind, name) DO UPDATE SET value = ?3, ends = ?4, digest = ?6",
    )?
    .execute(params![
        kind.as_str(),
        entry.name,
        entry.value as i64,
        entry.ends as i64,
        entry.subject().place().page,
        entry.digest() as i64,
    ])?;
    Ok(())
}

/// Takes a revocation back; whether there was one.
pub(super) fn free(tx: &Transaction<'_>, kind: Kind, name: &str) -> Result<bool, StateError> {
    let sql = "DELETE FROM revoked WHERE kind = ?1 AND name = ?2";
    Ok(tx.prepare_cached(sql)?.execute([kind.as_str(), name])? > 0)
}

/// All entries of these names.
pub(super) fn among(tx: &Transaction<'_>, names: &[Name]) -> Result<Vec<Entry>, StateError> {
    let mut statement = tx.prepare_cached(
        "SELECT kind, name, value, ends FROM revoked WHERE kind = ?1 AND name = ?2",
    )?;
    let mut entries = Vec::new();
    for name in names {
        for kind in name.kinds() {
            let rows = statement.query_map([kind.as_str(), name.id()], read)?;
            for row in rows {
                entries.extend(row?);
            }
        }
    }
    Ok(entries)
}

/// Whether there is room for one more entry of a kind that strangers' doings add to.
fn has_room(tx: &Transaction<'_>) -> Result<bool, StateError> {
    let sql = "SELECT COUNT(*) FROM revoked WHERE kind IN ('address', 'link', 'token')";
    let known: i64 = tx.query_row(sql, [], |row| row.get(0))?;
    Ok(unsigned(known) < MAX_SINGLE)
}

/// Takes over what a state of an earlier version says, on each copy alike: so no clock is asked.
pub(super) fn carry_over(tx: &Transaction<'_>) -> Result<(), StateError> {
    type Old = Vec<(String, i64)>;
    let old = |sql: &str| -> Result<Old, StateError> {
        let mut statement = tx.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let never = NEVER as i64;
    for (kind, sql) in [
        (
            Kind::Epoch,
            "SELECT id, link_epoch FROM users WHERE link_epoch > 0",
        ),
        (Kind::Suspended, "SELECT id, 0 FROM users WHERE suspended"),
        (Kind::Client, "SELECT id, 0 FROM clients WHERE disabled"),
    ] {
        for (name, value) in old(sql)? {
            bar(tx, kind, &name, unsigned(value), unsigned(never))?;
        }
    }
    for (kind, sql) in [
        (Kind::Token, "SELECT jti, expires FROM revoked_tokens"),
        (
            Kind::Link,
            "SELECT lower(hex(print)), exp FROM revoked_links",
        ),
    ] {
        for (name, ends) in old(sql)? {
            bar(tx, kind, &name, 0, unsigned(ends))?;
        }
    }
    tx.execute_batch("DROP TABLE revoked_tokens; DROP TABLE revoked_links;")?;
    Ok(())
}

/// What the edge lacks, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Pages that differ, as many as are told at once.
    pub pages: Vec<Page>,
    /// The root of all pages; none when `pages` are not all that differ.
    pub root: Option<String>,
}

impl State {
    /// Revokes one link, named as [`shared::link::fingerprint`] does, until its end. False when too many single links,
    /// tokens and addresses are already.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_link(&self, print: [u8; 16], exp: u64) -> Result<bool, StateError> {
        self.revoke_one(Name::link(&print), exp).await
    }

    /// Revokes a group of addresses or a link until `ends` (Unix seconds). False when too many are already.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoke_one(&self, name: Name, ends: u64) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let has_room = has_room(tx)?;
            for kind in name.kinds().iter().filter(|_| has_room) {
                bar(tx, *kind, name.id(), 0, ends)?;
            }
            Ok(has_room)
        })
        .await
    }

    /// Takes back what was revoked of a name; whether anything was.
    ///
    /// # Errors
    /// The state's own.
    pub async fn forgive(&self, name: Name) -> Result<bool, StateError> {
        self.transact(move |tx| {
            let mut was = false;
            for kind in name.kinds() {
                was |= free(tx, *kind, name.id())?;
            }
            Ok(was)
        })
        .await
    }

    /// All that is revoked of these names, ended or not.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_among(&self, names: Vec<Name>) -> Result<Vec<Entry>, StateError> {
        self.transact(move |tx| among(tx, &names)).await
    }

    /// Entries of a kind that have not ended at `now` (Unix seconds), up to `most`.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_of(
        &self,
        kind: Kind,
        now: u64,
        most: u32,
    ) -> Result<Vec<Entry>, StateError> {
        self.transact(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT kind, name, value, ends FROM revoked WHERE kind = ?1 AND ends > ?2 LIMIT ?3",
            )?;
            let rows = statement.query_map(params![kind.as_str(), now as i64, most], read)?;
            let entries: Vec<Option<Entry>> = rows.collect::<Result<_, _>>()?;
            Ok(entries.into_iter().flatten().collect())
        })
        .await
    }

    /// Entries there are.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_count(&self) -> Result<u64, StateError> {
        self.transact(|tx| {
            let sql = "SELECT COALESCE(SUM(entries), 0) FROM revoked_pages";
            Ok(unsigned(tx.query_row(sql, [], |row| row.get(0))?))
        })
        .await
    }

    /// Forgets what has ended at `now` (Unix seconds), lets those in again whose suspension had an end, and gives an end
    /// to what closes nothing after a while. Whether any address is left.
    ///
    /// # Errors
    /// The state's own.
    pub async fn forget_revoked(&self, now: u64) -> Result<bool, StateError> {
        self.transact(move |tx| {
            for kind in Kind::ALL {
                forget(tx, kind, now)?;
                if let Some(seconds) = lasts(kind) {
                    give_end(tx, kind, now + seconds)?;
                }
            }
            let sql = "SELECT EXISTS (SELECT 1 FROM revoked WHERE kind = ?1)";
            let address = [Kind::Address.as_str()];
            Ok(tx
                .prepare_cached(sql)?
                .query_row(address, |row| row.get(0))?)
        })
        .await
    }

    /// Brings entries up to the epochs of their owners: two origins that raised one while the shared state was away have
    /// each written their own.
    ///
    /// # Errors
    /// The state's own.
    pub async fn settle_epochs(&self) -> Result<(), StateError> {
        self.transact(|tx| {
            let mut statement = tx.prepare_cached(
                "SELECT users.id, users.link_epoch FROM revoked JOIN users ON users.id = revoked.name
                 WHERE revoked.kind = 'epoch' AND revoked.value < users.link_epoch",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
            let behind: Vec<(String, u64)> = rows.collect::<Result<_, _>>()?;
            for (id, epoch) in behind {
                bar(tx, Kind::Epoch, &id, epoch, NEVER)?;
            }
            Ok(())
        })
        .await
    }

    /// The root of all pages at this moment.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_root(&self) -> Result<String, StateError> {
        self.transact(|tx| Ok(shared::revocation::page::root(digests(tx)?)))
            .await
    }

    /// What differs from pages of these digests.
    ///
    /// # Errors
    /// The state's own.
    pub async fn revoked_beyond(
        &self,
        known: BTreeMap<u16, u64>,
    ) -> Result<Difference, StateError> {
        self.transact(move |tx| {
            let own = digests(tx)?;
            let gone = known.keys().filter(|page| !own.contains_key(page));
            let new = own
                .iter()
                .filter(|(page, digest)| known.get(page) != Some(digest));
            let mut differing: Vec<u16> = gone.chain(new.map(|(page, _)| page)).copied().collect();
            differing.sort_unstable();
            let (mut pages, mut bytes) = (Vec::new(), 0);
            let mut statement = tx.prepare_cached(
                "SELECT kind, name, value, ends FROM revoked WHERE page = ?1 ORDER BY kind, name",
            )?;
            for number in &differing {
                if bytes > AT_ONCE {
                    return Ok(Difference { pages, root: None });
                }
                let rows = statement.query_map([number], read)?;
                let entries: Vec<Option<Entry>> = rows.collect::<Result<_, _>>()?;
                let page = Page {
                    number: *number,
                    entries: entries.into_iter().flatten().collect(),
                };
                bytes += page.lines().len();
                pages.push(page);
            }
            let root = Some(shared::revocation::page::root(own));
            Ok(Difference { pages, root })
        })
        .await
    }
}

/// Digests of the pages with entries.
fn digests(tx: &Transaction<'_>) -> Result<BTreeMap<u16, u64>, StateError> {
    let mut statement =
        tx.prepare_cached("SELECT page, digest FROM revoked_pages WHERE entries > 0")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Asked every few seconds: a statement that changes nothing would stand in the log of all origins.
fn forget(tx: &Transaction<'_>, kind: Kind, now: u64) -> Result<(), StateError> {
    let ended = (kind.as_str(), now as i64);
    let is_any_over: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM revoked WHERE kind = ?1 AND ends <= ?2)")?
        .query_row(ended, |row| row.get(0))?;
    if !is_any_over {
        return Ok(());
    }
    if kind == Kind::Suspended {
        tx.execute(
            "UPDATE users SET suspended = 0 WHERE id IN (SELECT name FROM revoked WHERE kind = ?1 AND ends <= ?2)",
            ended,
        )?;
    }
    tx.execute("DELETE FROM revoked WHERE kind = ?1 AND ends <= ?2", ended)?;
    Ok(())
}

fn give_end(tx: &Transaction<'_>, kind: Kind, ends: u64) -> Result<(), StateError> {
    let mut statement = tx.prepare_cached(
        "SELECT kind, name, value, ends FROM revoked WHERE kind = ?1 AND ends = ?2 LIMIT 10000",
    )?;
    let rows = statement.query_map(params![kind.as_str(), NEVER as i64], read)?;
    let endless: Vec<Option<Entry>> = rows.collect::<Result<_, _>>()?;
    for entry in endless.into_iter().flatten() {
        bar(tx, kind, &entry.name, entry.value, ends)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;
