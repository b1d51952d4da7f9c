//! Events, their numbering, and the states that they report.
//!
//! A transaction appends its events without a number; a later one numbers what is committed, one such transaction at a time. So
//! a number is visible only after all before it, and a transaction that is rolled back leaves no gap.

use std::collections::BTreeSet;

use sqlx::{PgConnection, Row as _};

use super::error::TxError;
use super::reports::hold_candidates;
use crate::store::codec::NewEventRow;
use crate::store::{ConnectionStateChange, StoreError};

/// Maximum events removed in one transaction.
const PORTION: i64 = 1_000;

/// Appends events, in order, to those without a number; leaves out those about candidates who were erased.
pub(super) async fn append(connection: &mut PgConnection, rows: &[&NewEventRow]) -> Result<(), TxError> {
    let about: BTreeSet<&str> = rows.iter().filter_map(|row| row.candidate.as_deref()).collect();
    let living = hold_candidates(connection, about).await?;
    let is_kept = |row: &&&NewEventRow| row.candidate.as_ref().is_none_or(|candidate| living.contains(candidate));
    let rows: Vec<&NewEventRow> = rows.iter().filter(is_kept).copied().collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO unnumbered_events (tenant, id, type, timestamp, connection, assignment, assessment_ref, data)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
             $8::text[])",
    )
    .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.event_type).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.timestamp).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.connection.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assignment.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.assessment_ref.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.data.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the next events without a number the next numbers of their tenants, at most `limit`; returns how many.
pub(super) async fn number(connection: &mut PgConnection, limit: usize) -> Result<u64, TxError> {
    // A statement of its own: the next one sees what the holder before has committed.
    sqlx::query("SELECT one FROM event_numbering FOR UPDATE").execute(&mut *connection).await?;
    let numbered = sqlx::query(
        "WITH taken AS (
             DELETE FROM unnumbered_events
             WHERE number = ANY(ARRAY(SELECT number FROM unnumbered_events ORDER BY number LIMIT $1)) RETURNING *),
         counted AS (SELECT tenant, count(*) AS items FROM taken GROUP BY tenant ORDER BY tenant),
         heads AS (
             INSERT INTO event_heads AS head (tenant, latest, removed) SELECT tenant, items, 0 FROM counted
             ON CONFLICT (tenant) DO UPDATE SET latest = head.latest + excluded.latest RETURNING tenant, latest)
         INSERT INTO events (tenant, sequence, id, type, timestamp, connection, assignment, assessment_ref, data)
         SELECT tenant, latest - items + row_number() OVER (PARTITION BY tenant ORDER BY number), id, type, timestamp,
             connection, assignment, assessment_ref, data
         FROM taken JOIN counted USING (tenant) JOIN heads USING (tenant)",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(numbered.bind(limit).execute(connection).await?.rows_affected())
}

/// Changes the last reported states of connections; fails if another writer has changed one meanwhile.
pub(super) async fn set_connection_states(
    connection: &mut PgConnection,
    changes: &[&ConnectionStateChange],
) -> Result<(), TxError> {
    for ConnectionStateChange { connection: name, before, state } in changes {
        let change = match before {
            None => {
                sqlx::query("INSERT INTO connection_states (connection, state) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(name)
                    .bind(state)
            }
            Some(before) => sqlx::query("UPDATE connection_states SET state = $2 WHERE connection = $1 AND state = $3")
                .bind(name)
                .bind(state)
                .bind(before),
        };
        if change.execute(&mut *connection).await?.rows_affected() == 0 {
            return Err(StoreError::Superseded.into());
        }
    }
    Ok(())
}

/// Removes a portion of the tenant's events up to this number, from the first on. Returns how many, and whether there are more.
pub(super) async fn purge(connection: &mut PgConnection, tenant: &str, until: i64) -> Result<(u64, bool), TxError> {
    let head = sqlx::query("SELECT removed FROM event_heads WHERE tenant = $1 FOR UPDATE").bind(tenant);
    let Some(head) = head.fetch_optional(&mut *connection).await? else { return Ok((0, false)) };
    let removed: i64 = head.try_get(0)?;
    let to = removed.saturating_add(PORTION).min(until);
    if to <= removed {
        return Ok((0, false));
    }
    let gone = sqlx::query("DELETE FROM events WHERE tenant = $1 AND sequence > $2 AND sequence <= $3")
        .bind(tenant)
        .bind(removed)
        .bind(to)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE event_heads SET removed = $2 WHERE tenant = $1")
        .bind(tenant)
        .bind(to)
        .execute(connection)
        .await?;
    Ok((gone.rows_affected(), to < until))
}
