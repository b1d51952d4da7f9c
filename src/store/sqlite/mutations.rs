//! Statements that write. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::candidate::Identity;
use crate::domain::ids::CandidateId;
use crate::store::StoreError;
use crate::store::codec::{
    AssignmentRow, CandidateRow, EncodedMutation, IntentRow, KeyRow, Lookup, PreparedWriteRow, RecordCodec, SealedRow,
    is_of_another,
};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::identities::{IdentityOwner, held_in_other_spelling, holders, insert_identity};
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{audit, erasure, items, keys, query, statements};

/// [`crate::store::BeginResult`] before the holders are opened.
pub(super) enum BegunWrite {
    Written,
    Held(Vec<SealedRow>),
    HeldByOtherTenant,
    ItemCancelled,
    KeyInUse,
}

/// Begins the writes, and acquires the key with the first one, unless the key is in use.
pub(super) fn begin_writes(
    tx: &WriteContext<'_>,
    key: Option<&KeyRow>,
    writes: &[PreparedWriteRow],
) -> Result<Vec<BegunWrite>, StoreError> {
    if let Some(key) = key
        && keys::is_used(tx.connection, key)?
    {
        return Ok(writes.iter().map(|_| BegunWrite::KeyInUse).collect());
    }
    let begun = writes.iter().map(|write| begin(tx, write)).collect::<Result<Vec<_>, _>>()?;
    if let (Some(key), Some(first), Some(BegunWrite::Written)) = (key, writes.first(), begun.first()) {
        keys::begin(tx.connection, key, tx.instance, Some(&first.record))?;
    }
    Ok(begun)
}

/// Begins one write, unless an identity is held or its row is no longer waiting.
fn begin(tx: &WriteContext<'_>, write: &PreparedWriteRow) -> Result<BegunWrite, StoreError> {
    let WriteContext { connection, records, instance: _ } = tx;
    let PreparedWriteRow { record, tenant, new, item, mutations } = write;
    let mut held: Vec<String> = Vec::new();
    for (candidate, identity) in new.iter().flat_map(|(row, identities)| identities.iter().map(move |one| (row, one))) {
        for (owner, holder) in holders(connection, records, &candidate.connection, identity)? {
            if owner != *tenant {
                return Ok(BegunWrite::HeldByOtherTenant);
            }
            if !held.contains(&holder) {
                held.push(holder);
            }
        }
    }
    if !held.is_empty() {
        return Ok(BegunWrite::Held(query::candidates_by_id(connection, tenant, None, &held)?));
    }
    // Before anything else is written: the write may still be refused here.
    if let Some((at, subjects)) = item {
        match items::claim(connection, at, record, subjects) {
            Err(StoreError::ItemNotWaiting) => return Ok(BegunWrite::ItemCancelled),
            claimed => claimed?,
        }
    }
    if let Some((candidate, identities)) = new {
        insert_candidate(connection, records, candidate, identities)?;
    }
    mutations.iter().try_for_each(|mutation| apply(tx, mutation))?;
    Ok(BegunWrite::Written)
}

/// Applies one mutation.
pub(super) fn apply(tx: &WriteContext<'_>, change: &EncodedMutation) -> Result<(), StoreError> {
    let WriteContext { connection, records, instance: _ } = tx;
    match change {
        EncodedMutation::Candidate(candidate) => update_candidate(connection, records, candidate),
        EncodedMutation::Identities(id, identities) => set_identities(connection, records, id, identities),
        EncodedMutation::EraseCandidate(id) => erase_candidate(tx, id),
        EncodedMutation::Assignment(assignment) => put_assignment(tx, assignment),
        EncodedMutation::Intent(intent) => put_intent(tx, intent),
        EncodedMutation::RemoveIntent(record) => delete_intent(connection, record),
        EncodedMutation::RequireAttempt(record, started) => require_attempt(tx, record, *started),
        EncodedMutation::Key(statement)
        | EncodedMutation::Operation(statement)
        | EncodedMutation::IndexGroup(statement) => tx.run(statement),
        EncodedMutation::ClaimItem(at, record, subjects) => items::claim(connection, at, record, subjects),
        EncodedMutation::EndItem(end) => items::end(connection, end),
        EncodedMutation::SetItemSubjects(at, subjects) => items::set_subjects(connection, at, subjects),
        EncodedMutation::RequeueItem(at) => items::requeue(connection, at),
        EncodedMutation::Audit(entry) => audit::append(tx, entry),
    }
}

