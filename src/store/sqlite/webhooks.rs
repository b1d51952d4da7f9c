//! Webhooks and deliveries. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;
use crate::store::codec::{DeliveryRow, WebhookMutation, WebhookRow};
use crate::store::sqlite::items::MAX_PORTION;

/// Applies one change of a webhook.
pub(super) fn apply(connection: &Connection, change: &WebhookMutation) -> Result<(), StoreError> {
    match change {
        WebhookMutation::Put(row) => put(connection, row),
        WebhookMutation::Remove(tenant, id) => remove(connection, tenant, id),
        WebhookMutation::Scan(row) => {
            let scanned = connection
                .prepare_cached("UPDATE webhooks SET scanned = max(scanned, ?3) WHERE id = ?1 AND scanned = ?2")?
                .execute(params![row.id, row.before, row.scanned])?;
            if scanned == 0 { Err(StoreError::Superseded) } else { Ok(()) }
        }
        WebhookMutation::Health(row) => {
            connection
                .prepare_cached("UPDATE webhooks SET failures = ?2, failing_since = ?3, resume_at = ?4 WHERE id = ?1")?
                .execute(params![row.id, row.failures, row.failing_since, row.resume_at])?;
            Ok(())
        }
    }
}

/// Inserts the first version of a webhook, or replaces the version before; fails if that is not the stored one.
fn put(connection: &Connection, row: &WebhookRow) -> Result<(), StoreError> {
    let WebhookRow { id, tenant, version, scanned, failures, failing_since, resume_at, sealed } = row;
    let written = if *version == 1 {
        remove_deliveries_of_namesake(connection, id)?;
        connection
            .prepare_cached(
                "INSERT INTO webhooks (id, tenant, version, scanned, failures, failing_since, resume_at, sealed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            )?
            .execute(params![id, tenant, version, scanned, failures, failing_since, resume_at, sealed])?
    } else {
        connection
            .prepare_cached(
                "UPDATE webhooks SET version = ?3, sealed = ?4 WHERE id = ?1 AND tenant = ?2 AND version = ?3 - 1",
            )?
            .execute(params![id, tenant, version, sealed])?
    };
    if written == 0 { Err(StoreError::Superseded) } else { Ok(()) }
}

/// Removes what is left of an earlier webhook with this id.
fn remove_deliveries_of_namesake(connection: &Connection, id: &str) -> Result<(), StoreError> {
    if connection.prepare_cached("DELETE FROM removed_webhooks WHERE id = ?1")?.execute([id])? > 0 {
        connection.prepare_cached("DELETE FROM deliveries WHERE webhook = ?1")?.execute([id])?;
    }
    Ok(())
}

/// Removes a webhook. Its deliveries are gone with it, and are removed in portions later.
fn remove(connection: &Connection, tenant: &str, id: &str) -> Result<(), StoreError> {
    let removed = connection
        .prepare_cached("DELETE FROM webhooks WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id, tenant])?;
    if removed > 0 {
        connection.prepare_cached("INSERT OR IGNORE INTO removed_webhooks (id) VALUES (?1)")?.execute([id])?;
    }
    Ok(())
}

/// Inserts or updates a delivery, unless its webhook is gone.
pub(super) fn put_delivery(connection: &Connection, row: &DeliveryRow) -> Result<(), StoreError> {
    let DeliveryRow {
        id,
        tenant,
        webhook,
        event,
        sequence,
        event_type,
        assignment,
        state,
        step,
        due,
        created,
        attempts,
        ended,
    } = row;
    connection
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, webhook, event, sequence, type, assignment, state, step, due, created,
                 ended, attempts)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 FROM webhooks WHERE id = ?3 AND tenant = ?2
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, step = excluded.step, due = excluded.due,
                 ended = excluded.ended, attempts = excluded.attempts
             WHERE webhook = excluded.webhook",
        )?
        .execute(params![
            id, tenant, webhook, event, sequence, event_type, assignment, state, step, due, created, ended, attempts
        ])?;
    Ok(())
}

/// Removes a portion of the deliveries that ended before this time. Returns how many, and whether there may be more.
pub(super) fn purge_ended(connection: &Connection, before: i64) -> Result<(u64, bool), StoreError> {
    let gone = connection
        .prepare_cached(
            "DELETE FROM deliveries
             WHERE number IN (SELECT number FROM deliveries WHERE ended < ?1 ORDER BY ended LIMIT ?2)",
        )?
        .execute(params![before, portion()])?;
    Ok((gone as u64, gone == MAX_PORTION.rows))
}

/// Removes a portion of the deliveries of a webhook that is gone, as [`purge_ended`].
pub(super) fn purge_removed(connection: &Connection) -> Result<(u64, bool), StoreError> {
    let id: Option<String> = connection
        .prepare_cached("SELECT id FROM removed_webhooks LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok((0, false)) };
    let gone = connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE webhook = ?1 LIMIT ?2)",
        )?
        .execute(params![id, portion()])?;
    if gone < MAX_PORTION.rows {
        connection.prepare_cached("DELETE FROM removed_webhooks WHERE id = ?1")?.execute([id])?;
    }
    Ok((gone as u64, true))
}

fn portion() -> i64 {
    i64::try_from(MAX_PORTION.rows).unwrap_or(i64::MAX)
}
