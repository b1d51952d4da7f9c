//! Operations; their rows are in `items.rs`.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::ids::OperationId;
use crate::domain::operation::Operation;
use crate::store::codec::{KeyRow, OperationRow};
use crate::store::sql::{self, values};
use crate::store::sqlite::items::{MAX_PORTION, portion};
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{keys, statements};
use crate::store::{AcceptResult, StoreError, Window};

/// Queues the operation unless its key forbids it; the caller then discards the operation.
pub(super) fn accept(
    tx: &WriteContext<'_>,
    operation: &Operation,
    key: Option<&KeyRow>,
) -> Result<AcceptResult, StoreError> {
    if let Some(key) = key {
        let (result, reply) = tx.records.accept_under_key(&operation.id, keys::take(tx, key)?)?;
        let Some(reply) = reply else { return Ok(result) };
        tx.run(&reply)?;
    }
    tx.run(&OperationRow::of(operation).update())?;
    Ok(AcceptResult::Queued)
}

/// Maximum operations from which one transaction removes rows.
const MAX_PURGED_OPERATIONS: usize = 64;

/// Removes a portion of the rows, and the operation itself once its rows are gone. Returns what is then left of the
/// portion, or `None` if it is used up.
fn remove(connection: &Connection, id: &str, mut left: Window) -> Result<Option<Window>, StoreError> {
    while let Some((last, after)) = portion(connection, id, -1, None, left)? {
        connection
            .prepare_cached("DELETE FROM operation_items WHERE operation = ?1 AND position <= ?2")?
            .execute(params![id, last])?;
        left = after;
        if left.rows == 0 || left.bytes == 0 {
            return Ok(None);
        }
    }
    statements::execute(connection, sql::REMOVE_OPERATION, &values![id])?;
    Ok(Some(left))
}

/// Removes a portion of an operation. Returns whether all of it is gone.
pub(super) fn discard(connection: &Connection, id: &OperationId) -> Result<bool, StoreError> {
    Ok(remove(connection, id.as_str(), MAX_PORTION)?.is_some())
}

/// Returns rows to waiting. A row keeps its previous outcome until it ends again, so that an unreadable row gets it
/// back.
pub(super) fn requeue(connection: &Connection, id: &str, accepted: i64) -> Result<(), StoreError> {
    let waiting = connection
        .prepare_cached(
            "UPDATE operation_items SET
                 record = CASE WHEN state = 'unknown' THEN record END,
                 subjects = CASE WHEN state = 'unknown' THEN subjects END,
                 state = 'waiting'
             WHERE operation = ?1 AND state IN ('not_applied', 'skipped', 'unknown') AND NOT refused
               AND EXISTS (SELECT 1 FROM operations WHERE id = ?1 AND state IN ('completed', 'cancelled'))",
        )?
        .execute([id])?;
    if waiting == 0 {
        return Ok(());
    }
    statements::execute(connection, sql::QUEUE_AGAIN, &values![accepted, id])?;
    Ok(())
}

/// Removes a portion of the operations that ended before `finished` and of those whose receiving instance has ended.
/// Returns how many of the former are gone, and whether there may be more. Hides an operation with its first portion by
/// the state `receiving`.
pub(super) fn purge(connection: &Connection, finished: i64) -> Result<(u64, bool), StoreError> {
    let (mut gone, mut left) = (0, MAX_PORTION);
    for _ in 0..MAX_PURGED_OPERATIONS {
        let over = connection
            .prepare_cached(
                "SELECT id, coalesce(finished < ?1, 0) FROM operations WHERE finished < ?1
                 UNION ALL
                 SELECT id, 0 FROM operations WHERE state = 'receiving' AND finished IS NULL
                     AND owner IN (SELECT id FROM instances WHERE ended = 1)
                 LIMIT 1",
            )?
            .query_row([finished], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))
            .optional()?;
        let Some((id, was_finished)) = over else { return Ok((gone, false)) };
        connection.prepare_cached("UPDATE operations SET state = 'receiving' WHERE id = ?1")?.execute([&id])?;
        let Some(after) = remove(connection, &id, left)? else { break };
        gone += u64::from(was_finished);
        left = after;
    }
    Ok((gone, true))
}