/// Inserts a candidate with its identities, and a look-up for each other identity in its record.
fn insert_candidate(
    connection: &Connection,
    records: &RecordCodec,
    candidate: &CandidateRow,
    identities: &[Identity],
) -> Result<(), StoreError> {
    let CandidateRow { id, tenant, connection: name, state, created, modified, sealed, photo, group, lookups } =
        candidate;
    connection
        .prepare_cached(
            "INSERT INTO candidates (id, tenant, connection, state, created, modified, sealed, photo, group_index)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![id, tenant, name, state, created, modified, sealed, photo, group])?;
    let owner = IdentityOwner { id, tenant, connection: name };
    for lookup in lookups.iter().filter(|lookup| !identities.contains(&lookup.identity)) {
        insert_lookup(connection, owner, lookup)?;
    }
    identities.iter().try_for_each(|one| insert_identity(connection, owner, &records.identity(name, one)))
}

/// Updates a candidate. A candidate that is gone stays gone: a late outcome must not restore an erased person.
fn update_candidate(
    connection: &Connection,
    records: &RecordCodec,
    candidate: &CandidateRow,
) -> Result<(), StoreError> {
    let CandidateRow { id, tenant, connection: name, state, created: _, modified, sealed, photo, group, lookups } =
        candidate;
    let updated = connection
        .prepare_cached(
            "UPDATE candidates SET state = ?3, modified = ?4, sealed = ?5, photo = ?6, group_index = ?7
             WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![id, tenant, state, modified, sealed, photo, group])?;
    if updated == 0 {
        Ok(())
    } else {
        index(connection, records, IdentityOwner { id, tenant, connection: name }, lookups)
    }
}

/// Updates the look-ups of a candidate to its record. A claimed identity needs no look-up entry: a search covers the
/// identities as well, and each entry costs a page write.
fn index(
    connection: &Connection,
    records: &RecordCodec,
    owner: IdentityOwner<'_>,
    lookups: &[Lookup],
) -> Result<(), StoreError> {
    let IdentityOwner { id, tenant: _, connection: name } = owner;
    let (mut held, mut present) = (Vec::new(), Vec::new());
    let mut entries = connection.prepare_cached(
        "SELECT 1, blind, kind FROM identities WHERE candidate_id = ?1
         UNION ALL SELECT 0, blind, kind FROM lookups WHERE candidate_id = ?1",
    )?;
    let mut rows = entries.query([id])?;
    while let Some(row) = rows.next()? {
        let (is_identity, blind): (bool, BlindIndex) = (row.get(0)?, row.get(1)?);
        if is_identity { held.push(blind) } else { present.push((blind, row.get::<_, String>(2)?)) }
    }
    let is_held = |lookup: &Lookup| {
        !held.is_empty() && records.identity_forms(name, &lookup.identity).iter().any(|form| held.contains(form))
    };
    let wanted: Vec<&Lookup> = lookups.iter().filter(|lookup| !is_held(lookup)).collect();
    for (blind, kind) in &present {
        if !wanted.iter().any(|wanted| wanted.kind == kind && wanted.blind == *blind) {
            connection
                .prepare_cached("DELETE FROM lookups WHERE candidate_id = ?1 AND kind = ?2 AND blind = ?3")?
                .execute(params![id, kind, blind])?;
        }
    }
    for wanted in wanted {
        if !present.iter().any(|(blind, kind)| wanted.kind == kind && wanted.blind == *blind) {
            insert_lookup(connection, owner, wanted)?;
        }
    }
    Ok(())
}

fn insert_lookup(connection: &Connection, owner: IdentityOwner<'_>, lookup: &Lookup) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO lookups (candidate_id, kind, blind, tenant) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![owner.id, lookup.kind, lookup.blind, owner.tenant])?;
    Ok(())
}

fn stored_candidate(connection: &Connection, id: &CandidateId) -> Result<Option<SealedRow>, StoreError> {
    let sql = "SELECT id, tenant, connection, sealed FROM candidates WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([id.as_str()], statements::row).optional()?)
}

/// Replaces the identities of a candidate. Does nothing if the candidate is gone.
fn set_identities(
    connection: &Connection,
    records: &RecordCodec,
    id: &CandidateId,
    identities: &[Identity],
) -> Result<(), StoreError> {
    let stored = stored_candidate(connection, id)?;
    let Some(stored) = stored else { return Ok(()) };
    let owner = IdentityOwner { id: id.as_str(), tenant: &stored.tenant, connection: &stored.connection };
    let candidate = records.candidate(&stored)?;
    let former = held_in_other_spelling(connection, records, owner, identities, &candidate.person)?;
    connection.prepare_cached("DELETE FROM identities WHERE candidate_id = ?1")?.execute([id.as_str()])?;
    for (identity, former) in identities.iter().zip(former) {
        // The primary key alone would miss an identity written under an earlier key.
        let is_free = holders(connection, records, owner.connection, identity)?.is_empty();
        let entry = match former {
            _ if is_free => records.identity(owner.connection, identity),
            Some(entry) => entry,
            None => return Err(StoreError::Conflict),
        };
        insert_identity(connection, owner, &entry)?;
    }
    // A released identity may still be in the record.
    index(connection, records, owner, &records.lookups(&candidate))
}

/// Erases a candidate; identities and look-ups are deleted with it (`ON DELETE CASCADE`).
fn erase_candidate(tx: &WriteContext<'_>, id: &CandidateId) -> Result<(), StoreError> {
    let WriteContext { connection, records, instance: _ } = tx;
    let stored = stored_candidate(connection, id)?;
    let candidate = stored.map(|stored| records.candidate(&stored)).transpose()?;
    let forms = candidate.as_ref().map(|candidate| records.person_forms(candidate));
    let unlinked = candidate
        .as_ref()
        .zip(forms.as_ref())
        .map(|(candidate, forms)| (candidate.connection.as_str(), candidate.tenant.as_str(), forms.as_slice()));
    let others =
        candidate.as_ref().map(|candidate| erasure::other_holders(tx, candidate)).transpose()?.unwrap_or_default();
    for stored in query::assignments_of(connection, id.as_str(), unlinked)? {
        let assignment = records.assignment(&stored)?;
        if is_of_another(&assignment, &others) {
            continue;
        }
        let erased = records.assignment_row(assignment.without_person(id))?;
        connection
            .prepare_cached("UPDATE assignments SET candidate_id = ?2, person = ?3, sealed = ?4 WHERE id = ?1")?
            .execute(params![erased.id, erased.candidate_id, erased.person, erased.sealed])?;
    }
    connection.prepare_cached("DELETE FROM candidates WHERE id = ?1")?.execute([id.as_str()])?;
    erasure::hand_over(tx, &others)
}

/// Writes an assignment, without the person if its candidate is gone.
fn put_assignment(tx: &WriteContext<'_>, assignment: &AssignmentRow) -> Result<(), StoreError> {
    let WriteContext { connection, records, instance: _ } = tx;
    if let Some(id) = &assignment.record.candidate_id
        && !connection.prepare_cached("SELECT 1 FROM candidates WHERE id = ?1")?.exists([id.as_str()])?
    {
        return write_assignment(connection, &records.erased_row(assignment, id)?);
    }
    write_assignment(connection, assignment)
}

/// Inserts or updates an assignment, but never overwrites another tenant's record. Keeps the stored subject, because an
/// erased record no longer contains it.
fn write_assignment(connection: &Connection, assignment: &AssignmentRow) -> Result<(), StoreError> {
    let AssignmentRow {
        record: _,
        id,
        tenant,
        connection: name,
        candidate_id,
        subject,
        person,
        assessment_ref,
        assessment,
        state,
        created,
        sealed,
    } = assignment;
    connection
        .prepare_cached(
            "INSERT INTO assignments
                 (id, tenant, connection, candidate_id, subject, assessment_ref, assessment, state, created, sealed, person)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE SET
                 connection = excluded.connection, candidate_id = excluded.candidate_id, person = excluded.person,
                 assessment_ref = excluded.assessment_ref, assessment = excluded.assessment,
                 state = excluded.state, created = excluded.created, sealed = excluded.sealed
             WHERE tenant = excluded.tenant",
        )?
        .execute(params![
            id,
            tenant,
            name,
            candidate_id,
            subject,
            assessment_ref,
            assessment,
            state,
            created,
            sealed,
            person
        ])?;
    Ok(())
}

/// Writes an intent, even for a record that is gone: no write is sent without its intent.
fn put_intent(tx: &WriteContext<'_>, intent: &IntentRow) -> Result<(), StoreError> {
    let IntentRow {
        record,
        tenant,
        connection: name,
        operation,
        subject,
        started,
        settle_from,
        due,
        attempts,
        in_flight,
        sealed,
    } = intent;
    let owner = in_flight.then_some(tx.instance);
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO intents
                 (record, tenant, connection, operation, started, settle_from, attempts, sealed, subject, owner, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            record,
            tenant,
            name,
            operation,
            started,
            settle_from,
            attempts,
            sealed,
            subject,
            owner,
            due
        ])?;
    Ok(())
}

/// Fails if this instance is no longer making the attempt.
fn require_attempt(tx: &WriteContext<'_>, record: &str, started: i64) -> Result<(), StoreError> {
    let held = tx
        .connection
        .prepare_cached("SELECT 1 FROM intents WHERE record = ?1 AND owner = ?2 AND started = ?3")?
        .exists(params![record, tx.instance, started])?;
    if held { Ok(()) } else { Err(StoreError::Superseded) }
}

fn delete_intent(connection: &Connection, record: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM intents WHERE record = ?1")?.execute([record])?;
    Ok(())
}
