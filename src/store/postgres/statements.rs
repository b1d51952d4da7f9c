//! Runs the shared statements.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgExecutor, Postgres, Row as _};

use super::error::TxError;
use crate::store::columns::{Column, Columns, FromColumns};
use crate::store::sql::{Sql, SqlValue};

impl Columns for PgRow {
    type Error = sqlx::Error;

    fn column<T: Column>(&self, index: usize) -> Result<T, sqlx::Error> {
        self.try_get(index)
    }
}

/// Runs a statement that reads.
pub(super) async fn select<T: FromColumns>(
    connection: impl PgExecutor<'_>,
    sql: &'static Sql,
    values: &[SqlValue<'_>],
) -> Result<Vec<T>, sqlx::Error> {
    bound(sql, values).fetch_all(connection).await?.iter().map(T::from_columns).collect()
}

/// Runs a statement that writes; returns the number of rows it changed.
pub(super) async fn execute(
    connection: impl PgExecutor<'_>,
    sql: &'static Sql,
    values: &[SqlValue<'_>],
) -> Result<u64, TxError> {
    Ok(bound(sql, values).execute(connection).await?.rows_affected())
}

pub(super) fn bound<'q>(sql: &'static Sql, values: &'q [SqlValue<'_>]) -> Query<'q, Postgres, PgArguments> {
    values.iter().fold(sqlx::query(sql.postgres), |query, value| match value {
        SqlValue::Text(text) => query.bind(text.as_deref()),
        SqlValue::Number(number) => query.bind(*number),
        SqlValue::Flag(flag) => query.bind(*flag),
        SqlValue::Bytes(bytes) => query.bind(&**bytes),
        SqlValue::Texts(texts) => query.bind(&**texts),
        SqlValue::Blinds(blinds) => query.bind(&**blinds),
        SqlValue::Numbers(numbers) => query.bind(&**numbers),
    })
}
