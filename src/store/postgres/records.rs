//! Statements that write assignments and intents, many rows at once.
//!
//! `IS NOT DISTINCT FROM` is `=` without an index: until a table is analysed the server takes any value to be rare, and
//! would read everything of one owner or tenant instead of the rows that are named.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::erasure;
use super::error::TxError;
use super::result_erasure;
use super::transaction::WriteContext;
use crate::domain::ids::CandidateId;
use crate::store::StoreError;
use crate::store::codec::{AssignmentRow, IntentRow, SealedRow, is_of_another};
use crate::store::columns::FromColumns as _;

/// Writes assignments, without the person if their candidate is gone. Locks the existing candidates until the commit,
/// so that they are not erased meanwhile.
pub(super) async fn put_assignments(tx: &mut WriteContext<'_>, rows: &[&AssignmentRow]) -> Result<(), TxError> {
    let named: Vec<&str> = rows.iter().filter_map(|row| row.candidate_id.as_deref()).collect();
    if named.is_empty() {
        return write_assignments(tx.connection, rows).await;
    }
    let living: HashSet<String> =
        sqlx::query_scalar::<_, String>("SELECT id FROM candidates WHERE id = ANY($1) ORDER BY id FOR KEY SHARE")
            .bind(&named)
            .fetch_all(&mut *tx.connection)
            .await?
            .into_iter()
            .collect();
    let gone = |id: &CandidateId| !living.contains(id.as_str());
    let mut erased = Vec::new();
    for row in rows {
        if let Some(id) = row.record.candidate_id.as_ref().filter(|id| gone(id)) {
            erased.push(tx.records.erased_row(row, id)?);
        }
    }
    let mut written: Vec<&AssignmentRow> = rows.to_vec();
    written.retain(|row| !row.record.candidate_id.as_ref().is_some_and(gone));
    written.extend(&erased);
    write_assignments(tx.connection, &written).await
}

/// Removes the candidate, and the person from its assignments.
pub(super) async fn erase_person(tx: &mut WriteContext<'_>, id: &CandidateId) -> Result<(), TxError> {
    let stored = sqlx::query("DELETE FROM candidates WHERE id = $1 RETURNING id, tenant, connection, sealed")
        .bind(id.as_str())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let stored = stored.as_ref().map(SealedRow::from_columns).transpose()?;
    let candidate = stored.map(|stored| tx.records.candidate(&stored)).transpose()?;
    let forms = candidate.as_ref().map_or_else(Vec::new, |candidate| tx.records.person_forms(candidate));
    let others = match &candidate {
        Some(candidate) => erasure::other_holders(tx, candidate).await?,
        None => Vec::new(),
    };
    let rows = sqlx::query(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE id = ANY(ARRAY(
                 SELECT id FROM assignments WHERE candidate_id = $1
                 UNION SELECT booked.id FROM unnest($2::text[], $3::bytea[]) AS known (connection, person)
                     JOIN assignments AS booked USING (connection, person) WHERE booked.person IS NOT NULL))
           AND (candidate_id IS NOT DISTINCT FROM $1 OR tenant IS NOT DISTINCT FROM $4)
         ORDER BY id FOR UPDATE",
    )
    .bind(id.as_str())
    .bind(forms.iter().map(|_| candidate.as_ref().map(|candidate| candidate.connection.as_str())).collect::<Vec<_>>())
    .bind(&forms)
    .bind(candidate.as_ref().map(|candidate| candidate.tenant.as_str()))
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut booked = Vec::with_capacity(rows.len());
    for row in rows {
        booked.push(tx.records.assignment(&SealedRow::from_columns(&row)?)?);
    }
    booked.retain(|assignment| !is_of_another(assignment, &others));
    result_erasure::erase_results(tx, id, candidate.as_ref(), &booked).await?;
    for assignment in booked {
        let erased = tx.records.assignment_row(assignment.without_person(id))?;
        sqlx::query("UPDATE assignments SET candidate_id = $2, person = $3, sealed = $4 WHERE id = $1")
            .bind(&erased.id)
            .bind(&erased.candidate_id)
            .bind(erased.person)
            .bind(&erased.sealed)
            .execute(&mut *tx.connection)
            .await?;
    }
    erasure::hand_over(tx, &others).await
}

