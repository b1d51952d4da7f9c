//! The store in one `SQLite` file: one thread writes with group commit, a few connections read.
//!
//! The file belongs to one process at a time. `codec` seals records before this engine writes them; the engine never
//! sees a person.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

use super::health::WriteFailure;
use super::{
    AcceptResult, AcquireKey, AssignmentFilter, BeginResult, DISK_FULL, Inspection, ItemCounts, KeyState, Keyring,
    Mutation, Page, Peer, PreparedWrite, PurgeCounts, RunningOperation, Store, StoreError, SubjectHash, UnsettledCount,
    Window, WindowedRows, measure,
};
use crate::domain::assignment::Assignment;
use crate::domain::audit::ChainedEntry;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::intent::Intent;
use crate::domain::operation::{Item, ItemId, ItemReport, ItemState, Operation, Progress};
use crate::domain::system::System;
use crate::store::codec::{ItemRow, OperationRow, RecordCodec, SealedRow, micros};

mod audit;
mod checkpointer;
mod connect;
mod inspect;
mod keys;
mod mutations;
mod operations;
mod process_lock;
mod query;
mod read_pool;
#[cfg(test)]
mod tests;
mod writer;

use crate::store::sqlite::checkpointer::Checkpointer;
use crate::store::sqlite::mutations::{BegunWrite, WriteContext};
use crate::store::sqlite::process_lock::ProcessLock;
use crate::store::sqlite::read_pool::ReadPool;
use writer::Writer;

/// Maximum identities whose look-up is as fast as that of one record.
const FEW: usize = 16;

/// The store in one `SQLite` file, or in memory. Dropping it waits until all pending writes are committed.
pub struct SqliteStore {
    records: Arc<RecordCodec>,
    instance: Arc<str>,
    write_failed: WriteFailure,
    // Declared before the writer, so closed first: the last connection to close removes the write-ahead log, which only
    // a connection that may write can do.
    readers: Option<ReadPool>,
    _checkpoints: Option<Checkpointer>,
    writer: Writer,
    // Declared last: another process may start serving only after the writer has ended.
    _owner: Option<ProcessLock>,
}

/// Readers and checkpointer of a file, beside its writer.
struct Auxiliary {
    readers: ReadPool,
    checkpoints: Checkpointer,
}

impl Auxiliary {
    fn of(path: &Path, writer: &mut Connection) -> Result<Self, StoreError> {
        Ok(Self { readers: ReadPool::open(path)?, checkpoints: Checkpointer::start(path, writer)? })
    }
}

impl SqliteStore {
    /// Opens the store in this file without taking the process lock.
    #[cfg(test)]
    pub(crate) fn open(path: &Path, keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let path = connect::resolve(path)?;
        let records = Arc::new(RecordCodec::new(keyring, environment));
        let mut connection = connect::writer(&path, &records)?;
        let aside = Auxiliary::of(&path, &mut connection)?;
        Self::assemble(records, connection, Some(aside), None)
    }

    /// Reports what opening this file would change, without changing anything. May run while a process serves from the
    /// file.
    ///
    /// # Errors
    /// As [`SqliteStore::open_to_serve`], as far as they can be detected without writing.
    pub fn inspect(path: &Path, keyring: &Keyring) -> Result<Inspection, StoreError> {
        inspect::inspect(path, keyring)
    }

    /// Opens the store in this file for the one process that serves from it. Creates a missing file, readable by its
    /// owner only, but not a missing directory. Migrates an older schema.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be used, belongs to another program, was written by a newer
    /// version, or another process serves from it; [`StoreError::Unreadable`] if it was written under a key that the
    /// ring lacks.
    pub fn open_to_serve(path: &Path, keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let path = connect::resolve(path)?;
        let owner = ProcessLock::of(&path)?;
        let records = Arc::new(RecordCodec::new(keyring, environment));
        let mut connection = connect::writer(&path, &records)?;
        let aside = Auxiliary::of(&path, &mut connection)?;
        connect::register_instance(&mut connection, records.instance())?;
        Self::assemble(records, connection, Some(aside), Some(owner))
    }

    /// Creates a store in memory, for demonstrations and tests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no memory or thread for it.
    pub fn in_memory(keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let records = Arc::new(RecordCodec::new(keyring, environment));
        let connection = connect::memory(&records)?;
        Self::assemble(records, connection, None, None)
    }

