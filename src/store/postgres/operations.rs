//! Operations; their rows are in `items.rs`.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use super::{items, keys};
use crate::domain::ids::OperationId;
use crate::domain::intent::StoredReply;
use crate::domain::operation::{Operation, Progress};
use crate::store::codec::{KeyRow, OperationRow};
use crate::store::{AcceptResult, ItemCounts, KeyState, Page};

/// Maximum operations selected for removal in one transaction.
const MAX_PURGED_OPERATIONS: i64 = 16;

/// Text that sorts after every id.
const AFTER_ALL: &str = "~";

pub(super) async fn open(hand: &mut WriteContext<'_>, operation: &Operation) -> Result<(), TxError> {
    let row = OperationRow::of(operation);
    sqlx::query(
        "INSERT INTO operations (id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling,
             total, created, started, finished, request_id, traceparent, owner, accepted)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(row.id)
    .bind(row.tenant)
    .bind(row.client)
    .bind(row.kind)
    .bind(row.connection)
    .bind(row.strict)
    .bind(row.fail_on_errors)
    .bind(row.state)
    .bind(row.cancelling)
    .bind(row.total)
    .bind(row.created)
    .bind(row.started)
    .bind(row.finished)
    .bind(row.request_id)
    .bind(row.traceparent)
    .bind(hand.instance)
    .bind(row.accepted)
    .execute(&mut *hand.connection)
    .await?;
    Ok(())
}

pub(super) async fn cancel(connection: &mut PgConnection, id: &str) -> Result<(), TxError> {
    let cancel = "UPDATE operations SET cancelling = true WHERE id = $1 AND state IN ('queued', 'running')";
    sqlx::query(cancel).bind(id).execute(connection).await?;
    Ok(())
}

/// Updates the mutable columns of an operation. Only [`requeue`] clears `cancelling`.
pub(super) async fn put(connection: &mut PgConnection, operation: &Operation) -> Result<(), TxError> {
    let row = OperationRow::of(operation);
    sqlx::query(
        "UPDATE operations SET connection = $2, fail_on_errors = $3, state = $4, total = $5, started = $6,
             finished = $7 WHERE id = $1",
    )
    .bind(row.id)
    .bind(row.connection)
    .bind(row.fail_on_errors)
    .bind(row.state)
    .bind(row.total)
    .bind(row.started)
    .bind(row.finished)
    .execute(connection)
    .await?;
    Ok(())
}

/// Queues the operation unless its key forbids it; the caller then discards the operation.
pub(super) async fn accept(
    hand: &mut WriteContext<'_>,
    operation: &Operation,
    key: Option<&KeyRow>,
    take: i64,
) -> Result<AcceptResult, TxError> {
    let accepted = match key {
        None => AcceptResult::Queued,
        Some(claim) => match keys::take(hand, claim, take).await? {
            KeyState::Mismatch => AcceptResult::KeyMismatch,
            KeyState::Completed(answer) => match *answer {
                StoredReply::Operation(id) => AcceptResult::Replayed(id),
                _ => AcceptResult::KeyMismatch,
            },
            KeyState::Acquired(key) | KeyState::Resumable(key, _) => {
                let sealed = hand.records.seal_reply(&key, StoredReply::Operation(operation.id.clone()))?;
                keys::answer(hand.connection, &key.token, &sealed).await?;
                AcceptResult::Queued
            }
            KeyState::InProgress => AcceptResult::KeyInProgress,
        },
    };
    if matches!(accepted, AcceptResult::Queued) {
        put(hand.connection, operation).await?;
    }
    Ok(accepted)
}

/// Removes a portion of the rows, and the operation itself once its rows are gone. Returns whether all of it is gone.
pub(super) async fn discard(connection: &mut PgConnection, id: &str) -> Result<bool, TxError> {
    if items::remove_some(&mut *connection, id).await? {
        return Ok(false);
    }
    sqlx::query("DELETE FROM operations WHERE id = $1").bind(id).execute(connection).await?;
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
    sqlx::query(
        "UPDATE operations SET state = 'queued', cancelling = false, finished = NULL, accepted = $2 WHERE id = $1",
    )
    .bind(id)
    .bind(accepted)
    .execute(connection)
    .await?;
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

pub(super) async fn one(
    pool: &PgPool,
    tenant: &str,
    id: &str,
) -> Result<Option<(OperationRow, Progress)>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling, total, created,
                started, finished, request_id, traceparent, coalesce(accepted, created)
         FROM operations WHERE id = $1 AND tenant = $2",
    )
    .bind(id)
    .bind(tenant)
    .fetch_optional(pool)
    .await?;
    let rows = row.iter().map(operation_row).collect::<Result<Vec<_>, _>>()?;
    Ok(with_progress(pool, rows).await?.pop())
}

