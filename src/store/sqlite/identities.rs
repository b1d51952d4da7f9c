//! The identities that candidates hold: their entries, and who holds them.

use rusqlite::{Connection, params};

use crate::domain::candidate::Identity;
use crate::store::StoreError;
use crate::store::codec::IndexValue;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::{Source, find};
use crate::store::sqlite::read_context::ReadContext;
use crate::store::sqlite::write_context::WriteContext;

/// The candidate an index entry belongs to.
#[derive(Clone, Copy)]
pub(super) struct IdentityOwner<'a> {
    pub(super) id: &'a str,
    pub(super) tenant: &'a str,
    pub(super) connection: &'a str,
}

/// A candidate that holds an identity.
pub(super) struct Holder {
    pub(super) tenant: String,
    pub(super) candidate: String,
}

/// A row of `identities` or `lookups`.
pub(super) struct IndexedRow {
    pub(super) row: i64,
    pub(super) kind: String,
    pub(super) blind: BlindIndex,
}

impl IndexedRow {
    pub(super) fn is(&self, kind: &str, blind: &BlindIndex) -> bool {
        self.kind == kind && self.blind == *blind
    }
}

/// Returns who holds the identity at the connection, under any key.
pub(super) fn holders(read: ReadContext<'_>, name: &str, identity: &Identity) -> Result<Vec<Holder>, StoreError> {
    holders_of_forms(read, name, identity, &read.records.identity_forms(name, identity))
}

/// Returns the tenant's candidates that hold the identity, or `None` if another tenant's does. The tenant's own comes
/// first if it holds the identity in a former form: an earlier version may have registered two spellings of one
/// identity as people of two tenants.
pub(super) fn own_holders(
    read: ReadContext<'_>,
    tenant: &str,
    name: &str,
    identity: &Identity,
) -> Result<Option<Vec<String>>, StoreError> {
    let is_own = |holder: &Holder| holder.tenant == tenant;
    let mut held = holders(read, name, identity)?;
    if !held.iter().all(is_own) {
        held = holders_of_forms(read, name, identity, &read.records.former_forms(name, identity))?;
        held.retain(is_own);
        if held.is_empty() {
            return Ok(None);
        }
    }
    Ok(Some(held.into_iter().map(|holder| holder.candidate).collect()))
}

/// Returns who holds the identity at the connection in one of these forms.
fn holders_of_forms(
    read: ReadContext<'_>,
    name: &str,
    identity: &Identity,
    forms: &[BlindIndex],
) -> Result<Vec<Holder>, StoreError> {
    let (at, kind) = (name, identity.kind().as_str());
    let mut holders = Vec::new();
    for form in forms {
        let sql = "SELECT tenant, candidate_id, connection, kind FROM identities WHERE id = ?1 AND blind = ?2";
        let found = find(read.connection, read.entries, Source::Identity, form, sql, |row| {
            let is_same = row.get_ref(2)?.as_str()? == at && row.get_ref(3)?.as_str()? == kind;
            Ok((is_same, Holder { tenant: row.get(0)?, candidate: row.get(1)? }))
        })?;
        holders.extend(found.into_iter().filter(|(is_same, _)| *is_same).map(|(_, holder)| holder));
    }
    Ok(holders)
}

/// Returns the identities that the candidate holds.
pub(super) fn identities_of(connection: &Connection, candidate: &str) -> Result<Vec<IndexedRow>, StoreError> {
    rows_of(connection, "SELECT id, kind, blind FROM identities WHERE candidate_id = ?1 ORDER BY id", candidate)
}

/// Reads number, kind and value of a candidate's rows.
pub(super) fn rows_of(connection: &Connection, sql: &str, candidate: &str) -> Result<Vec<IndexedRow>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map([candidate], |row| Ok(IndexedRow { row: row.get(0)?, kind: row.get(1)?, blind: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Inserts the identity, which the caller knows to be free.
pub(super) fn insert_identity(
    tx: &WriteContext<'_>,
    owner: IdentityOwner<'_>,
    identity: &IndexValue,
) -> Result<(), StoreError> {
    let row = tx.index.next_row(Source::Identity);
    tx.connection
        .prepare_cached(
            "INSERT INTO identities (id, candidate_id, tenant, connection, kind, blind) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![row, owner.id, owner.tenant, owner.connection, identity.kind, identity.blind])?;
    // Names are configured, not requested: there are as many as the operator has ever used.
    tx.connection
        .prepare_cached("INSERT OR IGNORE INTO identity_connections (name) VALUES (?1)")?
        .execute([owner.connection])?;
    tx.index.add(Source::Identity, &identity.blind, row);
    Ok(())
}

/// Deletes the identity.
pub(super) fn delete_identity(tx: &WriteContext<'_>, held: &IndexedRow) -> Result<(), StoreError> {
    tx.connection.prepare_cached("DELETE FROM identities WHERE id = ?1")?.execute([held.row])?;
    tx.index.remove(tx.connection, Source::Identity, &held.blind, held.row)
}

/// Returns whether the candidate holds one of these entries.
pub(super) fn is_held(
    connection: &Connection,
    candidate: &str,
    kind: &str,
    forms: &[BlindIndex],
) -> Result<bool, StoreError> {
    let held = identities_of(connection, candidate)?;
    Ok(held.iter().any(|held| held.kind == kind && forms.contains(&held.blind)))
}
