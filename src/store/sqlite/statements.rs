//! Runs the shared statements on a connection.

use std::borrow::Cow;

use rusqlite::types::{Null, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, Row, params_from_iter};

use crate::store::StoreError;
use crate::store::columns::{Column, Columns, FromColumns};
use crate::store::sql::{LIST, Sql, SqlValue};

/// Maximum length of a list whose statement is cached: there is one variant of it per length.
const MAX_CACHED_LIST: usize = 4;

impl Columns for Row<'_> {
    type Error = rusqlite::Error;

    fn column<T: Column>(&self, index: usize) -> rusqlite::Result<T> {
        self.get(index)
    }
}

/// Reads a result row.
pub(super) fn row<T: FromColumns>(row: &Row<'_>) -> rusqlite::Result<T> {
    T::from_columns(row)
}

/// Runs a statement that reads.
pub(super) fn select<T: FromColumns>(
    connection: &Connection,
    sql: &Sql,
    values: &[SqlValue<'_>],
) -> Result<Vec<T>, StoreError> {
    select_map(connection, sql, values, Ok)
}

/// Runs a statement that reads; converts each row before it reads the next.
pub(super) fn select_map<T: FromColumns, U>(
    connection: &Connection,
    sql: &Sql,
    values: &[SqlValue<'_>],
    convert: impl Fn(T) -> Result<U, StoreError>,
) -> Result<Vec<U>, StoreError> {
    let length = values.iter().find_map(list_length);
    let mut statement = prepare(connection, sql, length)?;
    let converted = statement.query_map(params_from_iter(parameters(values)), row)?.map(|row| convert(row?)).collect();
    if length > Some(MAX_CACHED_LIST) {
        statement.discard();
    }
    converted
}

/// Runs a statement that writes.
pub(super) fn execute(connection: &Connection, sql: &Sql, values: &[SqlValue<'_>]) -> Result<(), StoreError> {
    connection.prepare_cached(sql.sqlite)?.execute(params_from_iter(parameters(values)))?;
    Ok(())
}

/// Prepares a statement with as many parameters for its list as the list is long.
fn prepare<'c>(
    connection: &'c Connection,
    sql: &Sql,
    length: Option<usize>,
) -> Result<CachedStatement<'c>, StoreError> {
    let text = match length {
        Some(length) => Cow::Owned(sql.sqlite.replacen(LIST, &vec!["?"; length].join(", "), 1)),
        None => Cow::Borrowed(sql.sqlite),
    };
    Ok(connection.prepare_cached(&text)?)
}

fn list_length(value: &SqlValue<'_>) -> Option<usize> {
    match value {
        SqlValue::Texts(texts) => Some(texts.len()),
        SqlValue::Blinds(blinds) => Some(blinds.len()),
        SqlValue::Numbers(numbers) => Some(numbers.len()),
        SqlValue::Text(_) | SqlValue::Number(_) | SqlValue::Flag(_) | SqlValue::Bytes(_) => None,
    }
}

fn parameters<'v>(values: &'v [SqlValue<'_>]) -> Vec<ToSqlOutput<'v>> {
    let mut parameters = Vec::with_capacity(values.len());
    for value in values {
        match value {
            SqlValue::Text(Some(text)) => parameters.push(ToSqlOutput::from(&**text)),
            SqlValue::Number(Some(number)) => parameters.push(ToSqlOutput::from(*number)),
            SqlValue::Text(None) | SqlValue::Number(None) => parameters.push(ToSqlOutput::from(Null)),
            SqlValue::Flag(flag) => parameters.push(ToSqlOutput::from(*flag)),
            SqlValue::Bytes(bytes) => parameters.push(ToSqlOutput::from(&**bytes)),
            SqlValue::Texts(texts) => parameters.extend(texts.iter().map(|text| ToSqlOutput::from(text.as_str()))),
            SqlValue::Blinds(blinds) => parameters.extend(blinds.iter().map(|blind| ToSqlOutput::from(&blind[..]))),
            SqlValue::Numbers(numbers) => parameters.extend(numbers.iter().map(|number| ToSqlOutput::from(*number))),
        }
    }
    parameters
}