pub(super) async fn page(
    pool: &PgPool,
    tenant: &str,
    page: &Page,
) -> Result<Vec<(OperationRow, Progress)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling, total, created,
                started, finished, request_id, traceparent, coalesce(accepted, created)
         FROM operations WHERE tenant = $1 AND state <> 'receiving' AND id < $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(tenant)
    .bind(page.after.as_deref().unwrap_or(AFTER_ALL))
    .bind(i64::try_from(page.limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    with_progress(pool, rows.iter().map(operation_row).collect::<Result<_, _>>()?).await
}

pub(super) async fn unfinished(
    pool: &PgPool,
    but: &[OperationId],
    of_each: usize,
) -> Result<Vec<OperationRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling, total, created,
                started, finished, request_id, traceparent, coalesce(accepted, created)
         FROM (
             SELECT *, row_number() OVER (
                 PARTITION BY connection, tenant, kind = 'program_employees' ORDER BY id) AS place
             FROM operations WHERE state IN ('queued', 'running') AND id <> ALL($1)) AS unfinished
         WHERE place <= $2 ORDER BY place, id",
    )
    .bind(but.iter().map(OperationId::as_str).collect::<Vec<_>>())
    .bind(i64::try_from(of_each).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    rows.iter().map(operation_row).collect()
}

/// Returns running operations with the number of their rows that have not ended.
pub(super) async fn running(pool: &PgPool) -> Result<Vec<(String, String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT o.id, o.connection, (SELECT count(*) FROM operation_items i
             WHERE i.operation = o.id AND i.state IN ('waiting', 'claimed'))
         FROM operations o WHERE o.state = 'running'",
    )
    .fetch_all(pool)
    .await
}

/// Counts the open rows of operations that have not ended.
pub(super) async fn open_items(pool: &PgPool) -> Result<ItemCounts, sqlx::Error> {
    let (waiting, claimed): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(items) FILTER (WHERE c.state = 'waiting'), 0)::bigint,
                coalesce(sum(items) FILTER (WHERE c.state = 'claimed'), 0)::bigint
         FROM operations o JOIN operation_counts c ON c.operation = o.id
         WHERE o.state IN ('receiving', 'queued', 'running')",
    )
    .fetch_one(pool)
    .await?;
    let count = |count| u64::try_from(count).unwrap_or(0);
    Ok(ItemCounts { waiting: count(waiting), claimed: count(claimed) })
}

async fn with_progress(pool: &PgPool, rows: Vec<OperationRow>) -> Result<Vec<(OperationRow, Progress)>, sqlx::Error> {
    let counts: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT operation, state, sum(items)::bigint FROM operation_counts WHERE operation = ANY($1)
         GROUP BY operation, state",
    )
    .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut by_operation: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for (operation, state, count) in counts {
        by_operation.entry(operation).or_default().push((state, count));
    }
    let told = rows.into_iter().map(|row| {
        let progress = row.progress(by_operation.remove(&row.id).unwrap_or_default());
        (row, progress)
    });
    Ok(told.collect())
}

fn operation_row(row: &PgRow) -> Result<OperationRow, sqlx::Error> {
    Ok(OperationRow {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        client: row.try_get(2)?,
        kind: row.try_get(3)?,
        connection: row.try_get(4)?,
        strict: row.try_get(5)?,
        fail_on_errors: row.try_get(6)?,
        state: row.try_get(7)?,
        cancelling: row.try_get(8)?,
        total: row.try_get(9)?,
        created: row.try_get(10)?,
        started: row.try_get(11)?,
        finished: row.try_get(12)?,
        request_id: row.try_get(13)?,
        traceparent: row.try_get(14)?,
        accepted: row.try_get(15)?,
    })
}
