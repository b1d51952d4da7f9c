//! The look-ups of candidates: identities in their records that they do not hold. Everything here runs inside a
//! transaction of the writer thread.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::Lookup;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::identities::{IdentityOwner, IndexedRow, identities_of, rows_of};
use crate::store::sqlite::late_index::Source;
use crate::store::sqlite::write_context::WriteContext;

/// Updates the look-ups of a candidate to its record. A claimed identity needs no look-up entry: a search covers the
/// identities as well, and each entry costs a page write.
pub(super) fn index(tx: &WriteContext<'_>, owner: IdentityOwner<'_>, lookups: &[Lookup]) -> Result<(), StoreError> {
    let held = identities_of(tx.connection, owner.id)?;
    let present = lookups_of(tx.connection, owner.id)?;
    let is_held = |lookup: &Lookup| {
        let forms = tx.records.identity_forms(owner.connection, &lookup.identity);
        held.iter().any(|held| forms.contains(&held.blind))
    };
    let wanted: Vec<&Lookup> = lookups.iter().filter(|lookup| held.is_empty() || !is_held(lookup)).collect();
    let is_of = |stored: &IndexedRow, lookup: &Lookup| stored.is(lookup.kind, &lookup.blind);
    for stored in present.iter().filter(|stored| !wanted.iter().any(|wanted| is_of(stored, wanted))) {
        tx.connection.prepare_cached("DELETE FROM lookups WHERE id = ?1")?.execute([stored.row])?;
        tx.index.remove(tx.connection, Source::Lookup, &stored.blind, stored.row)?;
    }
    for wanted in wanted.into_iter().filter(|wanted| !present.iter().any(|stored| is_of(stored, wanted))) {
        insert_lookup(tx, owner, wanted.kind, &wanted.blind)?;
    }
    tx.memo.record(owner.id, lookups);
    Ok(())
}

/// Returns the look-ups of the candidate.
pub(super) fn lookups_of(connection: &Connection, candidate: &str) -> Result<Vec<IndexedRow>, StoreError> {
    rows_of(connection, "SELECT id, kind, blind FROM lookups WHERE candidate_id = ?1", candidate)
}

/// Inserts a look-up that the candidate does not have.
pub(super) fn insert_lookup(
    tx: &WriteContext<'_>,
    owner: IdentityOwner<'_>,
    kind: &str,
    blind: &BlindIndex,
) -> Result<(), StoreError> {
    let row = tx.index.next_row(Source::Lookup);
    tx.connection
        .prepare_cached("INSERT INTO lookups (id, candidate_id, tenant, kind, blind) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![row, owner.id, owner.tenant, kind, blind])?;
    tx.index.add(Source::Lookup, blind, row);
    Ok(())
}

/// Inserts the look-up unless the candidate has it.
pub(super) fn add_lookup(
    tx: &WriteContext<'_>,
    owner: IdentityOwner<'_>,
    kind: &str,
    blind: &BlindIndex,
) -> Result<(), StoreError> {
    let present = lookups_of(tx.connection, owner.id)?;
    if present.iter().any(|stored| stored.is(kind, blind)) {
        return Ok(());
    }
    insert_lookup(tx, owner, kind, blind)
}
