//! Operations and their rows.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::keys;
use crate::domain::ids::OperationId;
use crate::domain::intent::StoredReply;
use crate::domain::operation::{ItemReport, ItemState, Operation, Progress};
use crate::store::codec::operations::running as running_row;
use crate::store::codec::{ItemOutcomeRow, ItemRow, KeyRow, OperationRow, RecordCodec, ReportRow, index_column};
use crate::store::{AcceptResult, ItemCounts, KeyState, Page, RunningOperation, StoreError, Window, WindowedRows};

const COLUMNS: &str = "id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling, total, created, \
                       started, finished, request_id, traceparent, coalesce(accepted, created)";

pub(super) fn open(connection: &Connection, operation: &Operation, instance: &str) -> Result<(), StoreError> {
    let row = OperationRow::of(operation);
    connection
        .prepare_cached(
            "INSERT INTO operations (id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling,
                 total, created, started, finished, request_id, traceparent, owner, accepted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            row.id,
            row.tenant,
            row.client,
            row.kind,
            row.connection,
            row.strict,
            row.fail_on_errors,
            row.state,
            row.cancelling,
            row.total,
            row.created,
            row.started,
            row.finished,
            row.request_id,
            row.traceparent,
            instance,
            row.accepted
        ])?;
    Ok(())
}

pub(super) fn cancel(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE operations SET cancelling = 1 WHERE id = ?1 AND state IN ('queued', 'running')")?
        .execute([id])?;
    Ok(())
}

/// Updates the mutable columns of an operation. Only [`requeue`] clears `cancelling`.
pub(super) fn put(connection: &Connection, operation: &Operation) -> Result<(), StoreError> {
    let row = OperationRow::of(operation);
    connection
        .prepare_cached(
            "UPDATE operations SET connection = ?2, fail_on_errors = ?3, state = ?4, total = ?5, started = ?6,
                 finished = ?7 WHERE id = ?1",
        )?
        .execute(params![
            row.id,
            row.connection,
            row.fail_on_errors,
            row.state,
            row.total,
            row.started,
            row.finished
        ])?;
    Ok(())
}

pub(super) fn add_items(connection: &Connection, items: &[ItemRow]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO operation_items (operation, position, state, record, request, secret, ended, mark, refused)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut added: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for ItemRow { operation, index, state, record, request, secret, end, mark, refused } in items {
        statement.execute(params![operation, index, state, record, request, secret, end, mark, refused])?;
        *added.entry((operation, state)).or_default() += 1;
    }
    let mut counted = connection.prepare_cached(
        "INSERT INTO operation_counts (operation, state, items) VALUES (?1, ?2, ?3)
         ON CONFLICT (operation, state) DO UPDATE SET items = items + excluded.items",
    )?;
    for ((operation, state), items) in added {
        counted.execute(params![operation, state, items])?;
    }
    Ok(())
}

/// Queues the operation unless its key forbids it; the caller then discards the operation.
pub(super) fn accept(
    connection: &Connection,
    records: &RecordCodec,
    operation: &Operation,
    key: Option<&KeyRow>,
    instance: &str,
) -> Result<AcceptResult, StoreError> {
    let accepted = match key {
        None => AcceptResult::Queued,
        Some(claim) => match keys::take(connection, records, claim, instance)? {
            KeyState::Mismatch => AcceptResult::KeyMismatch,
            KeyState::Completed(answer) => match *answer {
                StoredReply::Operation(id) => AcceptResult::Replayed(id),
                _ => AcceptResult::KeyMismatch,
            },
            KeyState::Acquired(key) | KeyState::Resumable(key, _) => {
                let sealed = records.seal_reply(&key, StoredReply::Operation(operation.id.clone()))?;
                keys::answer(connection, &key.token, &sealed)?;
                AcceptResult::Queued
            }
            KeyState::InProgress => AcceptResult::KeyInProgress,
        },
    };
    if matches!(accepted, AcceptResult::Queued) {
        put(connection, operation)?;
    }
    Ok(accepted)
}