    fn assemble(
        records: Arc<RecordCodec>,
        connection: Connection,
        aside: Option<Auxiliary>,
        owner: Option<ProcessLock>,
    ) -> Result<Self, StoreError> {
        let instance = records.instance().into();
        let (readers, checkpoints) = aside.map(|Auxiliary { readers, checkpoints }| (readers, checkpoints)).unzip();
        let writer = Writer::start(connection)?;
        let write_failed = WriteFailure::default();
        Ok(Self { records, instance, write_failed, readers, writer, _checkpoints: checkpoints, _owner: owner })
    }

    /// Runs the work in a transaction.
    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteContext<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (records, instance) = (Arc::clone(&self.records), Arc::clone(&self.instance));
        let written = measure(
            "write",
            self.writer
                .run(move |connection| work(&WriteContext { connection, records: &records, instance: &instance })),
        )
        .await;
        self.write_failed.record(&written);
        written
    }

    /// Runs a read. Only its one connection sees a database in memory, so the writer reads it.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => measure("read", readers.run(work)).await,
            None => measure("read", self.writer.run(work)).await,
        }
    }

    /// As [`Self::read`], for a look-up by key: one record, or the few that share a value.
    async fn read_one<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => measure("read", readers.run_inline(work)).await,
            None => measure("read", self.writer.run(work)).await,
        }
    }

    fn open_all<T>(
        &self,
        rows: &[SealedRow],
        open: fn(&RecordCodec, &SealedRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        rows.iter().map(|row| open(&self.records, row)).collect()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if !self.writer.is_alive() {
            return Err(StoreError::Unavailable("the writer thread has ended".to_owned()));
        }
        if self.write_failed.is_set() {
            return self.write(|hand| query::write_probe(hand.connection)).await;
        }
        self.read(query::ping).await
    }

    fn is_unavailable(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn renew_lease(&self) -> Result<Vec<Peer>, StoreError> {
        // The operating system guarantees that the file belongs to one process.
        self.ping().await.map(|()| Vec::new())
    }

    async fn end_instance(&self, _peer: &Peer) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn end_own_instance(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn acquire_locks(&self, _subjects: &[&str]) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn release_locks(&self, _subjects: &[String]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn begin_writes(
        &self,
        key: Option<&AcquireKey>,
        writes: Vec<PreparedWrite>,
    ) -> Result<Vec<BeginResult>, StoreError> {
        let rows = self.records.encode_writes(key, writes)?;
        let key = key.map(|key| self.records.key_row(key));
        let begun = self.write(move |hand| mutations::begin_writes(hand, key.as_ref(), &rows)).await?;
        let results = begun.into_iter().map(|begun| match begun {
            BegunWrite::Written => BeginResult::Begun,
            BegunWrite::Held(rows) => {
                self.open_all(&rows, RecordCodec::candidate).map_or_else(BeginResult::Failed, BeginResult::Exists)
            }
            BegunWrite::HeldByOtherTenant => BeginResult::TakenByOtherTenant,
            BegunWrite::ItemCancelled => BeginResult::ItemCancelled,
            BegunWrite::KeyInUse => BeginResult::KeyInUse,
        });
        Ok(results.collect())
    }

    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError> {
        let rows = self.records.encode_mutations(changes)?;
        self.write(move |hand| rows.iter().try_for_each(|row| mutations::apply(hand, row))).await
    }

    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        let (records, tenant, ids) = (Arc::clone(&self.records), tenant.to_owned(), ids.to_vec());
        self.read(move |connection| query::candidates_without_photos(connection, &records, &tenant, &ids)).await
    }

    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError> {
        let (tenant, ids) = (tenant.to_owned(), ids.to_vec());
        let rows = self.read(move |connection| query::assignments_by_id(connection, &tenant, &ids)).await?;
        self.open_all(&rows, RecordCodec::assignment)
    }

    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_string());
        let row = self.read_one(move |connection| query::candidate(connection, &tenant, &id)).await?;
        row.map(|row| self.records.candidate(&row)).transpose()
    }

    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError> {
        let records = Arc::clone(&self.records);
        let (tenant, at, identity) = (tenant.to_owned(), connection.map(str::to_owned), identity.clone());
        let rows = self
            .read_one(move |connection| query::candidates(connection, &records, &tenant, at.as_deref(), &identity))
            .await?;
        self.open_all(&rows, RecordCodec::candidate)
    }

    async fn identities_of_other_tenants(
        &self,
        tenant: &str,
        connection: &str,
        identities: &[Identity],
    ) -> Result<bool, StoreError> {
        let records = Arc::clone(&self.records);
        let (tenant, at, identities) = (tenant.to_owned(), connection.to_owned(), identities.to_vec());
        let few = identities.len() <= FEW;
        let held = move |connection: &Connection| {
            query::identities_of_other_tenants(connection, &records, &tenant, &at, &identities)
        };
        if few { self.read_one(held).await } else { self.read(held).await }
    }

    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_string());
        let row = self.read_one(move |connection| query::assignment(connection, &tenant, &id)).await?;
        row.map(|row| self.records.assignment(&row)).transpose()
    }

    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        let (tenant, at) = (tenant.to_owned(), connection.to_owned());
        let rows = self.read_one(move |connection| query::bookings(connection, &tenant, &at, &forms)).await?;
        self.open_all(&rows, RecordCodec::assignment)
    }

    async fn is_subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        let at = connection.to_owned();
        self.read_one(move |connection| query::subject_known(connection, &at, &forms)).await
    }

    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError> {
        let unlinked = self.records.unlinked_forms(filter.candidate.as_ref());
        let (tenant, filter, page) = (tenant.to_owned(), filter.clone(), page.clone());
        let rows =
            self.read(move |connection| query::assignments(connection, &tenant, &filter, &unlinked, &page)).await?;
        self.open_all(&rows, RecordCodec::assignment)
    }

    async fn partially_erased_candidates(
        &self,
        after: Option<&CandidateId>,
        limit: usize,
    ) -> Result<Vec<CandidateId>, StoreError> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let ids = self.read(move |connection| query::half_erased(connection, &after, limit)).await?;
        Ok(ids.iter().filter_map(|id| CandidateId::parse(id).ok()).collect())
    }

    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError> {
        let record = record.to_owned();
        let row = self.read_one(move |connection| query::intent(connection, &record)).await?;
        row.map(|row| self.records.intent(&row)).transpose()
    }

    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError> {
        let forms = self.records.lock_forms(subject);
        let rows = self.read_one(move |connection| query::intents_of(connection, &forms)).await?;
        self.open_all(&rows, RecordCodec::intent)
    }

    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError> {
        let at = connection.to_owned();
        let rows = self.read_one(move |connection| query::enrolment_intents(connection, &at)).await?;
        self.open_all(&rows, RecordCodec::intent)
    }

    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError> {
        let (at, now, horizon) = (connection.to_owned(), micros(now), micros(horizon));
        let rows = self.read(move |connection| query::due_intents(connection, &at, (now, horizon), limit)).await?;
        self.open_all(&rows, RecordCodec::intent)
    }

    async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError> {
        let rows = self.read(move |connection| query::orphans(connection, limit)).await?;
        self.open_all(&rows, RecordCodec::intent)
    }

    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError> {
        let (instance, after) = (Arc::clone(&self.instance), after.to_owned());
        let rows = self.read(move |connection| query::own_intents(connection, &instance, &after, limit)).await?;
        self.open_all(&rows, RecordCodec::intent)
    }

    async fn count_unsettled_intents(&self) -> Result<Vec<UnsettledCount>, StoreError> {
        self.read(query::unsettled).await
    }

    async fn count_open_items(&self) -> Result<ItemCounts, StoreError> {
        self.read(operations::open_items).await
    }

    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError> {
        let claim = self.records.key_row(claim);
        let taken = self.write(move |hand| keys::take(hand.connection, hand.records, &claim, hand.instance)).await;
        // If the key was acquired after all, only the next process can see that, and then under an ended instance.
        taken.map_err(StoreError::into_definite_failure)
    }

    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        let operation = operation.clone();
        self.write(move |hand| operations::open(hand.connection, &operation, hand.instance)).await
    }

    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let rows = items.into_iter().map(|item| self.records.item_row(item)).collect::<Result<Vec<_>, _>>()?;
        self.write(move |hand| operations::add_items(hand.connection, &rows)).await
    }

    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError> {
        let (id, operation) = (operation.id.clone(), operation.clone());
        let key = key.map(|claim| self.records.key_row(claim));
        let accepted = self
            .write(move |hand| {
                operations::accept(hand.connection, hand.records, &operation, key.as_ref(), hand.instance)
            })
            .await?;
        if !matches!(accepted, AcceptResult::Queued)
            && let Err(error) = self.discard_operation(&id).await
        {
            tracing::warn!(%error, "removing a rejected operation failed");
        }
        Ok(accepted)
    }

    async fn discard_operation(&self, id: &OperationId) -> Result<(), StoreError> {
        loop {
            let id = id.clone();
            if self.write(move |hand| operations::discard(hand.connection, &id)).await? {
                return Ok(());
            }
        }
    }

    async fn operation(&self, tenant: &str, id: &OperationId) -> Result<Option<(Operation, Progress)>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_string());
        let found = self.read_one(move |connection| operations::one(connection, &tenant, &id)).await?;
        found.map(|(row, progress)| Ok((row.operation()?, progress))).transpose()
    }

    async fn operations(&self, tenant: &str, page: &Page) -> Result<Vec<(Operation, Progress)>, StoreError> {
        let (tenant, page) = (tenant.to_owned(), page.clone());
        let found = self.read(move |connection| operations::page(connection, &tenant, &page)).await?;
        found.into_iter().map(|(row, progress)| Ok((row.operation()?, progress))).collect()
    }

    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError> {
        let but = but.to_vec();
        let rows = self.read(move |connection| operations::unfinished(connection, &but, of_each)).await?;
        Ok(OperationRow::readable(rows))
    }

    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError> {
        self.read(operations::running).await
    }

    async fn items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        self.next_items(id, states, from, Window { rows: limit, bytes: usize::MAX }).await
    }

    async fn next_items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Vec<Item>, StoreError> {
        let (text, states) = (id.to_string(), states.to_vec());
        let rows = self.read(move |connection| operations::items(connection, &text, &states, from, most)).await?;
        rows.iter()
            .map(|row: &ItemRow| self.records.item(ItemId { operation: id.clone(), index: row.index() }, row))
            .collect()
    }

    async fn item_reports(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<WindowedRows<ItemReport>, StoreError> {
        let (records, id, states) = (Arc::clone(&self.records), id.clone(), states.to_vec());
        self.read(move |connection| operations::reports(connection, &records, &id, &states, from, most)).await
    }

    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError> {
        let text = id.to_string();
        let rows = self.read(move |connection| operations::subjects(connection, &text)).await?;
        Ok(RecordCodec::item_subjects(&rows))
    }

    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError> {
        let mut skipped = 0;
        loop {
            let id = id.to_string();
            match self.write(move |hand| operations::skip_waiting(hand.connection, &id)).await? {
                0 => return Ok(skipped),
                more => skipped += more,
            }
        }
    }

    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError> {
        let id = id.to_string();
        self.write(move |hand| operations::requeue(hand.connection, &id, micros(accepted))).await
    }

    fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash {
        self.records.item_subject(operation, text)
    }

    async fn audit(&self, tenant: &str, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, StoreError> {
        let (name, after) = (tenant.to_owned(), i64::try_from(after).unwrap_or(i64::MAX));
        let rows = self.read(move |connection| audit::after(connection, &name, after, limit)).await?;
        rows.iter().map(|(seq, sealed)| self.records.open_audit_entry(tenant, *seq, sealed)).collect()
    }

    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |hand| {
            let sql =
                "INSERT INTO clock (one, seen) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET seen = excluded.seen";
            hand.connection.prepare_cached(sql)?.execute([micros(now)])?;
            Ok(())
        })
        .await
    }

    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(query::remembered_time).await
    }

    /// Purges in portions, so that other writes can run in between.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError> {
        let (now, finished) = (micros(now), micros(finished));
        let mut purged = PurgeCounts::default();
        loop {
            let (gone, more) = self.write(move |hand| operations::purge(hand.connection, finished)).await?;
            purged.operations += gone;
            if !more {
                break;
            }
        }
        loop {
            let (gone, more) = self.write(move |hand| keys::purge(hand.connection, now)).await?;
            purged.keys += gone;
            if !more {
                return Ok(purged);
            }
        }
    }
}

/// Describes an error in one sentence.
fn describe_error(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => DISK_FULL.to_owned(),
        _ => error.to_string(),
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(describe_error(&error))
    }
}
