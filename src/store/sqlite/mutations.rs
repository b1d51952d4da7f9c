//! Statements that write. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::{AssignmentRow, EncodedMutation, IntentRow, KeyRow, PreparedWriteRow, SealedRow};
use crate::store::sqlite::candidates::{erase_candidate, insert_candidate, set_identities, update_candidate};
use crate::store::sqlite::identities::own_holders;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{audit, events, items, keys, query, results, webhooks};

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
    let key = key.map(|key| Ok::<_, StoreError>((key, keys::uses(tx, key)?))).transpose()?;
    if key.as_ref().is_some_and(|(_, uses)| uses.is_used()) {
        return Ok(writes.iter().map(|_| BegunWrite::KeyInUse).collect());
    }
    let begun = writes.iter().map(|write| begin(tx, write)).collect::<Result<Vec<_>, _>>()?;
    if let (Some((key, uses)), Some(first), Some(BegunWrite::Written)) = (key, writes.first(), begun.first()) {
        keys::begin(tx, key, &uses, Some(&first.record))?;
    }
    Ok(begun)
}

/// Begins one write, unless an identity is held or its row is no longer waiting.
fn begin(tx: &WriteContext<'_>, write: &PreparedWriteRow) -> Result<BegunWrite, StoreError> {
    let connection = tx.connection;
    let PreparedWriteRow { record, tenant, new, item, mutations } = write;
    let mut held: Vec<String> = Vec::new();
    for (candidate, identity) in new.iter().flat_map(|(row, identities)| identities.iter().map(move |one| (row, one))) {
        let Some(holders) = own_holders(tx.read(), tenant, &candidate.connection, identity)? else {
            return Ok(BegunWrite::HeldByOtherTenant);
        };
        for holder in holders {
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
        insert_candidate(tx, candidate, identities)?;
    }
    mutations.iter().try_for_each(|mutation| apply(tx, mutation))?;
    Ok(BegunWrite::Written)
}

/// Applies one mutation.
pub(super) fn apply(tx: &WriteContext<'_>, change: &EncodedMutation) -> Result<(), StoreError> {
    let connection = tx.connection;
    match change {
        EncodedMutation::Candidate(candidate) => update_candidate(tx, candidate),
        EncodedMutation::Identities(id, identities) => set_identities(tx, id, identities),
        EncodedMutation::EraseCandidate(id) => erase_candidate(tx, id),
        EncodedMutation::Assignment(assignment) => put_assignment(tx, assignment),
        EncodedMutation::Intent(intent) => put_intent(tx, intent),
        EncodedMutation::RemoveIntent(record) => delete_intent(connection, record),
        EncodedMutation::RequireAttempt(record, started) => require_attempt(tx, record, *started),
        EncodedMutation::FreeKey(token) => keys::free(tx, token),
        EncodedMutation::Key(statement)
        | EncodedMutation::Operation(statement)
        | EncodedMutation::IndexGroup(statement) => tx.run(statement),
        EncodedMutation::ClaimItem(at, record, subjects) => items::claim(connection, at, record, subjects),
        EncodedMutation::EndItem(end) => items::end(connection, end),
        EncodedMutation::SetItemSubjects(at, subjects) => items::set_subjects(connection, at, subjects),
        EncodedMutation::RequeueItem(at, record) => items::requeue(connection, at, record),
        EncodedMutation::Result(change) => results::apply(tx, change),
        EncodedMutation::Webhook(change) => webhooks::apply(connection, change),
        EncodedMutation::Delivery(row) => webhooks::put_delivery(connection, row),
        EncodedMutation::ConnectionState(change) => events::set_connection_state(connection, change),
        EncodedMutation::Event(row) => events::append(tx, row),
        EncodedMutation::Audit(entry) => audit::append(tx, entry),
    }
}

/// Writes an assignment, without the person if its candidate is gone.
fn put_assignment(tx: &WriteContext<'_>, assignment: &AssignmentRow) -> Result<(), StoreError> {
    let WriteContext { connection, records, .. } = tx;
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
        participant,
        assessment_ref,
        assessment,
        state,
        created,
        sealed,
    } = assignment;
    connection
        .prepare_cached(
            "INSERT INTO assignments
                 (id, tenant, connection, candidate_id, subject, assessment_ref, assessment, state, created, sealed, person,
                  participant)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (id) DO UPDATE SET
                 connection = excluded.connection, candidate_id = excluded.candidate_id, person = excluded.person,
                 participant = excluded.participant,
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
            person,
            participant
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
