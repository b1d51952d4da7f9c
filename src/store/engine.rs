//! What both engines do in the same way: run the shared statements, and open the rows they return.

use crate::domain::candidate::{Candidate, Identity};
use crate::domain::operation::{Operation, Progress};
use crate::store::StoreError;
use crate::store::codec::{OperationRow, RecordCodec, SealedRow};
use crate::store::columns::FromColumns;
use crate::store::sql::{self, Sql, SqlValue, values};

/// The cost of a read, by which an engine chooses where to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// A look-up by key: one record, or the few that share a value.
    Key,
    /// A look-up by key that many callers repeat.
    PolledKey,
    /// A read of many rows by the gateway itself.
    Scan,
    /// A read that may be long and that callers cause.
    List,
}

/// An engine that runs the shared statements.
pub(super) trait Engine: Send + Sync {
    fn codec(&self) -> &RecordCodec;

    /// Runs a statement that reads.
    fn select<T: FromColumns>(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send;

    /// Returns the candidates at the connection, of all tenants, with one of these identities, without their pictures.
    fn candidates_with(
        &self,
        connection: &str,
        identities: &[Identity],
    ) -> impl Future<Output = Result<Vec<Candidate>, StoreError>> + Send;

    /// Runs a statement that reads one row at most.
    fn select_one<T: FromColumns>(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send {
        async move { Ok(self.select(access, sql, values).await?.pop()) }
    }

    /// Runs a statement that reads records, and opens them.
    fn records<T: Send>(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
        open: fn(&RecordCodec, &SealedRow) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send {
        async move { self.codec().open_all(&self.select(access, sql, values).await?, open) }
    }

    /// As [`Engine::records`], for one record at most.
    fn record<T: Send>(
        &self,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
        open: fn(&RecordCodec, &SealedRow) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send {
        async move { Ok(self.records(Access::Key, sql, values, open).await?.pop()) }
    }

    /// Runs a statement that reads operations, and adds their progress.
    fn operations_with_progress(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
    ) -> impl Future<Output = Result<Vec<(Operation, Progress)>, StoreError>> + Send {
        async move {
            let rows: Vec<OperationRow> = self.select(access, sql, values).await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
            let counts: Vec<(String, String, i64)> = self.select(access, sql::ITEM_COUNTS, &values![ids]).await?;
            let open = rows.iter().filter(|row| row.may_have_open_writes(&counts));
            let open: Vec<String> = open.map(|row| row.id.clone()).collect();
            let settling: Vec<(String, i64)> = if open.is_empty() {
                Vec::new()
            } else {
                self.select(access, sql::SETTLING_ITEMS, &values![open]).await?
            };
            rows.into_iter().map(|row| row.with_progress(&counts, &settling)).collect()
        }
    }
}