/// Inserts or updates assignments, but never overwrites another tenant's record. Keeps the stored subject, because an
/// erased record no longer contains it.
async fn write_assignments(connection: &mut PgConnection, rows: &[&AssignmentRow]) -> Result<(), TxError> {
    sqlx::query(
        "INSERT INTO assignments
             (id, tenant, connection, candidate_id, subject, assessment_ref, assessment, state, created, sealed, person,
              participant)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
             $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bytea[])
         ON CONFLICT (id) DO UPDATE SET
             connection = excluded.connection, candidate_id = excluded.candidate_id, person = excluded.person,
             participant = excluded.participant,
             assessment_ref = excluded.assessment_ref, assessment = excluded.assessment,
             state = excluded.state, created = excluded.created, sealed = excluded.sealed
         WHERE assignments.tenant = excluded.tenant",
    )
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.candidate_id.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.subject).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assessment_ref.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assessment.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.created).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.person).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.participant.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes intents, even for records that are gone: no write is sent without its intent.
pub(super) async fn put_intents(tx: &mut WriteContext<'_>, rows: &[&IntentRow]) -> Result<(), TxError> {
    sqlx::query(
        "INSERT INTO intents
             (record, tenant, connection, operation, subject, started, settle_from, due, attempts, owner, sealed)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[], $7::bigint[],
             $8::bigint[], $9::bigint[], $10::text[], $11::bytea[])
         ON CONFLICT (record) DO UPDATE SET
             tenant = excluded.tenant, connection = excluded.connection, operation = excluded.operation,
             subject = excluded.subject, started = excluded.started, settle_from = excluded.settle_from,
             due = excluded.due, attempts = excluded.attempts, owner = excluded.owner, sealed = excluded.sealed",
    )
    .bind(rows.iter().map(|row| row.record.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.operation).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.subject).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.started).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.settle_from).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.due).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| i64::from(row.attempts)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.in_flight.then_some(tx.instance)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Fails if this instance is no longer making one of the attempts. Locks the intents until the end of the transaction.
pub(super) async fn hold_attempts(tx: &mut WriteContext<'_>, attempts: &[(&str, i64)]) -> Result<(), TxError> {
    let held = sqlx::query(
        "SELECT 1 FROM intents JOIN unnest($1::text[], $2::bigint[]) AS wanted (record, started) USING (record, started)
         WHERE owner IS NOT DISTINCT FROM $3 ORDER BY record FOR UPDATE OF intents",
    )
    .bind(attempts.iter().map(|(record, _)| *record).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, started)| *started).collect::<Vec<_>>())
    .bind(tx.instance)
    .fetch_all(&mut *tx.connection)
    .await?;
    if held.len() == attempts.len() { Ok(()) } else { Err(StoreError::Superseded.into()) }
}

/// Removes the intents of these attempts; fails if this instance is no longer making one of them.
pub(super) async fn conclude_attempts(tx: &mut WriteContext<'_>, attempts: &[(&str, i64)]) -> Result<(), TxError> {
    if attempts.is_empty() {
        return Ok(());
    }
    let removed = sqlx::query(
        "DELETE FROM intents USING unnest($1::text[], $2::bigint[]) AS made (record, started)
         WHERE intents.record = made.record AND intents.started = made.started
           AND intents.owner IS NOT DISTINCT FROM $3",
    )
    .bind(attempts.iter().map(|(record, _)| *record).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, started)| *started).collect::<Vec<_>>())
    .bind(tx.instance)
    .execute(&mut *tx.connection)
    .await?;
    if removed.rows_affected() == attempts.len() as u64 { Ok(()) } else { Err(StoreError::Superseded.into()) }
}

/// Removes the intents of these records.
pub(super) async fn settle(connection: &mut PgConnection, records: &[&str]) -> Result<(), TxError> {
    sqlx::query("DELETE FROM intents WHERE record = ANY($1)").bind(records).execute(connection).await?;
    Ok(())
}
