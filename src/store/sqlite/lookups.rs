//! The look-ups of candidates: identities in their records that they do not hold. Everything here runs inside a
//! transaction of the writer thread.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::Lookup;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::identities::{IdentityOwner, held_by};
use crate::store::sqlite::late_index::Source;
use crate::store::sqlite::write_context::WriteContext;

/// A row of `lookups`.
pub(super) struct StoredLookup {
    pub(super) row: i64,
    kind: String,
    pub(super) blind: BlindIndex,
}

impl StoredLookup {
    fn is_of(&self, lookup: &Lookup) -> bool {
        self.kind == lookup.kind && self.blind == lookup.blind
    }
}

/// Updates the look-ups of a candidate to its record. A claimed identity needs no look-up entry: a search covers the
/// identities as well, and each entry costs a page write.
pub(super) fn index(tx: &WriteContext<'_>, owner: IdentityOwner<'_>, lookups: &[Lookup]) -> Result<(), StoreError> {
    let held = held_by(tx.connection, owner.id)?;
    let present = lookups_of(tx.connection, owner.id)?;
    let is_held = |lookup: &Lookup| {
        let forms = tx.records.identity_forms(owner.connection, &lookup.identity);
        held.iter().any(|held| forms.contains(&held.blind))
    };
    let wanted: Vec<&Lookup> = lookups.iter().filter(|lookup| held.is_empty() || !is_held(lookup)).collect();
    for stored in present.iter().filter(|stored| !wanted.iter().any(|wanted| stored.is_of(wanted))) {
        tx.connection.prepare_cached("DELETE FROM lookups WHERE id = ?1")?.execute([stored.row])?;
        tx.index.remove(tx.connection, Source::Lookup, &stored.blind, stored.row)?;
    }
    for wanted in wanted.into_iter().filter(|wanted| !present.iter().any(|stored| stored.is_of(wanted))) {
        insert_lookup(tx, owner, wanted.kind, &wanted.blind)?;
    }
    tx.memo.record(owner.id, lookups);
    Ok(())
}

/// Returns the look-ups of a candidate.
pub(super) fn lookups_of(connection: &Connection, candidate: &str) -> Result<Vec<StoredLookup>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id, kind, blind FROM lookups WHERE candidate_id = ?1")?;
    let rows = statement
        .query_map([candidate], |row| Ok(StoredLookup { row: row.get(0)?, kind: row.get(1)?, blind: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
    if present.iter().any(|stored| stored.kind == kind && stored.blind == *blind) {
        return Ok(());
    }
    insert_lookup(tx, owner, kind, blind)
}
