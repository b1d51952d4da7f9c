//! The store in a PostgreSQL database shared by several processes.
//!
//! Each process is an instance that keeps its lease by heartbeats. A transaction may proceed only while its instance
//! has not ended (`commit_slots.rs`), so an instance never writes what another has taken over. `codec` seals records
//! before this engine writes them; the engine never sees a person.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::health::{Unavailability, WriteFailure};
use super::{BeginResult, Inspection, Keyring, StoreError, measure};
use crate::domain::candidate::Candidate;
use crate::domain::system::System;
use crate::secret::Secret;
use crate::store::codec::RecordCodec;

mod audit;
mod begin;
mod candidates;
mod commit_slots;
mod connect;
mod erasure;
mod error;
mod event_upkeep;
mod events;
mod fetches;
mod group_commit;
mod instances;
mod items;
mod job_queue;
mod jobs;
mod keys;
mod mutations;
mod operations;
mod query;
mod records;
mod reindex;
mod reports;
mod result_erasure;
mod results;
mod schema;
mod statements;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;
mod webhooks;

use crate::store::postgres::begin::BegunWrite;
use connect::{LISTS, TIMEOUT, WAIT};
use error::{RetryDecision, TxError, no_response, retry_decision};
use group_commit::GroupCommit;
use instances::{UncertainLocks, UncertainLocksGuard};
use jobs::{Job, JobResult};
use transaction::{Working, WriteContext, Writer};

/// Maximum attempts to begin writes whose identities turn out to be held by candidates erased in the meantime.
const MAX_BEGIN_ATTEMPTS: usize = 3;

/// Time limit of an inspection: the time an instance is watched for a heartbeat, and a margin for a slow server.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    records: Arc<RecordCodec>,
    pool: PgPool,
    pulse: PgPool,
    writer: Arc<Writer>,
    group: GroupCommit,
    loose: Arc<UncertainLocksGuard>,
    /// Number of acquisitions of locks and keys.
    takes: AtomicI64,
    lists: Semaphore,
    away: Unavailability,
    write_failed: WriteFailure,
}

impl PostgresStore {
    /// Reports what opening the store at this address would change, without changing anything.
    ///
    /// # Errors
    /// As [`PostgresStore::open_to_serve`], as far as they can be detected without writing.
    pub async fn inspect(url: &Secret, keyring: &Keyring) -> Result<Inspection, StoreError> {
        let mut connection = connect::first(&connect::options(url)?).await?;
        let inspecting = schema::inspect(&mut connection, keyring);
        tokio::time::timeout(INSPECTION_TIMEOUT, inspecting).await.map_err(|_| no_response())?
    }

    /// Opens the store at this address for a process that serves from it. Migrates an older schema.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database cannot be reached, its schema belongs to another program or was
    /// written by a newer version, or another process that serves from it lacks the current encryption key;
    /// [`StoreError::Unreadable`] if it was written under a key that the ring lacks.
    pub async fn open_to_serve(url: &Secret, keyring: Keyring, environment: System) -> Result<Self, StoreError> {
        let options = connect::options(url)?;
        let records = Arc::new(RecordCodec::new(keyring, environment));
        // Until the renewal of the entries has ended: another instance may write those of an earlier version.
        records.ask_former_texts(true);
        let mut connection = connect::first(&options).await?;
        schema::prepare(&mut connection, &records).await?;
        schema::register_instance(&mut connection, &records).await?;
        let pool = connect::pool(&options);
        let writer = Arc::new(Writer::new(pool.clone(), Arc::clone(&records)));
        let loose = Arc::<UncertainLocksGuard>::default();
        let group = GroupCommit::start(Arc::clone(&writer), options.clone(), Arc::clone(&loose));
        let pulse = connect::heartbeat_pool(&options);
        let (away, write_failed) = (Unavailability::default(), WriteFailure::default());
        let lists = Semaphore::new(LISTS);
        Ok(Self { records, pool, pulse, writer, group, loose, takes: AtomicI64::new(0), lists, away, write_failed })
    }

