//! Implements [`Store`]: seals arguments, runs the statements, and opens the rows they return.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::connect::{LATE, WAIT};
use super::error::no_response;
use super::{
    MAX_BEGIN_ATTEMPTS, PostgresStore, candidates, instances, items, keys, operations, query, reindex, reports,
    results, statements,
};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{OperationId, WebhookId};
use crate::domain::operation::{Item, ItemId, ItemReport, ItemState, Operation};
use crate::store::codec::{ItemRow, KeyRow, OperationRow, PreparedWriteRow, RecordCodec, micros};
use crate::store::columns::FromColumns;
use crate::store::engine::{Access, Engine};
use crate::store::postgres::begin::{BeginJob, BegunWrite};
use crate::store::postgres::jobs::{Job, JobResult};
use crate::store::postgres::transaction::work;
use crate::store::sql::{self, Sql, SqlValue, Statement, values};
use crate::store::{
    AcceptResult, AcquireKey, AssignmentFilter, BeginResult, IdentityUpkeep, KeyState, Mutation, Page, Peer,
    PreparedWrite, PurgeCounts, Store, StoreError, SubjectHash, Window, WindowedRows, count_events, event_types,
    measure,
};

impl Engine for PostgresStore {
    fn codec(&self) -> &RecordCodec {
        &self.records
    }

    async fn select<T: FromColumns>(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
    ) -> Result<Vec<T>, StoreError> {
        let select = |pool| statements::select(pool, sql, values);
        match access {
            Access::Key | Access::Scan => self.read(select).await,
            Access::PolledKey | Access::List => self.list(select).await,
        }
    }

    async fn candidates_with(&self, connection: &str, identities: &[Identity]) -> Result<Vec<Candidate>, StoreError> {
        self.list(|pool| query::candidates_at(pool, &self.records, connection, identities)).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if self.is_unavailable() {
            return Err(no_response());
        }
        let _: Vec<(i64,)> = self.select(Access::Scan, sql::PING, &[]).await?;
        // Through the connection of the groups: without it nothing is committed, although the database responds.
        if self.write_failed.is_set() {
            return self.run_job(Job::Probe).await.map(|_| ());
        }
        // It writes nothing, so that it succeeded says nothing about a write that has failed meanwhile.
        let committed = measure("write", self.group.run(Job::Commit(Vec::new()))).await;
        if committed.is_err() {
            self.write_failed.record(&committed);
        }
        committed.map(|_| ())
    }

    fn is_unavailable(&self) -> bool {
        self.away.is_set()
    }

