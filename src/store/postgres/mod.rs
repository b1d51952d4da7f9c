//! The store in a PostgreSQL database that several processes share.
//!
//! Each of them is an instance that lives as long as it beats. A transaction is let in only while its instance counts as
//! living (`lanes.rs`), so what another instance took over is never written by the first owner as well. What is written is
//! sealed before it gets here (`records`); this engine never sees a person.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::health::{Unavailability, WriteFailure};
use super::{InsertResult, Inspection, Keyring, StoreError, timed};
use crate::domain::candidate::Candidate;
use crate::domain::system::System;
use crate::secret::Secret;
use crate::store::codec::{RecordCodec, SealedRow};

mod audit;
mod candidates;
mod commit_slots;
mod connect;
mod error;
mod identity_claims;
mod instances;
mod items;
mod keys;
mod mutations;
mod operations;
mod query;
mod records;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod transaction;

use crate::store::postgres::identity_claims::InsertedCandidates;
use connect::{LISTS, TIMEOUT, WAIT};
use error::{RetryDecision, TxError, advice, silent};
use instances::{UncertainLocks, UncertainLocksGuard};
use transaction::{Working, WriteContext, Writer};

/// Times a claim is made again because whoever held the identities was erased in the moment between.
const CLAIMS: usize = 3;

/// How long an inspection may take: the time an instance is watched for a beat, and some for a slow server.
const INSPECTION: Duration = Duration::from_secs(30);

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    records: Arc<RecordCodec>,
    pool: PgPool,
    pulse: PgPool,
    writer: Arc<Writer>,
    loose: Arc<UncertainLocksGuard>,
    /// Times a turn or a key was taken.
    takes: AtomicI64,
    lists: Semaphore,
    away: Unavailability,
    write_failed: WriteFailure,
}

impl PostgresStore {
    /// Finds what opening the store at this address would change, without changing anything.
    ///
    /// # Errors
    /// As [`PostgresStore::open_to_serve`], as far as that can be said without writing.
    pub async fn inspect(url: &Secret, keyring: &Keyring) -> Result<Inspection, StoreError> {
        let mut connection = connect::first(&connect::options(url)?).await?;
        let inspecting = schema::inspect(&mut connection, keyring);
        tokio::time::timeout(INSPECTION, inspecting).await.map_err(|_| silent())?
    }

    /// The store at this address, for a process that serves from it. An older schema is brought up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database cannot be reached, its schema belongs to another program or was written
    /// by a newer version, or the key to write with is new to another process that serves from it;
    /// [`StoreError::Unreadable`] if it was written under a key that the ring lacks.
    pub async fn open_to_serve(url: &Secret, keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let options = connect::options(url)?;
        let records = Arc::new(RecordCodec::new(keyring, environment));
        let mut connection = connect::first(&options).await?;
        schema::prepare(&mut connection, &records).await?;
        schema::enlist(&mut connection, &records).await?;
        let pool = connect::pool(&options);
        let writer = Arc::new(Writer::new(pool.clone(), Arc::clone(&records)));
        let (pulse, loose) = (connect::pulse(&options), Arc::default());
        let (away, write_failed) = (Unavailability::default(), WriteFailure::default());
        let lists = Semaphore::new(LISTS);
        Ok(Self { records, pool, pulse, writer, loose, takes: AtomicI64::new(0), lists, away, write_failed })
    }

    /// Writes as a whole, or not at all.
    async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Send + Sync + 'static,
    {
        let written = timed("write", self.writer.run(work)).await;
        self.write_failed.note(&written);
        written
    }

    async fn read<'a, T, R, E>(&'a self, read: impl Fn(&'a PgPool) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, E>>,
        TxError: From<E>,
    {
        timed("read", self.asked(&self.pool, TIMEOUT, read)).await
    }

    /// Reads what may be long: a list, or what many look at again and again. Of the connections such reads have a part.
    async fn list<'a, T, R, E>(&'a self, read: impl Fn(&'a PgPool) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, E>>,
        TxError: From<E>,
    {
        let busy = || StoreError::Unavailable("too many lists are read at the same time".to_owned());
        let permit = tokio::time::timeout(WAIT, self.lists.acquire()).await;
        let _permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        self.read(read).await
    }

    /// Asks, and asks again where the connection was lost: that the server was restarted is not noticed otherwise. For
    /// what may be done twice.
    async fn asked<'a, T, R, E>(
        &self,
        pool: &'a PgPool,
        patience: Duration,
        ask: impl Fn(&'a PgPool) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, E>>,
        TxError: From<E>,
    {
        let asking = async {
            loop {
                match ask(pool).await.map_err(TxError::from) {
                    Err(TxError::Sql(error)) if advice(&error) == RetryDecision::Elsewhere => {
                        self.writer.pause(1).await
                    }
                    done => return done,
                }
            }
        };
        Ok(tokio::time::timeout(patience, asking).await.map_err(|_| silent())??)
    }

    fn open_all<T>(
        &self,
        rows: &[SealedRow],
        open: fn(&RecordCodec, &SealedRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        rows.iter().map(|row| open(&self.records, row)).collect()
    }

    /// Numbers the times this instance takes a turn or a key, so that one whose answer was lost can be told from the next.
    fn next_take(&self) -> i64 {
        self.takes.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives back what this instance may hold without knowing, by itself, as soon as the database can be reached.
    fn tie_up(&self) {
        let loose: Arc<[UncertainLocks]> = self.loose.take().into();
        if loose.is_empty() {
            return;
        }
        let (writer, ends) = (Arc::clone(&self.writer), Arc::clone(&self.loose));
        tokio::spawn(async move {
            let work = Arc::clone(&loose);
            let tied = writer.run(move |mut hand| {
                let work = Arc::clone(&work);
                Box::pin(async move { instances::tie_up(&mut hand, &work).await })
            });
            if tied.await.is_err_and(|error| !matches!(error, StoreError::Fenced)) {
                ends.add(loose.iter().cloned());
            }
        });
    }

    /// What was claimed, in the words of the trait; nothing if the holders have gone meanwhile.
    ///
    /// Holders are read after the transaction: their records are long, and a process that is suspended while it receives
    /// them would keep its lane, which no limit of the server ends.
    async fn claimed(&self, tenant: &str, claimed: InsertedCandidates) -> Option<InsertResult> {
        match claimed {
            InsertedCandidates::Written => Some(InsertResult::Inserted),
            InsertedCandidates::HeldByOthers => Some(InsertResult::TakenByOtherTenant),
            InsertedCandidates::Withdrawn => Some(InsertResult::ItemCancelled),
            // The others of the call may be written, so a read that fails is this claim's own failure.
            InsertedCandidates::Held(ids) => match self.holders(tenant, &ids).await {
                Ok(held) => (!held.is_empty()).then_some(InsertResult::Exists(held)),
                Err(error) => Some(InsertResult::Failed(error)),
            },
        }
    }

    async fn holders(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        let rows = self.read(|pool| query::candidates_by_id(pool, tenant, ids)).await?;
        self.open_all(&rows, RecordCodec::candidate)
    }
}
