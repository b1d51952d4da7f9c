//! Assignments and intents: the statements that write, many rows at once.

use sqlx::PgConnection;

use super::error::Failed;
use super::transaction::Hand;
use crate::store::StoreError;
use crate::store::records::{AssignmentRow, IntentRow};

/// Another tenant's record is never written over.
pub(super) async fn put_assignments(connection: &mut PgConnection, rows: &[&AssignmentRow]) -> Result<(), Failed> {
    sqlx::query(
        "INSERT INTO assignments
             (id, tenant, connection, candidate_id, subject, assessment_ref, assessment, state, created, sealed)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
             $8::text[], $9::bigint[], $10::bytea[])
         ON CONFLICT (id) DO UPDATE SET
             connection = excluded.connection, candidate_id = excluded.candidate_id, subject = excluded.subject,
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
    .execute(connection)
    .await?;
    Ok(())
}

/// Written even for a record that is gone: no write leaves without its intent.
pub(super) async fn put_intents(hand: &mut Hand<'_>, rows: &[&IntentRow]) -> Result<(), Failed> {
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
    .bind(rows.iter().map(|row| row.under_way.then_some(hand.instance)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .execute(&mut *hand.connection)
    .await?;
    Ok(())
}

/// Refuses what concludes attempts that this instance is not making any more. The intents are locked until the end of the
/// transaction.
pub(super) async fn hold_attempts(hand: &mut Hand<'_>, attempts: &[(&str, i64)]) -> Result<(), Failed> {
    let held = sqlx::query(
        "SELECT 1 FROM intents JOIN unnest($1::text[], $2::bigint[]) AS wanted (record, started) USING (record, started)
         WHERE owner = $3 ORDER BY record FOR UPDATE OF intents",
    )
    .bind(attempts.iter().map(|(record, _)| *record).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, started)| *started).collect::<Vec<_>>())
    .bind(hand.instance)
    .fetch_all(&mut *hand.connection)
    .await?;
    if held.len() == attempts.len() { Ok(()) } else { Err(StoreError::Superseded.into()) }
}

/// Removes the intents of these records.
pub(super) async fn settle(connection: &mut PgConnection, records: &[&str]) -> Result<(), Failed> {
    sqlx::query("DELETE FROM intents WHERE record = ANY($1)").bind(records).execute(connection).await?;
    Ok(())
}