    fn has_undecided_commits(&self) -> bool {
        self.writer.has_undecided_commits()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn renew_lease(&self) -> Result<Vec<Peer>, StoreError> {
        let beat =
            self.run_with_retry(&self.pulse, WAIT, |pulse| instances::record_heartbeat(pulse, self.records.instance()));
        let mut beat = std::pin::pin!(beat);
        let in_time = tokio::time::timeout(LATE, &mut beat).await;
        let beaten = if let Ok(beaten) = in_time {
            beaten
        } else {
            self.away.set(true);
            beat.await
        };
        self.away.set(matches!(beaten, Err(StoreError::Unavailable(_) | StoreError::InDoubt(_))));
        let peers = beaten?;
        self.release_uncertain_locks();
        Ok(peers)
    }

    async fn end_instance(&self, peer: &Peer) -> Result<bool, StoreError> {
        let peer = peer.clone();
        self.write(work!(|tx, peer| instances::end(tx.connection, &peer))).await
    }

    async fn end_own_instance(&self) -> Result<(), StoreError> {
        self.run_with_retry(&self.pulse, WAIT, |pulse| instances::end_self(pulse, self.records.instance())).await
    }

    async fn acquire_locks(&self, subjects: &[&str]) -> Result<bool, StoreError> {
        let forms: Vec<_> = subjects.iter().flat_map(|subject| self.records.lock_forms(subject)).collect();
        match self.run_job(Job::AcquireLocks(forms, self.next_take())).await {
            Ok(JobResult::Locks(taken)) => Ok(taken),
            Ok(_) => Err(wrong_result()),
            // If the acquisition succeeds after all, a heartbeat releases it.
            Err(error) => Err(error.into_definite_failure()),
        }
    }

    async fn release_locks(&self, subjects: &[String]) -> Result<(), StoreError> {
        let forms: Vec<_> = subjects.iter().flat_map(|subject| self.records.lock_forms(subject)).collect();
        self.run_job(Job::ReleaseLocks(forms)).await.map(|_| ())
    }

    async fn begin_writes(
        &self,
        key: Option<&AcquireKey>,
        writes: Vec<PreparedWrite>,
    ) -> Result<Vec<BeginResult>, StoreError> {
        let rows = Arc::new(self.records.encode_writes(key, writes)?);
        let key = key.map(|key| Arc::new(self.records.key_row(key)));
        let mut results: Vec<Option<BeginResult>> = vec![None; rows.len()];
        for _ in 0..MAX_BEGIN_ATTEMPTS {
            let open: Vec<usize> = (0..results.len()).filter(|index| results[*index].is_none()).collect();
            // The key belongs to the first write.
            let key = key.clone().filter(|_| open.first() == Some(&0));
            if open.is_empty() {
                break;
            }
            let begun = match self.begin_open(key, Arc::clone(&rows), &open).await {
                Ok(begun) => begun,
                Err(error) if open.len() == results.len() => return Err(error),
                Err(error) => {
                    // Writes begun before stay so, whatever happens to the others.
                    for index in open {
                        results[index] = Some(BeginResult::Failed(error.clone()));
                    }
                    break;
                }
            };
            for (index, begun) in open.into_iter().zip(begun) {
                results[index] = self.open_begin_result(&rows[index].tenant, begun).await;
            }
        }
        let busy =
            || BeginResult::Failed(StoreError::Unavailable("the holders of an identity keep changing".to_owned()));
        Ok(results.into_iter().map(|result| result.unwrap_or_else(busy)).collect())
    }

    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError> {
        let events = event_types(&changes);
        let rows = self.records.encode_mutations(changes)?;
        self.run_job(Job::Commit(rows)).await?;
        count_events(&events);
        Ok(())
    }

    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        self.list(|pool| query::candidates_without_photos(pool, &self.records, tenant, ids)).await
    }

    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError> {
        let rows = self
            .read(|pool| query::candidates_with_identity(pool, &self.records, tenant, connection, identity))
            .await?;
        self.records.open_all(&rows, RecordCodec::candidate)
    }

    async fn identities_of_other_tenants(
        &self,
        tenant: &str,
        connection: &str,
        identities: &[Identity],
    ) -> Result<bool, StoreError> {
        let forms = candidates::identity_forms(&self.records, connection, identities);
        self.read(|pool| query::identities_of_other_tenants(pool, tenant, &forms)).await
    }

