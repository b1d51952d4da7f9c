//! The context of the statements that write.

use std::cell::Cell;

use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::codec::RecordCodec;
use crate::store::sql::Statement;
use crate::store::sqlite::late_index::LateIndex;
use crate::store::sqlite::lookup_memo::LookupMemo;
use crate::store::sqlite::read_context::ReadContext;
use crate::store::sqlite::statements;

/// Context that every mutation needs.
pub(super) struct WriteContext<'a> {
    pub(super) connection: &'a Connection,
    pub(super) index: &'a LateIndex,
    pub(super) memo: &'a LookupMemo,
    /// Whether the transaction has appended events.
    pub(super) has_events: &'a Cell<bool>,
    pub(super) records: &'a RecordCodec,
    pub(super) instance: &'a str,
}

impl WriteContext<'_> {
    /// Returns what the statements that read need.
    pub(super) fn read(&self) -> ReadContext<'_> {
        ReadContext { connection: self.connection, entries: self.index, records: self.records }
    }

    pub(super) fn run(&self, statement: &Statement) -> Result<(), StoreError> {
        statements::execute(self.connection, statement.sql, &statement.values)
    }
}