    /// Does the job in a transaction that it shares with those of other callers.
    async fn run_job(&self, job: Job) -> Result<JobResult, StoreError> {
        let done = measure("write", self.group.run(job)).await;
        self.write_failed.record(&done);
        done
    }

    /// Runs the work in a transaction of its own.
    async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Send + Sync + 'static,
    {
        let written = measure("write", self.writer.run(work)).await;
        self.write_failed.record(&written);
        written
    }

    async fn read<'a, T, R, E>(&'a self, read: impl Fn(&'a PgPool) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, E>>,
        TxError: From<E>,
    {
        measure("read", self.run_with_retry(&self.pool, TIMEOUT, read)).await
    }

    /// Runs a read that may be long, or that many callers repeat. Such reads may use only a part of the connections.
    async fn list<'a, T, R, E>(&'a self, read: impl Fn(&'a PgPool) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, E>>,
        TxError: From<E>,
    {
        let busy = || StoreError::Unavailable("too many concurrent list queries".to_owned());
        let permit = tokio::time::timeout(WAIT, self.lists.acquire()).await;
        let _permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        self.read(read).await
    }

    /// Runs a query and retries it while the connection is lost: the pool does not detect a server restart otherwise.
    /// Only for queries that may run twice.
    async fn run_with_retry<'a, T, R, E>(
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
                    Err(TxError::Sql(error)) if retry_decision(&error) == RetryDecision::Elsewhere => {
                        self.writer.back_off(1).await;
                    }
                    done => return done,
                }
            }
        };
        Ok(tokio::time::timeout(patience, asking).await.map_err(|_| no_response())??)
    }

    /// Numbers the acquisitions of locks and keys, to distinguish one whose response was lost from a later one.
    fn next_take(&self) -> i64 {
        self.takes.fetch_add(1, Ordering::Relaxed)
    }

    /// Releases, in the background, the locks and keys that this instance may hold without knowing it.
    fn release_uncertain_locks(&self) {
        let loose: Arc<[UncertainLocks]> = self.loose.take().into();
        if loose.is_empty() {
            return;
        }
        let (writer, ends) = (Arc::clone(&self.writer), Arc::clone(&self.loose));
        tokio::spawn(async move {
            let work = Arc::clone(&loose);
            let tied = writer.run(move |mut tx| {
                let work = Arc::clone(&work);
                Box::pin(async move { instances::release_uncertain(&mut tx, &work).await })
            });
            if tied.await.is_err_and(|error| !matches!(error, StoreError::Fenced)) {
                ends.add(loose.iter().cloned());
            }
        });
    }

    /// Converts the result of beginning a write; `None` if the holders have gone in the meantime.
    ///
    /// Reads the holders after the transaction: their records are long, and a process suspended while receiving them
    /// would keep its commit slot, which no server timeout ends.
    async fn open_begin_result(&self, tenant: &str, begun: BegunWrite) -> Option<BeginResult> {
        match begun {
            BegunWrite::Written => Some(BeginResult::Begun),
            BegunWrite::HeldByOtherTenant => Some(BeginResult::TakenByOtherTenant),
            BegunWrite::ItemCancelled => Some(BeginResult::ItemCancelled),
            BegunWrite::KeyInUse => Some(BeginResult::KeyInUse),
            // Other writes of the call may have begun, so a failed read is the failure of this one only.
            BegunWrite::Held(ids) => match self.holders(tenant, &ids).await {
                Ok(held) => (!held.is_empty()).then_some(BeginResult::Exists(held)),
                Err(error) => Some(BeginResult::Failed(error)),
            },
        }
    }

    async fn holders(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        let rows = self.read(|pool| query::candidates_by_id(pool, tenant, ids)).await?;
        self.records.open_all(&rows, RecordCodec::candidate)
    }
}
