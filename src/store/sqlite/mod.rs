//! The store in one `SQLite` file: one thread writes with group commit, a few connections read.
//!
//! The file belongs to one process at a time. `codec` seals records before this engine writes them; the engine never
//! sees a person.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::health::WriteFailure;
use super::{BackupError, DISK_FULL, Inspection, Keyring, RestoredBackup, StoreError, WrittenBackup, measure};
use crate::domain::system::System;
use crate::store::codec::RecordCodec;
use crate::store::events::EventSignals;

mod audit;
mod backup;
mod candidates;
mod checkpointer;
mod connect;
mod erasure;
mod events;
mod fetches;
mod identities;
mod inspect;
mod items;
mod keys;
mod late_index;
mod lookup_memo;
mod lookups;
mod mutations;
mod operations;
mod process_lock;
mod query;
mod read_context;
mod read_pool;
mod reindex;
mod reports;
mod result_erasure;
mod results;
mod session;
mod statements;
mod store;
#[cfg(test)]
mod tests;
mod webhooks;
mod write_context;
mod writer;

use crate::store::sqlite::checkpointer::Checkpointer;
use crate::store::sqlite::late_index::{GENERATION, LateIndex, SharedEntries};
use crate::store::sqlite::process_lock::ProcessLock;
use crate::store::sqlite::read_context::ReadContext;
use crate::store::sqlite::read_pool::ReadPool;
use crate::store::sqlite::session::Session;
use crate::store::sqlite::write_context::WriteContext;
use writer::Writer;

/// The store in one `SQLite` file, or in memory. Dropping it waits until all pending writes are committed.
pub struct SqliteStore {
    records: Arc<RecordCodec>,
    instance: Arc<str>,
    /// What the readers find beside the table of the index.
    entries: SharedEntries,
    events: Arc<EventSignals>,
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
        let session = Self::session(connection, GENERATION)?;
        Self::assemble(records, session, Some(aside), None)
    }

    /// Reports what opening this file would change, without changing anything. May run while a process serves from the
    /// file.
    ///
    /// # Errors
    /// As [`SqliteStore::open_to_serve`], as far as they can be detected without writing.
    pub fn inspect(path: &Path, keyring: &Keyring) -> Result<Inspection, StoreError> {
        inspect::inspect(path, keyring)
    }

    /// Writes a consistent copy of this database to `target`, which must not exist. May run while a process serves from
    /// the database. The copy is readable by its owner only and does not contain the encryption key. Faults of the index
    /// are mended in the copy.
    ///
    /// # Errors
    /// [`BackupError`]; `target` is not created then.
    pub fn back_up(database: &Path, target: &Path, keyring: &Keyring) -> Result<WrittenBackup, BackupError> {
        backup::back_up(database, target, keyring)
    }

    /// Puts a backup in the place of this database, which need not exist. A database that is replaced stays beside it
    /// under another name.
    ///
    /// # Errors
    /// [`BackupError`] if a process serves from the database, or the backup is damaged, was written by a newer version
    /// or under another key; the database is then as it was.
    pub fn restore(database: &Path, backup: &Path, keyring: &Keyring) -> Result<RestoredBackup, BackupError> {
        backup::restore(database, backup, keyring)
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
        let session = Self::session(connection, GENERATION)?;
        Self::assemble(records, session, Some(aside), Some(owner))
    }

    /// Creates a store in memory, for demonstrations and tests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no memory or thread for it.
    pub fn in_memory(keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let records = Arc::new(RecordCodec::new(keyring, environment));
        let connection = connect::memory(&records)?;
        let session = Self::session(connection, GENERATION)?;
        Self::assemble(records, session, None, None)
    }

    /// Begins to write with this connection; `generation` is the number of index entries that are merged together.
    fn session(connection: Connection, generation: usize) -> Result<Session, StoreError> {
        let index = LateIndex::open(&connection, generation)?;
        Ok(Session::new(connection, index))
    }

    fn assemble(
        records: Arc<RecordCodec>,
        session: Session,
        aside: Option<Auxiliary>,
        owner: Option<ProcessLock>,
    ) -> Result<Self, StoreError> {
        let instance = records.instance().into();
        let (readers, checkpoints) = aside.map(|Auxiliary { readers, checkpoints }| (readers, checkpoints)).unzip();
        let (entries, events) = (session.entries(), session.events());
        let writer = Writer::start(session)?;
        let write_failed = WriteFailure::default();
        Ok(Self {
            records,
            instance,
            entries,
            events,
            write_failed,
            readers,
            writer,
            _checkpoints: checkpoints,
            _owner: owner,
        })
    }

    /// Runs the work in a transaction.
    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&WriteContext<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (records, instance) = (Arc::clone(&self.records), Arc::clone(&self.instance));
        let written =
            measure("write", self.writer.run(move |session| work(&session.context(&records, &instance)))).await;
        self.write_failed.record(&written);
        written
    }

    /// Runs a read.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(ReadContext<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => measure("read", readers.run(self.of_committed(work))).await,
            None => self.read_in_memory(work).await,
        }
    }

    /// As [`Self::read`], for a look-up by key: one record, or the few that share a value.
    async fn read_one<T: Send + 'static>(
        &self,
        work: impl Fn(ReadContext<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => measure("read", readers.run_inline(self.of_committed(work))).await,
            None => self.read_in_memory(work).await,
        }
    }

    /// Turns a read into one of what is committed.
    fn of_committed<T, F>(&self, work: F) -> impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static + use<T, F>
    where
        F: Fn(ReadContext<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (records, entries) = (Arc::clone(&self.records), self.entries.clone());
        move |connection: &Connection| work(ReadContext { connection, entries: &entries, records: &records })
    }

    /// Runs a read of a database in memory as a job of the writer, because only its one connection sees it.
    async fn read_in_memory<T: Send + 'static>(
        &self,
        work: impl Fn(ReadContext<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let records = Arc::clone(&self.records);
        measure("read", self.writer.run(move |session| work(session.read_context(&records)))).await
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