    async fn assignments(
        &self,
        tenant: &str,
        filter: &AssignmentFilter,
        page: &Page,
    ) -> Result<Vec<Assignment>, StoreError> {
        let unlinked = self.records.unlinked_forms(filter.candidate.as_ref());
        let rows = self.list(|pool| query::assignments(pool, tenant, filter, &unlinked, page)).await?;
        self.records.open_all(&rows, RecordCodec::assignment)
    }

    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError> {
        let claim = self.records.key_row(claim);
        match self.run_job(Job::AcquireKey(claim, self.next_take())).await {
            Ok(JobResult::Key(state)) => state,
            Ok(_) => Err(wrong_result()),
            // If the acquisition succeeds after all, a heartbeat releases it.
            Err(error) => Err(error.into_definite_failure()),
        }
    }

    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        let statement = OperationRow::of(operation).open(self.records.instance());
        self.write(work!(|tx, statement| tx.run(&statement))).await
    }

    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let rows = items.into_iter().map(|item| self.records.item_row(item)).collect::<Result<Vec<_>, _>>()?;
        self.write(work!(|tx, rows| items::add(tx.connection, &rows))).await
    }

    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError> {
        let (id, operation) = (operation.id.clone(), operation.clone());
        let key = key.map(|claim| self.records.key_row(claim));
        let take = self.next_take();
        let accepted = self
            .write(work!(|tx, operation, key| operations::accept(tx, &operation, key.as_ref().as_ref(), take)))
            .await?;
        if !matches!(accepted, AcceptResult::Queued)
            && let Err(error) = self.discard(id.as_str()).await
        {
            tracing::warn!(%error, "removing a rejected operation failed");
        }
        Ok(accepted)
    }

    async fn discard_operation(&self, id: &OperationId) -> Result<(), StoreError> {
        self.discard(id.as_str()).await
    }

    async fn next_items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Vec<Item>, StoreError> {
        let rows = self.read(|pool| items::list(pool, id.as_str(), states, from, most)).await?;
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
        self.list(|pool| items::reports(pool, &self.records, id, states, from, most)).await
    }

    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError> {
        let mut skipped = 0;
        loop {
            let id = id.clone();
            match self.write(work!(|tx, id| items::skip_waiting(tx.connection, id.as_str()))).await? {
                0 => return Ok(skipped),
                more => skipped += more,
            }
        }
    }

    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError> {
        let (id, accepted) = (id.clone(), micros(accepted));
        self.write(work!(|tx, id| operations::requeue(tx.connection, id.as_str(), accepted))).await
    }

    fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash {
        self.records.item_subject(operation, text)
    }

    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError> {
        let statement = Statement::new(sql::REMEMBER_TIME, values![micros(now)]);
        self.write(work!(|tx, statement| tx.run(&statement))).await
    }

    async fn index_participants(&self, limit: usize) -> Result<bool, StoreError> {
        self.write(work!(|tx| results::index_participants(tx, limit))).await
    }

    /// Purges in portions, so that no transaction holds its locks for long or exceeds the statement timeout.
    async fn purge_reports(&self, applied: Timestamp, parked: Timestamp) -> Result<u64, StoreError> {
        let (applied, parked) = (micros(applied), micros(parked));
        let mut purged = 0;
        loop {
            let (bodies, more_bodies) = self.write(work!(|tx| reports::purge_bodies(tx.connection, applied))).await?;
            let (gone, more) = self.write(work!(|tx| reports::purge_reports(tx.connection, parked))).await?;
            purged += bodies + gone;
            if !more_bodies && !more {
                return Ok(purged);
            }
        }
    }

    async fn number_events(&self, limit: usize) -> Result<u64, StoreError> {
        self.number_committed_events(limit).await
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.writer.events.visible()
    }

    fn unnumbered_signal(&self) -> watch::Receiver<u64> {
        self.writer.events.unnumbered()
    }

    async fn purge_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        Ok(self.purge_expired_events(before).await? + self.purge_deliveries(before).await?)
    }

    async fn purge_removed_webhook(&self, id: &WebhookId) -> Result<u64, StoreError> {
        self.purge_deliveries_of(id.as_str()).await
    }

    /// Purges in portions, so that no transaction holds its locks for long or exceeds the statement timeout.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError> {
        let (now, finished) = (micros(now), micros(finished));
        let mut purged = PurgeCounts::default();
        loop {
            let over = self.write(work!(|tx| operations::over(tx.connection, finished))).await?;
            if over.is_empty() {
                break;
            }
            for (id, was_finished) in over {
                self.discard(&id).await?;
                purged.operations += u64::from(was_finished);
            }
        }
        loop {
            let (gone, more) = self.write(work!(|tx| keys::purge(tx.connection, now))).await?;
            purged.keys += gone;
            if !more {
                break;
            }
        }
        self.write(work!(|tx| async { Ok(instances::forget(tx.connection).await?) })).await?;
        Ok(purged)
    }

    async fn reindex_identities(&self, limit: usize) -> Result<IdentityUpkeep, StoreError> {
        let renewed = self.write(work!(|tx| reindex::reindex(tx, limit))).await?;
        if matches!(renewed, IdentityUpkeep::Done { .. }) {
            self.records.ask_former_texts(false);
        }
        Ok(renewed)
    }
}

impl PostgresStore {
    /// Begins the writes with these indices in one transaction.
    async fn begin_open(
        &self,
        key: Option<Arc<KeyRow>>,
        rows: Arc<Vec<PreparedWriteRow>>,
        open: &[usize],
    ) -> Result<Vec<BegunWrite>, StoreError> {
        let key = key.map(|key| (key, self.next_take()));
        let job = BeginJob::new(&self.records, key, rows, open);
        match self.run_job(Job::BeginWrites(job)).await {
            Ok(JobResult::Begun(begun)) => Ok(begun),
            Ok(_) => Err(wrong_result()),
            Err(error) => Err(error),
        }
    }

    /// Removes an operation with its rows, one portion per transaction.
    async fn discard(&self, id: &str) -> Result<(), StoreError> {
        loop {
            let id = id.to_owned();
            if self.write(work!(|tx, id| operations::discard(tx.connection, &id))).await? {
                return Ok(());
            }
        }
    }
}

/// Returns the error of a job that ended with the result of another kind, which only a defect makes possible.
fn wrong_result() -> StoreError {
    StoreError::InDoubt("a transaction ended with the result of another".to_owned())
}
