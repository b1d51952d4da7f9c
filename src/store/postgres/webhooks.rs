//! Webhooks and deliveries.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::error::TxError;
use crate::store::StoreError;
use crate::store::codec::{DeliveryRow, WebhookMutation, WebhookRow};

/// Maximum deliveries removed in one transaction.
const PORTION: i64 = 1_000;

/// Applies changes of webhooks one by one, which are rare.
pub(super) async fn apply(connection: &mut PgConnection, changes: &[&WebhookMutation]) -> Result<(), TxError> {
    for change in changes {
        match change {
            WebhookMutation::Put(row) => put(connection, row).await?,
            WebhookMutation::Remove(tenant, id) => remove(connection, tenant, id).await?,
            WebhookMutation::Scan(row) => {
                let scan = sqlx::query(
                    "UPDATE webhooks SET scanned = greatest(scanned, $4) WHERE id = $1 AND version = $2 AND scanned = $3",
                );
                let scan = scan.bind(&row.id).bind(row.version).bind(row.before).bind(row.scanned);
                let scan = scan.execute(&mut *connection).await?;
                require_change(scan.rows_affected())?;
            }
            WebhookMutation::Health(row) => {
                let recorded = sqlx::query(
                    "UPDATE webhooks SET failures = $3, failing_since = $4, resume_at = $5 WHERE id = $1 AND version = $2",
                )
                .bind(&row.id)
                .bind(row.version)
                .bind(row.failures)
                .bind(row.failing_since)
                .bind(row.resume_at)
                .execute(&mut *connection)
                .await?;
                if recorded.rows_affected() == 0 {
                    let there = sqlx::query("SELECT 1 FROM webhooks WHERE id = $1").bind(&row.id);
                    if there.fetch_optional(&mut *connection).await?.is_some() {
                        return Err(StoreError::Superseded.into());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Inserts the first version of a webhook, or replaces the version before; fails if that is not the stored one.
async fn put(connection: &mut PgConnection, row: &WebhookRow) -> Result<(), TxError> {
    let WebhookRow { id, tenant, version, scanned, failures, failing_since, resume_at, sealed } = row;
    if *version > 1 {
        let replaced = sqlx::query(
            "UPDATE webhooks SET version = $3, sealed = $4 WHERE id = $1 AND tenant = $2 AND version = $3 - 1",
        )
        .bind(id)
        .bind(tenant)
        .bind(version)
        .bind(sealed)
        .execute(connection)
        .await?;
        return require_change(replaced.rows_affected());
    }
    let namesake = sqlx::query("SELECT 1 FROM removed_webhooks WHERE id = $1").bind(id);
    if namesake.fetch_optional(&mut *connection).await?.is_some() {
        return Err(StoreError::Superseded.into());
    }
    let inserted = sqlx::query(
        "INSERT INTO webhooks (id, tenant, version, scanned, failures, failing_since, resume_at, sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(tenant)
    .bind(version)
    .bind(scanned)
    .bind(failures)
    .bind(failing_since)
    .bind(resume_at)
    .bind(sealed)
    .execute(connection)
    .await?;
    require_change(inserted.rows_affected())
}

fn require_change(rows: u64) -> Result<(), TxError> {
    if rows == 0 { Err(StoreError::Superseded.into()) } else { Ok(()) }
}

/// Removes a webhook. Its deliveries are gone with it, and are removed in portions later.
async fn remove(connection: &mut PgConnection, tenant: &str, id: &str) -> Result<(), TxError> {
    sqlx::query(
        "WITH gone AS (DELETE FROM webhooks WHERE id = $1 AND tenant = $2 RETURNING id)
         INSERT INTO removed_webhooks (id) SELECT id FROM gone ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(tenant)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts first versions of deliveries and updates the versions before of others, unless their webhook is gone; fails if one of
/// those is not the stored version. Keeps the webhooks from being removed until the commit: a delivery that is written later
/// would never be removed. Keeps the deliveries, too, since retention may remove them: what is gone must not be inserted again.
pub(super) async fn put_deliveries(connection: &mut PgConnection, rows: &[&DeliveryRow]) -> Result<(), TxError> {
    // No two of them are the same delivery's. In the order of their ids, so that two writers do not wait for each other.
    let rows: BTreeMap<&str, &DeliveryRow> = rows.iter().map(|row| (row.id.as_str(), *row)).collect();
    let rows = || rows.values();
    let refused = sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT id, tenant FROM webhooks WHERE id = ANY($3) ORDER BY id FOR KEY SHARE),
         stored AS MATERIALIZED (
             SELECT id FROM deliveries WHERE id = ANY($17) ORDER BY id FOR UPDATE),
         written AS (
             INSERT INTO deliveries (id, tenant, webhook, event, sequence, type, assignment, state, step, due, created, ended,
                 attempts, connection, reason, version)
             SELECT given.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                 $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bytea[],
                 $14::text[], $15::text[], $16::bigint[])
                 AS given (id, tenant, webhook, event, sequence, type, assignment, state, step, due, created, ended,
                     attempts, connection, reason, version)
             WHERE EXISTS (SELECT 1 FROM held WHERE held.id = given.webhook AND held.tenant = given.tenant)
               AND (given.version = 1 OR EXISTS (SELECT 1 FROM stored WHERE stored.id = given.id))
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, step = excluded.step, due = excluded.due,
                 ended = excluded.ended, attempts = excluded.attempts, reason = excluded.reason, version = excluded.version
             WHERE deliveries.webhook = excluded.webhook AND deliveries.version = excluded.version - 1
             RETURNING id)
         SELECT 1 FROM unnest($1::text[], $2::text[], $3::text[]) AS given (id, tenant, webhook)
         WHERE EXISTS (SELECT 1 FROM held WHERE held.id = given.webhook AND held.tenant = given.tenant)
           AND NOT EXISTS (SELECT 1 FROM written WHERE written.id = given.id)
         LIMIT 1",
    )
    .bind(rows().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.webhook.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.event.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.sequence).collect::<Vec<_>>())
    .bind(rows().map(|row| row.event_type.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.assignment.as_deref()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.state.as_str()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.step).collect::<Vec<_>>())
    .bind(rows().map(|row| row.due).collect::<Vec<_>>())
    .bind(rows().map(|row| row.created).collect::<Vec<_>>())
    .bind(rows().map(|row| row.ended).collect::<Vec<_>>())
    .bind(rows().map(|row| row.attempts.as_slice()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.connection.as_deref()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.reason.as_deref()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.version).collect::<Vec<_>>())
    .bind(rows().filter(|row| row.version > 1).map(|row| row.id.as_str()).collect::<Vec<_>>())
    .fetch_optional(connection)
    .await?;
    if refused.is_some() { Err(StoreError::Superseded.into()) } else { Ok(()) }
}

/// Removes a portion of the deliveries that ended before this time. Returns how many, and whether there may be more.
pub(super) async fn purge_ended(connection: &mut PgConnection, before: i64) -> Result<(u64, bool), TxError> {
    let purge = sqlx::query(
        "DELETE FROM deliveries WHERE id = ANY(ARRAY(
             SELECT id FROM deliveries WHERE ended < $1 ORDER BY ended LIMIT $2 FOR UPDATE SKIP LOCKED))",
    );
    let gone = purge.bind(before).bind(PORTION).execute(connection).await?.rows_affected();
    Ok((gone, gone > 0))
}

/// Removes a portion of the deliveries of a webhook that is gone, as [`purge_ended`].
pub(super) async fn purge_removed(connection: &mut PgConnection) -> Result<(u64, bool), TxError> {
    let removed = sqlx::query("SELECT id FROM removed_webhooks ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED");
    let Some(removed) = removed.fetch_optional(&mut *connection).await? else { return Ok((0, false)) };
    let id: String = removed.try_get(0)?;
    Ok((purge_portion(connection, &id).await?, true))
}

/// Removes a portion of the deliveries of a webhook with this id that is gone. Returns how many, and whether there may be more.
pub(super) async fn purge_deliveries_of(connection: &mut PgConnection, id: &str) -> Result<(u64, bool), TxError> {
    let removed = sqlx::query("SELECT id FROM removed_webhooks WHERE id = $1 FOR UPDATE").bind(id);
    if removed.fetch_optional(&mut *connection).await?.is_none() {
        return Ok((0, false));
    }
    let gone = purge_portion(connection, id).await?;
    Ok((gone, gone > 0))
}

/// Removes a portion of the deliveries of a webhook that is gone, or, if there are none, the note of it. The caller holds it.
async fn purge_portion(connection: &mut PgConnection, id: &str) -> Result<u64, TxError> {
    let purge = sqlx::query(
        "DELETE FROM deliveries WHERE id = ANY(ARRAY(SELECT id FROM deliveries WHERE webhook = $1 ORDER BY id LIMIT $2))",
    );
    let gone = purge.bind(id).bind(PORTION).execute(&mut *connection).await?.rows_affected();
    if gone == 0 {
        sqlx::query("DELETE FROM removed_webhooks WHERE id = $1").bind(id).execute(connection).await?;
    }
    Ok(gone)
}
