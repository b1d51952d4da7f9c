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
                .prepare_cached(
                    "UPDATE webhooks SET scanned = max(scanned, ?4) WHERE id = ?1 AND version = ?2 AND scanned = ?3",
                )?
                .execute(params![row.id, row.version, row.before, row.scanned])?;
            if scanned == 0 { Err(StoreError::Superseded) } else { Ok(()) }
        }
        WebhookMutation::Health(row) => {
            let recorded = connection
                .prepare_cached(
                    "UPDATE webhooks SET failures = ?3, failing_since = ?4, resume_at = ?5 WHERE id = ?1 AND version = ?2",
                )?
                .execute(params![row.id, row.version, row.failures, row.failing_since, row.resume_at])?;
            if recorded == 0 && exists(connection, &row.id)? { Err(StoreError::Superseded) } else { Ok(()) }
        }
    }
}

/// Inserts the first version of a webhook, or replaces the version before; fails if that is not the stored one.
fn put(connection: &Connection, row: &WebhookRow) -> Result<(), StoreError> {
    let WebhookRow { id, tenant, version, scanned, failures, failing_since, resume_at, sealed } = row;
    let written = if *version == 1 {
        let namesake = connection.prepare_cached("SELECT 1 FROM removed_webhooks WHERE id = ?1")?.exists([id])?;
        if namesake {
            return Err(StoreError::Superseded);
        }
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

/// Returns whether there is a webhook with this id.
fn exists(connection: &Connection, id: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("SELECT 1 FROM webhooks WHERE id = ?1")?.exists([id])?)
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

/// Inserts the first version of a delivery or updates the version before, unless its webhook is gone; fails if that is not the
/// stored version.
pub(super) fn put_delivery(connection: &Connection, row: &DeliveryRow) -> Result<(), StoreError> {
    let DeliveryRow {
        id,
        tenant,
        webhook,
        event,
        sequence,
        event_type,
        assignment,
        connection: event_connection,
        state,
        reason,
        step,
        due,
        created,
        attempts,
        version,
        ended,
    } = row;
    let written = if *version == 1 {
        connection
            .prepare_cached(
                "INSERT INTO deliveries (id, tenant, webhook, event, sequence, type, assignment, state, step, due, created,
                     ended, attempts, connection, reason, version)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16
                 FROM webhooks WHERE id = ?3 AND tenant = ?2
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
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
                ended,
                attempts,
                event_connection,
                reason,
                version
            ])?
    } else {
        connection
            .prepare_cached(
                "UPDATE deliveries SET state = ?4, step = ?5, due = ?6, ended = ?7, attempts = ?8, reason = ?9, version = ?10
                 WHERE id = ?1 AND webhook = ?3 AND version = ?10 - 1
                   AND EXISTS (SELECT 1 FROM webhooks WHERE id = ?3 AND tenant = ?2)",
            )?
            .execute(params![id, tenant, webhook, state, step, due, ended, attempts, reason, version])?
    };
    if written == 0 && exists(connection, webhook)? { Err(StoreError::Superseded) } else { Ok(()) }
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
    Ok((purge_deliveries_of(connection, &id)?.0, true))
}

/// Removes a portion of the deliveries of a webhook with this id that is gone. Returns how many, and whether there may be more.
pub(super) fn purge_deliveries_of(connection: &Connection, id: &str) -> Result<(u64, bool), StoreError> {
    if !connection.prepare_cached("SELECT 1 FROM removed_webhooks WHERE id = ?1")?.exists([id])? {
        return Ok((0, false));
    }
    let gone = connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE webhook = ?1 LIMIT ?2)",
        )?
        .execute(params![id, portion()])?;
    let more = gone >= MAX_PORTION.rows;
    if !more {
        connection.prepare_cached("DELETE FROM removed_webhooks WHERE id = ?1")?.execute([id])?;
    }
    Ok((gone as u64, more))
}

fn portion() -> i64 {
    i64::try_from(MAX_PORTION.rows).unwrap_or(i64::MAX)
}
