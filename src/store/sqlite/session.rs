//! The connection that writes, with what belongs to its transactions.

use std::cell::Cell;
use std::sync::Arc;

use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::codec::RecordCodec;
use crate::store::events::EventSignals;
use crate::store::sqlite::late_index::{LateIndex, SharedEntries};
use crate::store::sqlite::lookup_memo::LookupMemo;
use crate::store::sqlite::read_context::ReadContext;
use crate::store::sqlite::write_context::WriteContext;

/// The connection that writes, the index as its transactions see it, and what they remember. The writer opens and ends
/// each transaction here as well as in the database.
pub(super) struct Session {
    pub(super) connection: Connection,
    index: LateIndex,
    memo: LookupMemo,
    /// Whether the last transaction failed, so that memory may disagree with the disk.
    is_stale: Cell<bool>,
    /// Whether the transaction has appended events.
    has_events: Cell<bool>,
    events: Arc<EventSignals>,
}

impl Session {
    pub(super) fn new(connection: Connection, index: LateIndex) -> Self {
        Self {
            connection,
            index,
            memo: LookupMemo::default(),
            is_stale: Cell::new(false),
            has_events: Cell::new(false),
            events: Arc::default(),
        }
    }

    /// Returns the entries that readers ask.
    pub(super) fn entries(&self) -> SharedEntries {
        self.index.shared()
    }

    /// Returns what tells of new events.
    pub(super) fn events(&self) -> Arc<EventSignals> {
        Arc::clone(&self.events)
    }

    /// Returns what the statements of a read need that is a job of the writer.
    pub(super) fn read_context<'a>(&'a self, records: &'a RecordCodec) -> ReadContext<'a> {
        ReadContext { connection: &self.connection, entries: &self.index, records }
    }

    /// Returns what the statements of a transaction need.
    pub(super) fn context<'a>(&'a self, records: &'a RecordCodec, instance: &'a str) -> WriteContext<'a> {
        let Self { connection, index, memo, is_stale: _, has_events, events: _ } = self;
        WriteContext { connection, index, memo, has_events, records, instance }
    }

    /// Reads the index anew if the last transaction failed: a commit that failed may still have taken place.
    pub(super) fn refresh(&self) -> Result<(), StoreError> {
        if self.is_stale.get() {
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            self.index.reload(&self.connection)?;
            self.is_stale.set(false);
        }
        Ok(())
    }

    /// Begins a transaction, or begins it again.
    pub(super) fn begin(&self) {
        self.index.begin();
        self.memo.begin();
    }

    /// Returns a mark for [`Self::roll_back_to`].
    pub(super) fn savepoint(&self) -> usize {
        self.index.savepoint()
    }

    /// Forgets what was done after the mark.
    pub(super) fn roll_back_to(&self, mark: usize) {
        self.index.roll_back_to(mark);
        self.memo.clear();
    }

    /// Does the last steps of a transaction.
    pub(super) fn prepare_commit(&self) -> Result<(), StoreError> {
        self.index.prepare_commit(&self.connection)
    }

    /// Shows readers what was committed.
    pub(super) fn committed(&self) {
        self.index.publish();
        self.memo.keep();
        self.send_events();
    }

    /// Forgets a transaction that failed.
    pub(super) fn failed(&self) {
        self.begin();
        self.is_stale.set(true);
        // Its commit may still have taken place.
        self.send_events();
    }

    fn send_events(&self) {
        if self.has_events.take() {
            self.events.send_visible();
        }
    }
}
