//! The identities that candidates hold: their entries, and who holds them.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::candidate::Identity;
use crate::store::StoreError;
use crate::store::codec::{IndexValue, RecordCodec};
use crate::store::encryption::BlindIndex;

/// The candidate an index entry belongs to.
#[derive(Clone, Copy)]
pub(super) struct IdentityOwner<'a> {
    pub(super) id: &'a str,
    pub(super) tenant: &'a str,
    pub(super) connection: &'a str,
}

/// Returns the entry of the earlier form under which the candidate holds each identity, if it does. It keeps that entry
/// where another candidate holds the identity: an earlier version registered the two spellings as two people.
pub(super) fn held_in_other_spelling(
    connection: &Connection,
    records: &RecordCodec,
    owner: IdentityOwner<'_>,
    identities: &[Identity],
) -> Result<Vec<Option<IndexValue>>, StoreError> {
    let mut entries = Vec::with_capacity(identities.len());
    for identity in identities {
        let kind = identity.kind().as_str();
        let mut held = None;
        for blind in records.former_forms(owner.connection, identity) {
            if held.is_none() && is_held(connection, owner.id, kind, &[blind])? {
                held = Some(IndexValue { kind, blind });
            }
        }
        entries.push(held);
    }
    Ok(entries)
}

/// Returns tenant and candidate of each holder of the identity at the connection, from the tenant's point of view. A
/// candidate of the tenant with an entry of the earlier form is the only one: an earlier version may have registered two
/// spellings of one identity as people of two tenants, each of whom still is the tenant's own.
pub(super) fn holders_for(
    connection: &Connection,
    records: &RecordCodec,
    tenant: &str,
    name: &str,
    identity: &Identity,
) -> Result<Vec<(String, String)>, StoreError> {
    let former = records.former_forms(name, identity);
    let mut found = holders_of(connection, name, identity, &former)?;
    if let Some(own) = found.iter().position(|(owner, _)| owner == tenant) {
        return Ok(vec![found.swap_remove(own)]);
    }
    found.extend(holders(connection, records, name, identity)?);
    Ok(found)
}

/// Returns tenant and candidate of each holder of the identity at the connection, under any key.
pub(super) fn holders(
    connection: &Connection,
    records: &RecordCodec,
    name: &str,
    identity: &Identity,
) -> Result<Vec<(String, String)>, StoreError> {
    holders_of(connection, name, identity, &records.identity_forms(name, identity))
}

fn holders_of(
    connection: &Connection,
    name: &str,
    identity: &Identity,
    forms: &[BlindIndex],
) -> Result<Vec<(String, String)>, StoreError> {
    let (kind, _) = identity.parts();
    let mut statement = connection.prepare_cached(
        "SELECT tenant, candidate_id FROM identities WHERE connection = ?1 AND kind = ?2 AND blind = ?3",
    )?;
    let mut holders = Vec::new();
    for form in forms {
        let holder = statement.query_row(params![name, kind, form], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        holders.extend(holder);
    }
    Ok(holders)
}

pub(super) fn insert_identity(
    connection: &Connection,
    owner: IdentityOwner<'_>,
    identity: &IndexValue,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO identities (connection, kind, blind, tenant, candidate_id) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![owner.connection, identity.kind, identity.blind, owner.tenant, owner.id])?;
    Ok(())
}

/// Returns whether the candidate holds one of these entries.
pub(super) fn is_held(
    connection: &Connection,
    candidate: &str,
    kind: &str,
    forms: &[BlindIndex],
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM identities WHERE candidate_id = ?1 AND kind = ?2 AND blind = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    for form in forms {
        if statement.query_row(params![candidate, kind, form], |_| Ok(())).optional()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
