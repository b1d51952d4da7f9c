//! Operations; their rows are in `items.rs`.

use sqlx::PgConnection;

use super::error::TxError;
use super::transaction::WriteContext;
use super::{items, keys, statements};
use crate::domain::operation::Operation;
use crate::store::codec::{KeyRow, OperationRow};
use crate::store::sql::{self, values};
use crate::store::{AcceptResult, KeyState};

/// Maximum operations selected for removal in one transaction.
const MAX_PURGED_OPERATIONS: i64 = 16;

/// Queues the operation unless its key forbids it; the caller then discards the operation.
pub(super) async fn accept(
    tx: &mut WriteContext<'_>,
    operation: &Operation,
    key: Option<&KeyRow>,
    take: i64,
) -> Result<AcceptResult, TxError> {
    if let Some(key) = key {
        keys::lock(tx, &keys::advisory_locks(std::iter::once(key))).await?;
        let state = keys::take(tx, &[(key, take)]).await?.pop().unwrap_or(Ok(KeyState::InProgress))?;
        let (result, reply) = tx.records.accept_under_key(&operation.id, state)?;
        let Some(reply) = reply else { return Ok(result) };
        tx.run(&reply).await?;
    }
    tx.run(&OperationRow::of(operation).update()).await?;
    Ok(AcceptResult::Queued)
}

/// Removes a portion of the rows, and the operation itself once its rows are gone. Returns whether all of it is gone.
pub(super) async fn discard(connection: &mut PgConnection, id: &str) -> Result<bool, TxError> {
    if items::remove_some(&mut *connection, id).await? {
        return Ok(false);
    }
    statements::execute(connection, sql::REMOVE_OPERATION, &values![id]).await?;
    Ok(true)
}

pub(super) async fn requeue(connection: &mut PgConnection, id: &str, accepted: i64) -> Result<(), TxError> {
    // Lock the row, so that the second of two concurrent retries finds it queued.
    let ended =
        sqlx::query("SELECT 1 FROM operations WHERE id = $1 AND state IN ('completed', 'cancelled') FOR UPDATE")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?;
    if ended.is_none() || items::requeue_ended(connection, id).await? == 0 {
        return Ok(());
    }
    statements::execute(connection, sql::QUEUE_AGAIN, &values![accepted, id]).await?;
    Ok(())
}

/// Selects some operations that ended before `finished` or whose receiving instance has ended, each with whether it had
/// ended. Hides them by the state `receiving`; the caller must discard them. Skips those that another replica has
/// locked.
pub(super) async fn over(connection: &mut PgConnection, finished: i64) -> Result<Vec<(String, bool)>, TxError> {
    let over = sqlx::query_as(
        "UPDATE operations SET state = 'receiving' WHERE id IN (
             SELECT id FROM operations
             WHERE finished < $1
                OR (state = 'receiving' AND owner IN (SELECT id FROM instances WHERE ended))
             LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id, finished IS NOT NULL",
    );
    Ok(over.bind(finished).bind(MAX_PURGED_OPERATIONS).fetch_all(connection).await?)
}
