//! The identities that candidates hold: their entries, and who holds them.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::candidate::{Identity, Person};
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
/// where another candidate holds the identity: an earlier version registered the two spellings as two people. If that
/// version has also changed the spelling at the vendor to the other's, it is any entry of that kind.
pub(super) fn held_in_other_spelling(
    connection: &Connection,
    records: &RecordCodec,
    owner: IdentityOwner<'_>,
    identities: &[Identity],
    recorded: &Person,
) -> Result<Vec<Option<IndexValue>>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT kind, blind FROM identities WHERE candidate_id = ?1")?;
    let rows = statement.query_map([owner.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let held: Vec<(String, BlindIndex)> = rows.collect::<Result<_, _>>()?;
    let entry = |identity: &Identity| {
        let kind = identity.kind().as_str();
        let former = records.former_forms(owner.connection, identity);
        let is_recorded = Identity::of(recorded, &[identity.kind()]).contains(identity);
        let mut own = held.iter().filter(|(held, _)| held == kind).map(|(_, blind)| *blind);
        let kept = own.clone().find(|blind| former.contains(blind)).or_else(|| own.next().filter(|_| is_recorded));
        kept.map(|blind| IndexValue { kind, blind })
    };
    Ok(identities.iter().map(entry).collect())
}

/// Returns tenant and candidate of each holder of the identity at the connection, under any key.
pub(super) fn holders(
    connection: &Connection,
    records: &RecordCodec,
    name: &str,
    identity: &Identity,
) -> Result<Vec<(String, String)>, StoreError> {
    let (kind, _) = identity.parts();
    let mut statement = connection.prepare_cached(
        "SELECT tenant, candidate_id FROM identities WHERE connection = ?1 AND kind = ?2 AND blind = ?3",
    )?;
    let mut holders = Vec::new();
    for form in records.identity_forms(name, identity) {
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
