//! The store in one `SQLite` file: one thread writes with group commit, a few connections read.
//!
//! The file belongs to one process at a time. What is written is sealed before it gets here (`records`); this engine never
//! sees a person.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::records::{Records, SealedRow};
use super::{AssignmentFilter, Change, Claim, Keyring, Page, Store, StoreError};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::environment::Environment;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::Intent;

mod changes;
mod connect;
mod owner;
mod query;
mod readers;
#[cfg(test)]
mod tests;
mod writer;

use changes::Claimed;
use owner::Owner;
use readers::Readers;
use writer::Writer;

/// The store in one `SQLite` file, or in memory. Dropping it waits until everything handed over is committed.
pub struct SqliteStore {
    records: Arc<Records>,
    // Before the writer, so closed before it: the last connection to close tidies the write-ahead log away, and only one
    // that may write can.
    readers: Option<Readers>,
    writer: Writer,
    // Last: another process may go on only after the writer has ended.
    _owner: Option<Owner>,
}

impl SqliteStore {
    /// The store in this file. A missing file is made, readable by its owner only; a missing directory is not. An older
    /// schema is brought up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be used, belongs to another program or was written by a newer
    /// version; [`StoreError::Unreadable`] if it was written under a key that the ring lacks.
    pub fn open(path: &Path, keyring: Keyring, environment: Environment) -> Result<Self, StoreError> {
        let records = Arc::new(Records::new(keyring, environment));
        let connection = connect::writer(path, &records)?;
        let readers = Some(Readers::open(path)?);
        Ok(Self { records, readers, writer: Writer::start(connection)?, _owner: None })
    }

    /// The store in this file, for the one process that serves from it.
    ///
    /// # Errors
    /// As [`SqliteStore::open`], and [`StoreError::Unavailable`] if another process serves from it.
    pub fn open_to_serve(path: &Path, keyring: Keyring, environment: Environment) -> Result<Self, StoreError> {
        let owner = Owner::of(path)?;
        Ok(Self { _owner: Some(owner), ..Self::open(path, keyring, environment)? })
    }

    /// A store that is gone when it is dropped, for demonstrations and tests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no memory or thread for it.
    pub fn in_memory(keyring: Keyring, environment: Environment) -> Result<Self, StoreError> {
        let records = Arc::new(Records::new(keyring, environment));
        let connection = connect::memory(&records)?;
        Ok(Self { records, readers: None, writer: Writer::start(connection)?, _owner: None })
    }

    /// A database in memory is seen by its one connection only, so there the writer reads.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => readers.run(work).await,
            None => self.writer.run(work).await,
        }
    }

    fn open_all<T>(
        &self,
        rows: &[SealedRow],
        open: fn(&Records, &SealedRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        rows.iter().map(|row| open(&self.records, row)).collect()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if !self.writer.is_alive() {
            return Err(StoreError::Unavailable("the thread that writes has ended".to_owned()));
        }
        self.read(query::ping).await
    }

    async fn claim(
        &self,
        candidate: &Candidate,
        identities: &[Identity],
        intent: &Intent,
    ) -> Result<Claim, StoreError> {
        let candidate = self.records.candidate_row(candidate)?;
        let intent = self.records.intent_row(intent)?;
        let (records, identities) = (Arc::clone(&self.records), identities.to_vec());
        let claimed = self
            .writer
            .run(move |connection| changes::claim(connection, &records, &candidate, &identities, &intent))
            .await?;
        Ok(match claimed {
            Claimed::Written => Claim::Claimed,
            Claimed::Held(rows) => Claim::Held(self.open_all(&rows, Records::candidate)?),
            Claimed::HeldByOthers => Claim::HeldByOthers,
        })
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let rows = changes.into_iter().map(|change| self.records.change(change)).collect::<Result<Vec<_>, _>>()?;
        let records = Arc::clone(&self.records);
        self.writer
            .run(move |connection| rows.iter().try_for_each(|row| changes::apply(connection, &records, row)))
            .await
    }

    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_string());
        let row = self.read(move |connection| query::candidate(connection, &tenant, &id)).await?;
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
            .read(move |connection| query::candidates(connection, &records, &tenant, at.as_deref(), &identity))
            .await?;
        self.open_all(&rows, Records::candidate)
    }

    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_string());
        let row = self.read(move |connection| query::assignment(connection, &tenant, &id)).await?;
        row.map(|row| self.records.assignment(&row)).transpose()
    }

    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        let (tenant, at) = (tenant.to_owned(), connection.to_owned());
        let rows = self.read(move |connection| query::bookings(connection, &tenant, &at, &forms)).await?;
        self.open_all(&rows, Records::assignment)
    }

    async fn subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        let at = connection.to_owned();
        self.read(move |connection| query::subject_known(connection, &at, &forms)).await
    }

    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError> {
        let (tenant, filter, page) = (tenant.to_owned(), filter.clone(), page.clone());
        let rows = self.read(move |connection| query::assignments(connection, &tenant, &filter, &page)).await?;
        self.open_all(&rows, Records::assignment)
    }

    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError> {
        let record = record.to_owned();
        let row = self.read(move |connection| query::intent(connection, &record)).await?;
        row.map(|row| self.records.intent(&row)).transpose()
    }

    async fn intents(&self) -> Result<Vec<Intent>, StoreError> {
        let rows = self.read(query::intents).await?;
        self.open_all(&rows, Records::intent)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
