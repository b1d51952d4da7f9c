//! Candidates with what they are found by. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::CandidateId;
use crate::store::StoreError;
use crate::store::codec::{CandidateRow, IndexValue, SealedRow, is_of_another};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::identities::{
    IdentityOwner, IndexedRow, delete_identity, holders, identities_of, insert_identity,
};
use crate::store::sqlite::late_index::Source;
use crate::store::sqlite::lookups::{index, insert_lookup, lookups_of};
use crate::store::sqlite::result_erasure::erase_results;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{erasure, query, statements};

/// Inserts a candidate with its identities, and a look-up for each other identity in its record.
pub(super) fn insert_candidate(
    tx: &WriteContext<'_>,
    candidate: &CandidateRow,
    identities: &[Identity],
) -> Result<(), StoreError> {
    let CandidateRow { id, tenant, connection: name, state, created, modified, sealed, photo, group, lookups } =
        candidate;
    tx.connection
        .prepare_cached(
            "INSERT INTO candidates (id, tenant, connection, state, created, modified, sealed, photo, group_index)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![id, tenant, name, state, created, modified, sealed, photo, group])?;
    let owner = IdentityOwner { id, tenant, connection: name };
    for lookup in lookups.iter().filter(|lookup| !identities.contains(&lookup.identity)) {
        insert_lookup(tx, owner, lookup.kind, &lookup.blind)?;
    }
    identities.iter().try_for_each(|one| insert_identity(tx, owner, &tx.records.identity(name, one)))?;
    tx.memo.record(id, lookups);
    Ok(())
}

/// Updates a candidate. A candidate that is gone stays gone: a late outcome must not restore an erased person.
pub(super) fn update_candidate(tx: &WriteContext<'_>, candidate: &CandidateRow) -> Result<(), StoreError> {
    let CandidateRow { id, tenant, connection: name, state, created: _, modified, sealed, photo, group, lookups } =
        candidate;
    let updated = tx
        .connection
        .prepare_cached(
            "UPDATE candidates SET state = ?3, modified = ?4, sealed = ?5, photo = ?6, group_index = ?7
             WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![id, tenant, state, modified, sealed, photo, group])?;
    if updated == 0 || tx.memo.agrees(id, lookups) {
        Ok(())
    } else {
        index(tx, IdentityOwner { id, tenant, connection: name }, lookups)
    }
}

fn stored_candidate(connection: &Connection, id: &CandidateId) -> Result<Option<SealedRow>, StoreError> {
    let sql = "SELECT id, tenant, connection, sealed FROM candidates WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([id.as_str()], statements::row).optional()?)
}

/// Replaces the identities of a candidate. Does nothing if the candidate is gone. An identity it keeps keeps its row, so
/// that a concurrent reader finds it at every moment.
pub(super) fn set_identities(
    tx: &WriteContext<'_>,
    id: &CandidateId,
    identities: &[Identity],
) -> Result<(), StoreError> {
    let Some(stored) = stored_candidate(tx.connection, id)? else { return Ok(()) };
    let owner = IdentityOwner { id: id.as_str(), tenant: &stored.tenant, connection: &stored.connection };
    let candidate = tx.records.candidate(&stored)?;
    let held = identities_of(tx.connection, owner.id)?;
    let is_present = |entry: &IndexValue| held.iter().any(|held| held.is(entry.kind, &entry.blind));
    let mut wanted: Vec<IndexValue> = Vec::with_capacity(identities.len());
    for identity in identities {
        let holders = holders(tx.read(), owner.connection, identity)?;
        let entry = if holders.iter().all(|holder| holder.candidate == owner.id) {
            tx.records.identity(owner.connection, identity)
        } else {
            kept_entry(tx, &candidate, &held, identity).ok_or(StoreError::Conflict)?
        };
        if !wanted.contains(&entry) {
            wanted.push(entry);
        }
    }
    let is_wanted = |kind: &str, blind: &BlindIndex| wanted.iter().any(|it| it.kind == kind && it.blind == *blind);
    for released in held.iter().filter(|held| !is_wanted(&held.kind, &held.blind)) {
        delete_identity(tx, released)?;
    }
    for entry in wanted.iter().filter(|entry| !is_present(entry)) {
        insert_identity(tx, owner, entry)?;
    }
    // A released identity may still be in the record.
    index(tx, owner, &tx.records.lookups(&candidate))
}

/// Returns the entry that a candidate keeps of an identity that another one holds: that of a former form, since an earlier
/// version registered the two spellings as two people. If that version has also changed the spelling at the vendor to the
/// other's, it is any entry of that kind.
fn kept_entry(
    tx: &WriteContext<'_>,
    candidate: &Candidate,
    held: &[IndexedRow],
    identity: &Identity,
) -> Option<IndexValue> {
    let kind = identity.kind().as_str();
    let former = tx.records.former_forms(&candidate.connection, identity);
    let is_recorded = Identity::of(&candidate.person, &[identity.kind()]).contains(identity);
    let mut own = held.iter().filter(|held| held.kind == kind).map(|held| held.blind);
    let kept = own.clone().find(|blind| former.contains(blind)).or_else(|| own.next().filter(|_| is_recorded));
    kept.map(|blind| IndexValue { kind, blind })
}

/// Erases a candidate; its look-ups are deleted with it (`ON DELETE CASCADE`).
pub(super) fn erase_candidate(tx: &WriteContext<'_>, id: &CandidateId) -> Result<(), StoreError> {
    let WriteContext { connection, records, .. } = tx;
    let stored = stored_candidate(connection, id)?;
    let candidate = stored.map(|stored| records.candidate(&stored)).transpose()?;
    let forms = candidate.as_ref().map(|candidate| records.person_forms(candidate));
    let unlinked = candidate
        .as_ref()
        .zip(forms.as_ref())
        .map(|(candidate, forms)| (candidate.connection.as_str(), candidate.tenant.as_str(), forms.as_slice()));
    let others =
        candidate.as_ref().map(|candidate| erasure::other_holders(tx, candidate)).transpose()?.unwrap_or_default();
    let stored = query::assignments_of(connection, id.as_str(), unlinked)?;
    let mut booked = stored.iter().map(|stored| records.assignment(stored)).collect::<Result<Vec<_>, _>>()?;
    booked.retain(|assignment| !is_of_another(assignment, &others));
    erase_results(tx, id, candidate.as_ref(), &booked)?;
    for assignment in booked {
        let erased = records.assignment_row(assignment.without_person(id))?;
        connection
            .prepare_cached("UPDATE assignments SET candidate_id = ?2, person = ?3, sealed = ?4 WHERE id = ?1")?
            .execute(params![erased.id, erased.candidate_id, erased.person, erased.sealed])?;
    }
    for held in identities_of(connection, id.as_str())? {
        delete_identity(tx, &held)?;
    }
    for lookup in lookups_of(connection, id.as_str())? {
        tx.index.remove(connection, Source::Lookup, &lookup.blind, lookup.row)?;
    }
    tx.memo.forget(id.as_str());
    connection.prepare_cached("DELETE FROM candidates WHERE id = ?1")?.execute([id.as_str()])?;
    erasure::hand_over(tx, &others)
}