/// Limits of a change to many rows in one transaction; small, because other writers wait for it.
const MAX_PORTION: Window = Window { rows: 1_000, bytes: 2 << 20 };

/// Maximum operations from which one transaction removes rows.
const MAX_PURGED_OPERATIONS: usize = 64;

/// Returns the position of the last row that fits the rest of a portion, and what is then left of the portion; `None`
/// if no row is left.
fn portion(
    connection: &Connection,
    id: &str,
    state: Option<ItemState>,
    left: Window,
) -> Result<Option<(i64, Window)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, length(request) + coalesce(length(ended), 0) FROM operation_items
         WHERE operation = ?1 AND (?2 IS NULL OR state = ?2) ORDER BY position LIMIT ?3",
    )?;
    let limit = i64::try_from(left.rows).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, state.map(ItemState::as_str), limit])?;
    let (mut last, mut left) = (None, left);
    while left.bytes > 0
        && let Some(row) = rows.next()?
    {
        let bytes = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        left = Window { rows: left.rows.saturating_sub(1), bytes: left.bytes.saturating_sub(bytes) };
        last = Some(row.get(0)?);
    }
    Ok(last.map(|last| (last, left)))
}

/// Removes a portion of the rows, and the operation itself once its rows are gone. Returns what is then left of the
/// portion, or `None` if it is used up.
fn remove(connection: &Connection, id: &str, mut left: Window) -> Result<Option<Window>, StoreError> {
    while let Some((last, after)) = portion(connection, id, None, left)? {
        connection
            .prepare_cached("DELETE FROM operation_items WHERE operation = ?1 AND position <= ?2")?
            .execute(params![id, last])?;
        left = after;
        if left.rows == 0 || left.bytes == 0 {
            return Ok(None);
        }
    }
    connection.prepare_cached("DELETE FROM operations WHERE id = ?1")?.execute([id])?;
    Ok(Some(left))
}

/// Removes a portion of an operation. Returns whether all of it is gone.
pub(super) fn discard(connection: &Connection, id: &OperationId) -> Result<bool, StoreError> {
    Ok(remove(connection, id.as_str(), MAX_PORTION)?.is_some())
}

pub(super) fn one(
    connection: &Connection,
    tenant: &str,
    id: &str,
) -> Result<Option<(OperationRow, Progress)>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM operations WHERE id = ?1 AND tenant = ?2");
    let row = connection.prepare_cached(&sql)?.query_row([id, tenant], operation_row).optional()?;
    row.map(|row| with_progress(connection, row)).transpose()
}

pub(super) fn page(
    connection: &Connection,
    tenant: &str,
    page: &Page,
) -> Result<Vec<(OperationRow, Progress)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM operations WHERE tenant = ?1 AND state <> 'receiving' AND (?2 IS NULL OR id < ?2)
         ORDER BY id DESC LIMIT ?3"
    );
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows: Vec<OperationRow> =
        statement.query_map(params![tenant, page.after, limit], operation_row)?.collect::<Result<_, _>>()?;
    rows.into_iter().map(|row| with_progress(connection, row)).collect()
}

pub(super) fn unfinished(
    connection: &Connection,
    but: &[OperationId],
    of_each: usize,
) -> Result<Vec<OperationRow>, StoreError> {
    let places = vec!["?"; but.len()].join(", ");
    // Not cached: the statement has one variant per number of active operations.
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM (
             SELECT *, row_number() OVER (
                 PARTITION BY connection, tenant, kind = 'program_employees' ORDER BY id) AS place
             FROM operations WHERE state IN ('queued', 'running') AND id NOT IN ({places}))
         WHERE place <= ? ORDER BY place, id"
    ))?;
    let values = but.iter().map(|id| Value::from(id.to_string()));
    let values = values.chain([Value::from(i64::try_from(of_each).unwrap_or(i64::MAX))]);
    let rows = statement.query_map(params_from_iter(values), operation_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns running operations with the number of their rows that have not ended.
pub(super) fn running(connection: &Connection) -> Result<Vec<RunningOperation>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT o.id, o.connection, coalesce(sum(c.items) FILTER (WHERE c.state IN ('waiting', 'claimed')), 0)
         FROM operations o LEFT JOIN operation_counts c ON c.operation = o.id
         WHERE o.state = 'running' GROUP BY o.id",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
    rows.map(|row| {
        row.map_err(StoreError::from).and_then(|(id, connection, pending)| running_row(&id, connection, pending))
    })
    .collect()
}

