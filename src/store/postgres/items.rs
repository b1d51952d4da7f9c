//! The rows of operations.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, Postgres, Row as _};

use super::error::TxError;
use super::query::bytes;
use crate::domain::ids::OperationId;
use crate::domain::operation::{ItemId, ItemReport, ItemState};
use crate::store::codec::{ItemOutcomeRow, ItemRow, RecordCodec, ReportRow, index_column};
use crate::store::columns::FromColumns as _;
use crate::store::{Window, WindowedRows};

/// Maximum rows skipped or removed in one transaction, and maximum bytes removed: no statement exceeds the statement
/// timeout of the server.
const MAX_ROWS: i64 = 5_000;
const MAX_BYTES: i64 = 32 << 20;

pub(super) async fn add(connection: &mut PgConnection, rows: &[ItemRow]) -> Result<(), TxError> {
    sqlx::query(
        "INSERT INTO operation_items (operation, position, state, record, request, secret, ended, mark, refused)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[],
             $8::bytea[], $9::boolean[])",
    )
    .bind(rows.iter().map(|row| row.operation.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.index).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.record.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.request.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.secret.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.end.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.mark.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.refused).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims those rows that are waiting, and returns them. Locks them in order, so that two transactions do not deadlock.
pub(super) async fn claim(
    connection: &mut PgConnection,
    rows: &[(&ItemId, &str, &[u8])],
) -> Result<HashSet<(String, u64)>, TxError> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let claimed = sqlx::query(
        "WITH waiting AS MATERIALIZED (
             SELECT item.operation, item.position, claim.record, claim.subjects
             FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[])
                 AS claim (operation, position, record, subjects)
             JOIN operation_items item USING (operation, position)
             WHERE item.state = 'waiting' ORDER BY item.operation, item.position FOR UPDATE OF item
         )
         UPDATE operation_items AS item SET state = 'claimed', record = waiting.record, subjects = waiting.subjects,
             secret = NULL
         FROM waiting WHERE item.operation = waiting.operation AND item.position = waiting.position
         RETURNING item.operation, item.position",
    )
    .bind(rows.iter().map(|(at, ..)| at.operation.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(at, ..)| index_column(at.index)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, record, _)| *record).collect::<Vec<_>>())
    .bind(rows.iter().map(|(.., subjects)| *subjects).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let id = |row: PgRow| Ok((row.try_get(0)?, u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0)));
    Ok(claimed.into_iter().map(id).collect::<Result<_, sqlx::Error>>()?)
}

