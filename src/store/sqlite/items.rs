//! The rows of operations.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use crate::domain::ids::OperationId;
use crate::domain::operation::{ItemId, ItemReport, ItemState};
use crate::store::codec::{ItemOutcomeRow, ItemRow, ReportRow, index_column};
use crate::store::columns::FromColumns as _;
use crate::store::sqlite::read_context::ReadContext;
use crate::store::{StoreError, Window, WindowedRows};

/// Limits of a change to many rows in one transaction; small, because other writers wait for it.
pub(super) const MAX_PORTION: Window = Window { rows: 1_000, bytes: 2 << 20 };

pub(super) fn add(connection: &Connection, items: &[ItemRow]) -> Result<(), StoreError> {
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

/// Returns the position of the last row after this position that fits the rest of a portion, and what is then left of the
/// portion; `None` if no row is left.
pub(super) fn portion(
    connection: &Connection,
    id: &str,
    after: i64,
    state: Option<ItemState>,
    left: Window,
) -> Result<Option<(i64, Window)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, length(request) + coalesce(length(ended), 0) FROM operation_items
         WHERE operation = ?1 AND position > ?4 AND (?2 IS NULL OR state = ?2) ORDER BY position LIMIT ?3",
    )?;
    let limit = i64::try_from(left.rows).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, state.map(ItemState::as_str), limit, after])?;
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

pub(super) fn list(
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
        let item = ItemRow::from_columns(row)?;
        bytes = bytes.saturating_add(item.request.len());
        found.push(item);
    }
    Ok(found)
}

/// Reads reports of rows; opens each row before it reads the next.
pub(super) fn reports(
    read: ReadContext<'_>,
    id: &OperationId,
    states: &[ItemState],
    from: u64,
    most: Window,
) -> Result<WindowedRows<ItemReport>, StoreError> {
    let columns = "position, state, record, ended, mark, CASE WHEN mark IS NULL THEN request END, refused";
    let (sql, values) = of_items(columns, id.as_str(), states, from, most);
    let mut statement = read.connection.prepare_cached(&sql)?;
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
        found.push(read.records.item_report(id, stored)?);
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

/// Claims a row. Fails if it was cancelled meanwhile.
pub(super) fn claim(connection: &Connection, at: &ItemId, record: &str, subjects: &[u8]) -> Result<(), StoreError> {
    let claimed = connection
        .prepare_cached(
            "UPDATE operation_items SET state = 'claimed', record = ?3, subjects = ?4, secret = NULL
             WHERE operation = ?1 AND position = ?2 AND state = 'waiting'",
        )?
        .execute(params![at.operation.as_str(), index_column(at.index), record, subjects])?;
    if claimed == 0 { Err(StoreError::ItemNotWaiting) } else { Ok(()) }
}

pub(super) fn end(connection: &Connection, end: &ItemOutcomeRow) -> Result<(), StoreError> {
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

pub(super) fn set_subjects(connection: &Connection, at: &ItemId, subjects: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE operation_items SET subjects = ?3 WHERE operation = ?1 AND position = ?2")?
        .execute(params![at.operation.as_str(), index_column(at.index), subjects])?;
    Ok(())
}

pub(super) fn requeue(connection: &Connection, at: &ItemId, record: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE operation_items SET record = NULL, ended = NULL,
                 state = CASE WHEN (SELECT cancelling FROM operations WHERE id = ?1) THEN 'skipped' ELSE 'waiting' END
             WHERE operation = ?1 AND position = ?2 AND record = ?3 AND state IN ('waiting', 'claimed', 'not_applied')",
        )?
        .execute(params![at.operation.as_str(), index_column(at.index), record])?;
    Ok(())
}

/// Skips a portion of the waiting rows after this position. Returns how many, and the position of the last one; `None` when
/// none is left.
pub(super) fn skip_waiting(connection: &Connection, id: &str, after: i64) -> Result<Option<(u64, i64)>, StoreError> {
    let part = portion(connection, id, after, Some(ItemState::Waiting), MAX_PORTION)?;
    let Some((last, _)) = part else { return Ok(None) };
    let skipped = connection
        .prepare_cached(
            "UPDATE operation_items SET state = 'skipped'
             WHERE operation = ?1 AND state = 'waiting' AND position > ?2 AND position <= ?3",
        )?
        .execute(params![id, after, last])?;
    Ok(Some((skipped as u64, last)))
}