/// Counts the open rows of operations that have not ended.
pub(super) fn open_items(connection: &Connection) -> Result<ItemCounts, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(sum(items) FILTER (WHERE c.state = 'waiting'), 0),
                coalesce(sum(items) FILTER (WHERE c.state = 'claimed'), 0)
         FROM operations o JOIN operation_counts c ON c.operation = o.id
         WHERE o.state IN ('receiving', 'queued', 'running')",
    )?;
    let count =
        |row: &rusqlite::Row<'_>, at| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0));
    Ok(statement.query_row([], |row| Ok(ItemCounts { waiting: count(row, 0)?, claimed: count(row, 1)? }))?)
}

pub(super) fn items(
    connection: &Connection,
    id: &str,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Result<Vec<ItemRow>, StoreError> {
    let (sql, values) =
        of_items("operation, position, state, record, request, secret, ended, refused", id, states, from, most);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < most.bytes
        && let Some(row) = rows.next()?
    {
        let item = ItemRow {
            operation: row.get(0)?,
            index: row.get(1)?,
            state: row.get(2)?,
            record: row.get(3)?,
            request: row.get(4)?,
            secret: row.get(5)?,
            end: row.get(6)?,
            mark: Vec::new(),
            refused: row.get(7)?,
        };
        bytes = bytes.saturating_add(item.request.len());
        found.push(item);
    }
    Ok(found)
}

/// Reads reports of rows; opens each row before it reads the next.
pub(super) fn reports(
    connection: &Connection,
    records: &RecordCodec,
    id: &OperationId,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Result<WindowedRows<ItemReport>, StoreError> {
    let columns = "position, state, record, ended, mark, CASE WHEN mark IS NULL THEN request END, refused";
    let (sql, values) = of_items(columns, id.as_str(), states, from, most);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < most.bytes
        && let Some(row) = rows.next()?
    {
        let blob = |at| row.get_ref(at)?.as_blob_or_null().map_err(rusqlite::Error::from);
        let stored = ReportRow {
            index: row.get(0)?,
            state: row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?,
            record: row.get(2)?,
            end: blob(3)?,
            mark: blob(4)?,
            request: blob(5)?,
            refused: row.get(6)?,
        };
        bytes = bytes.saturating_add(stored.bytes());
        found.push(records.item_report(id, stored)?);
    }
    Ok(WindowedRows { more: bytes >= most.bytes || found.len() == most.rows, rows: found })
}

/// Builds the statement that reads these columns of rows in these states (all if empty), in order, with its values.
fn of_items(columns: &str, id: &str, states: &[ItemState], from: u64, most: Window) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {columns} FROM operation_items WHERE operation = ? AND position >= ?");
    let mut values = vec![Value::from(id.to_owned()), Value::from(index_column(from))];
    if !states.is_empty() {
        sql.push_str(" AND state IN (");
        sql.push_str(&vec!["?"; states.len()].join(", "));
        sql.push(')');
        values.extend(states.iter().map(|state| Value::from(state.as_str().to_owned())));
    }
    sql.push_str(" ORDER BY position LIMIT ?");
    values.push(Value::from(i64::try_from(most.rows).unwrap_or(i64::MAX)));
    (sql, values)
}

/// Returns the position and the concatenated subject hashes of each row.
pub(super) fn subjects(connection: &Connection, id: &str) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, subjects FROM operation_items WHERE operation = ?1 AND subjects IS NOT NULL ORDER BY position",
    )?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Claims a row. Fails if it was cancelled meanwhile.