pub(super) async fn end(connection: &mut PgConnection, rows: &[&ItemOutcomeRow]) -> Result<(), TxError> {
    sqlx::query(
        "UPDATE operation_items AS item SET state = given.state, record = coalesce(given.record, item.record),
             ended = given.ended, secret = CASE WHEN given.keeps_secret THEN item.secret END
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::boolean[], $7::text[])
             AS given (operation, position, state, record, ended, keeps_secret, required)
         WHERE item.operation = given.operation AND item.position = given.position
           AND (given.required IS NULL OR item.state = given.required)",
    )
    .bind(rows.iter().map(|row| row.at.operation.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| index_column(row.at.index)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.record.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.end.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.keeps_secret).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.only).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn set_subjects(connection: &mut PgConnection, rows: &[(&ItemId, &[u8])]) -> Result<(), TxError> {
    sqlx::query(
        "UPDATE operation_items AS item SET subjects = given.subjects
         FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS given (operation, position, subjects)
         WHERE item.operation = given.operation AND item.position = given.position",
    )
    .bind(rows.iter().map(|(at, _)| at.operation.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(at, _)| index_column(at.index)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, subjects)| *subjects).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns rows to waiting. Locks their operations: either this transaction sees a cancellation request, or the
/// canceller sees the rows waiting.
pub(super) async fn requeue(connection: &mut PgConnection, rows: &[(&ItemId, &str)]) -> Result<(), TxError> {
    let operations: BTreeSet<&str> = rows.iter().map(|(at, _)| at.operation.as_str()).collect();
    let cancelling: Vec<String> =
        sqlx::query_as("SELECT id, cancelling FROM operations WHERE id = ANY($1) ORDER BY id FOR SHARE")
            .bind(operations.into_iter().collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?
            .into_iter()
            .filter_map(|(id, cancelling): (String, bool)| cancelling.then_some(id))
            .collect();
    sqlx::query(
        "UPDATE operation_items AS item SET record = NULL, ended = NULL,
             state = CASE WHEN item.operation = ANY($3) THEN 'skipped' ELSE 'waiting' END
         FROM unnest($1::text[], $2::bigint[], $4::text[]) AS given (operation, position, record)
         WHERE item.operation = given.operation AND item.position = given.position AND item.record = given.record
           AND item.state IN ('waiting', 'claimed', 'not_applied')",
    )
    .bind(rows.iter().map(|(at, _)| at.operation.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(at, _)| index_column(at.index)).collect::<Vec<_>>())
    .bind(cancelling)
    .bind(rows.iter().map(|(_, record)| *record).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Skips some of the waiting rows. Returns how many; 0 when none is left.
pub(super) async fn skip_waiting(connection: &mut PgConnection, operation: &str) -> Result<u64, TxError> {
    let skipped = sqlx::query(
        "WITH part AS MATERIALIZED (
             SELECT operation, position FROM operation_items
             WHERE operation = $1 AND state = 'waiting' AND length(state) > 0 ORDER BY position LIMIT $2 FOR UPDATE)
         UPDATE operation_items AS item SET state = 'skipped'
         FROM part WHERE item.operation = part.operation AND item.position = part.position",
    );
    Ok(skipped.bind(operation).bind(MAX_ROWS).execute(connection).await?.rows_affected())
}

/// Removes some rows of an operation. Returns whether there were any.
pub(super) async fn remove_some(connection: &mut PgConnection, operation: &str) -> Result<bool, TxError> {
    let removed = sqlx::query(
        "WITH part AS (
             SELECT position, octet_length(request) + coalesce(octet_length(ended), 0) AS bytes FROM operation_items
             WHERE operation = $1 ORDER BY position LIMIT $2
         ), measured AS (SELECT position, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM part)
         DELETE FROM operation_items WHERE operation = $1 AND position <= (
             SELECT max(position) FROM measured WHERE before < $3)",
    );
    let removed = removed.bind(operation).bind(MAX_ROWS).bind(MAX_BYTES).execute(connection).await?;
    Ok(removed.rows_affected() > 0)
}

/// Returns the rows of an ended operation to waiting; returns how many. A row keeps its previous outcome until it ends
/// again, so that an unreadable row gets it back.
pub(super) async fn requeue_ended(connection: &mut PgConnection, operation: &str) -> Result<u64, TxError> {
    let waiting = sqlx::query(
        "UPDATE operation_items SET
             record = CASE WHEN state = 'unknown' THEN record END,
             subjects = CASE WHEN state = 'unknown' THEN subjects END,
             state = 'waiting'
         WHERE operation = $1 AND state IN ('not_applied', 'skipped', 'unknown') AND NOT refused",
    )
    .bind(operation)
    .execute(connection)
    .await?;
    Ok(waiting.rows_affected())
}

/// Builds the statement that reads rows in order from a position on. There are two, because the plans for all states
/// and for some states differ: `length(state) > 0` permits the index of states (`migrations/0009_rows.sql`).
macro_rules! of_items {
    ($before:literal, $after:literal, $states:expr) => {
        if $states.is_empty() {
            sqlx::query(concat!($before, "operation = $1 AND position >= $2", $after))
        } else {
            sqlx::query(concat!(
                $before,
                "operation = $1 AND position >= $2 AND state = ANY($5) AND length(state) > 0",
                $after
            ))
        }
    };
}

/// Reads an operation's rows in these states (all if empty) from this position on, in order. Reads the long columns
/// only of the rows that fit the window.
pub(super) async fn list(
    pool: &PgPool,
    operation: &str,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Result<Vec<ItemRow>, sqlx::Error> {
    let query = of_items!(
        "WITH part AS (SELECT position, octet_length(request) AS bytes FROM operation_items WHERE ",
        " ORDER BY position LIMIT $3),
         measured AS (SELECT position, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM part)
         SELECT operation, position, state, record, request, secret, ended, refused FROM measured JOIN operation_items
             USING (position) WHERE operation = $1 AND before < $4 ORDER BY position",
        states
    );
    let rows = bound(query, operation, states, from, most).fetch_all(pool).await?;
    rows.iter().map(ItemRow::from_columns).collect()
}

/// Reads reports of rows; opens each row before it reads the next.
pub(super) async fn reports(
    pool: &PgPool,
    records: &RecordCodec,
    id: &OperationId,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Result<WindowedRows<ItemReport>, TxError> {
    let query = of_items!(
        "SELECT position, state, record, ended, mark, CASE WHEN mark IS NULL THEN request END, refused, $4::bigint
         FROM operation_items WHERE ",
        " ORDER BY position LIMIT $3",
        states
    );
    let mut rows = bound(query, id.as_str(), states, from, most).fetch(pool);
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < most.bytes
        && let Some(row) = rows.try_next().await?
    {
        let stored = ReportRow {
            index: row.try_get(0)?,
            state: row.try_get(1)?,
            record: row.try_get(2)?,
            end: row.try_get(3)?,
            mark: row.try_get(4)?,
            request: row.try_get(5)?,
            refused: row.try_get(6)?,
        };
        bytes = bytes.saturating_add(stored.bytes());
        found.push(records.item_report(id, stored)?);
    }
    Ok(WindowedRows { more: bytes >= most.bytes || found.len() == most.rows, rows: found })
}

fn bound<'q>(
    query: Query<'q, Postgres, PgArguments>,
    operation: &'q str,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Query<'q, Postgres, PgArguments> {
    let query = query.bind(operation).bind(index_column(from));
    let query = query.bind(i64::try_from(most.rows).unwrap_or(i64::MAX)).bind(bytes(most.bytes));
    if states.is_empty() { query } else { query.bind(states.iter().map(|state| state.as_str()).collect::<Vec<_>>()) }
}