pub(super) fn claim_item(
    connection: &Connection,
    operation: &str,
    index: u64,
    record: &str,
    subjects: &[u8],
) -> Result<(), StoreError> {
    let claimed = connection
        .prepare_cached(
            "UPDATE operation_items SET state = 'claimed', record = ?3, subjects = ?4, secret = NULL
             WHERE operation = ?1 AND position = ?2 AND state = 'waiting'",
        )?
        .execute(params![operation, index_column(index), record, subjects])?;
    if claimed == 0 { Err(StoreError::ItemNotWaiting) } else { Ok(()) }
}

pub(super) fn end_item(connection: &Connection, end: &ItemOutcomeRow) -> Result<(), StoreError> {
    let ItemOutcomeRow { at, state, record, end, keeps_secret, only } = end;
    connection
        .prepare_cached(
            "UPDATE operation_items SET state = ?3, record = coalesce(?4, record), ended = ?5,
                 secret = CASE WHEN ?6 THEN secret END
             WHERE operation = ?1 AND position = ?2 AND (?7 IS NULL OR state = ?7)",
        )?
        .execute(params![at.operation.as_str(), index_column(at.index), state, record, end, keeps_secret, only])?;
    Ok(())
}

pub(super) fn remember_item(
    connection: &Connection,
    operation: &str,
    index: u64,
    subjects: &[u8],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE operation_items SET subjects = ?3 WHERE operation = ?1 AND position = ?2")?
        .execute(params![operation, index_column(index), subjects])?;
    Ok(())
}

pub(super) fn requeue_item(connection: &Connection, operation: &str, index: u64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE operation_items SET record = NULL, ended = NULL,
                 state = CASE WHEN (SELECT cancelling FROM operations WHERE id = ?1) THEN 'skipped' ELSE 'waiting' END
             WHERE operation = ?1 AND position = ?2 AND state IN ('waiting', 'claimed', 'not_applied')",
        )?
        .execute(params![operation, index_column(index)])?;
    Ok(())
}

/// Skips a portion of the waiting rows. Returns how many; 0 when none is left.
pub(super) fn skip_waiting(connection: &Connection, id: &str) -> Result<u64, StoreError> {
    let Some((last, _)) = portion(connection, id, Some(ItemState::Waiting), MAX_PORTION)? else { return Ok(0) };
    let skipped = connection
        .prepare_cached(
            "UPDATE operation_items SET state = 'skipped'
             WHERE operation = ?1 AND state = 'waiting' AND position <= ?2",
        )?
        .execute(params![id, last])?;
    Ok(skipped as u64)
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
    connection
        .prepare_cached(
            "UPDATE operations SET state = 'queued', cancelling = 0, finished = NULL, accepted = ?2 WHERE id = ?1",
        )?
        .execute(params![id, accepted])?;
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

fn with_progress(connection: &Connection, row: OperationRow) -> Result<(OperationRow, Progress), StoreError> {
    let mut statement = connection.prepare_cached("SELECT state, items FROM operation_counts WHERE operation = ?1")?;
    let counts = statement.query_map([&row.id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let progress = row.progress(counts.collect::<Result<Vec<_>, _>>()?);
    Ok((row, progress))
}

fn operation_row(row: &Row<'_>) -> rusqlite::Result<OperationRow> {
    Ok(OperationRow {
        id: row.get(0)?,
        tenant: row.get(1)?,
        client: row.get(2)?,
        kind: row.get(3)?,
        connection: row.get(4)?,
        strict: row.get(5)?,
        fail_on_errors: row.get(6)?,
        state: row.get(7)?,
        cancelling: row.get(8)?,
        total: row.get(9)?,
        created: row.get(10)?,
        started: row.get(11)?,
        finished: row.get(12)?,
        request_id: row.get(13)?,
        traceparent: row.get(14)?,
        accepted: row.get(15)?,
    })
}
