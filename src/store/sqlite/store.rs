//! Implements [`Store`]: seals arguments, runs the statements, and opens the rows they return.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    SqliteStore, events, items, keys, mutations, operations, query, reindex, reports, results, statements, webhooks,
};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{OperationId, WebhookId};
use crate::domain::operation::{Item, ItemId, ItemReport, ItemState, Operation};
use crate::store::codec::{ItemRow, OperationRow, RecordCodec, micros};
use crate::store::columns::FromColumns;
use crate::store::engine::{Access, Engine};
use crate::store::event_reads::expired_events;
use crate::store::result_reads::column;
use crate::store::sql::{self, Sql, SqlValue, Statement, values};
use crate::store::sqlite::mutations::BegunWrite;
use crate::store::sqlite::read_context::ReadContext;
use crate::store::{
    AcceptResult, AcquireKey, AssignmentFilter, BeginResult, IdentityUpkeep, KeyState, Mutation, Page, Peer,
    PreparedWrite, PurgeCounts, Store, StoreError, SubjectHash, Window, WindowedRows, count_events, event_types,
};

/// Maximum identities whose look-up is as fast as that of one record.
const FEW: usize = 16;

impl Engine for SqliteStore {
    fn codec(&self) -> &RecordCodec {
        &self.records
    }

    async fn select<T: FromColumns>(
        &self,
        access: Access,
        sql: &'static Sql,
        values: &[SqlValue<'_>],
    ) -> Result<Vec<T>, StoreError> {
        let values: Vec<_> = values.iter().cloned().map(SqlValue::into_owned).collect();
        let select = move |read: ReadContext<'_>| statements::select(read.connection, sql, &values);
        match access {
            Access::Key | Access::PolledKey => self.read_one(select).await,
            Access::Scan | Access::List => self.read(select).await,
        }
    }

    async fn candidates_with(&self, connection: &str, identities: &[Identity]) -> Result<Vec<Candidate>, StoreError> {
        let (connection, identities) = (connection.to_owned(), identities.to_vec());
        self.read(move |read| query::candidates_at(read, &connection, &identities)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if !self.writer.is_alive() {
            return Err(StoreError::Unavailable("the writer thread has ended".to_owned()));
        }
        if self.write_failed.is_set() {
            return self.write(|tx| query::write_probe(tx.connection)).await;
        }
        let _: Vec<(i64,)> = self.select(Access::Scan, sql::PING, &[]).await?;
        Ok(())
    }

    fn is_unavailable(&self) -> bool {
        false
    }

    fn has_undecided_commits(&self) -> bool {
        // The next commit decides the one before.
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
        let begun = self.write(move |tx| mutations::begin_writes(tx, key.as_ref(), &rows)).await?;
        let results = begun.into_iter().map(|begun| match begun {
            BegunWrite::Written => BeginResult::Begun,
            BegunWrite::Held(rows) => self
                .records
                .open_all(&rows, RecordCodec::candidate)
                .map_or_else(BeginResult::Failed, BeginResult::Exists),
            BegunWrite::HeldByOtherTenant => BeginResult::TakenByOtherTenant,
            BegunWrite::ItemCancelled => BeginResult::ItemCancelled,
            BegunWrite::KeyInUse => BeginResult::KeyInUse,
        });
        Ok(results.collect())
    }

    async fn commit(&self, changes: Vec<Mutation>) -> Result<(), StoreError> {
        let events = event_types(&changes);
        let rows = self.records.encode_mutations(changes)?;
        self.write(move |tx| rows.iter().try_for_each(|row| mutations::apply(tx, row))).await?;
        count_events(&events);
        Ok(())
    }

    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        let (tenant, ids) = (tenant.to_owned(), ids.to_vec());
        self.read(move |read| query::candidates_without_photos(read, &tenant, &ids)).await
    }

    async fn candidates(
        &self,
        tenant: &str,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, StoreError> {
        let (tenant, at, identity) = (tenant.to_owned(), connection.map(str::to_owned), identity.clone());
        let rows = self.read_one(move |read| query::candidates(read, &tenant, at.as_deref(), &identity)).await?;
        self.records.open_all(&rows, RecordCodec::candidate)
    }

    async fn identities_of_other_tenants(
        &self,
        tenant: &str,
        connection: &str,
        identities: &[Identity],
    ) -> Result<bool, StoreError> {
        let (tenant, at, identities) = (tenant.to_owned(), connection.to_owned(), identities.to_vec());
        let few = identities.len() <= FEW;
        let held = move |read: ReadContext<'_>| query::identities_of_other_tenants(read, &tenant, &at, &identities);
        if few { self.read_one(held).await } else { self.read(held).await }
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
            self.read(move |read| query::assignments(read.connection, &tenant, &filter, &unlinked, &page)).await?;
        self.records.open_all(&rows, RecordCodec::assignment)
    }

    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError> {
        let claim = self.records.key_row(claim);
        let taken = self.write(move |tx| keys::take(tx, &claim)).await;
        // If the key was acquired after all, only the next process can see that, and then under an ended instance.
        taken.map_err(StoreError::into_definite_failure)
    }

    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        let statement = OperationRow::of(operation).open(self.records.instance());
        self.write(move |tx| tx.run(&statement)).await
    }

    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let rows = items.into_iter().map(|item| self.records.item_row(item)).collect::<Result<Vec<_>, _>>()?;
        self.write(move |tx| items::add(tx.connection, &rows)).await
    }

    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError> {
        let (id, operation) = (operation.id.clone(), operation.clone());
        let key = key.map(|claim| self.records.key_row(claim));
        let accepted = self.write(move |tx| operations::accept(tx, &operation, key.as_ref())).await?;
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
            if self.write(move |tx| operations::discard(tx.connection, &id)).await? {
                return Ok(());
            }
        }
    }

    async fn next_items(
        &self,
        id: &OperationId,
        states: &[ItemState],
        from: u64,
        most: Window,
    ) -> Result<Vec<Item>, StoreError> {
        let (text, states) = (id.to_string(), states.to_vec());
        let rows = self.read(move |read| items::list(read.connection, &text, &states, from, most)).await?;
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
        let (id, states) = (id.clone(), states.to_vec());
        self.read(move |read| items::reports(read, &id, &states, from, most)).await
    }

    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError> {
        // Each portion begins where the one before ended: the rows that are skipped already are not passed again.
        let (mut skipped, mut after) = (0, -1);
        loop {
            let id = id.to_string();
            match self.write(move |tx| items::skip_waiting(tx.connection, &id, after)).await? {
                Some((more, last)) => (skipped, after) = (skipped + more, last),
                // A row may have been returned to waiting behind it.
                None if after >= 0 => after = -1,
                None => return Ok(skipped),
            }
        }
    }

    async fn requeue(&self, id: &OperationId, accepted: Timestamp) -> Result<(), StoreError> {
        let id = id.to_string();
        self.write(move |tx| operations::requeue(tx.connection, &id, micros(accepted))).await
    }

    fn hash_subject(&self, operation: &OperationId, text: &str) -> SubjectHash {
        self.records.item_subject(operation, text)
    }

    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError> {
        let statement = Statement::new(sql::REMEMBER_TIME, values![micros(now)]);
        self.write(move |tx| tx.run(&statement)).await
    }

    async fn reindex_identities(&self, limit: usize) -> Result<IdentityUpkeep, StoreError> {
        self.write(move |tx| reindex::reindex(tx, limit)).await
    }

    async fn index_participants(&self, limit: usize) -> Result<bool, StoreError> {
        self.write(move |tx| results::index_participants(tx, limit)).await
    }

    /// Purges in portions, so that other writes can run in between.
    async fn purge_reports(&self, applied: Timestamp, parked: Timestamp) -> Result<u64, StoreError> {
        let (applied, parked) = (micros(applied), micros(parked));
        let mut purged = 0;
        loop {
            let (bodies, more_bodies) = self.write(move |tx| reports::purge_bodies(tx.connection, applied)).await?;
            let (gone, more) = self.write(move |tx| reports::purge_reports(tx.connection, parked)).await?;
            purged += bodies + gone;
            if !more_bodies && !more {
                return Ok(purged);
            }
        }
    }

    async fn number_events(&self, _limit: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.events.visible()
    }

    fn unnumbered_signal(&self) -> watch::Receiver<u64> {
        self.events.unnumbered()
    }

    /// Purges in portions, so that other writes can run in between.
    async fn purge_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        for (tenant, until) in expired_events(self, before).await? {
            let mut more = true;
            while more {
                let (tenant, until) = (tenant.clone(), column(until));
                let (gone, again) = self.write(move |tx| events::purge(tx.connection, &tenant, until)).await?;
                (purged, more) = (purged + gone, again);
            }
        }
        let before = micros(before);
        loop {
            let (ended, more_ended) = self.write(move |tx| webhooks::purge_ended(tx.connection, before)).await?;
            let (removed, more_removed) = self.write(|tx| webhooks::purge_removed(tx.connection)).await?;
            purged += ended + removed;
            if !more_ended && !more_removed {
                return Ok(purged);
            }
        }
    }

    async fn purge_removed_webhook(&self, id: &WebhookId) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let id = id.clone();
            let (gone, more) = self.write(move |tx| webhooks::purge_deliveries_of(tx.connection, id.as_str())).await?;
            purged += gone;
            if !more {
                return Ok(purged);
            }
        }
    }

    /// Purges in portions, so that other writes can run in between.
    async fn purge(&self, now: Timestamp, finished: Timestamp) -> Result<PurgeCounts, StoreError> {
        let (now, finished) = (micros(now), micros(finished));
        let mut purged = PurgeCounts::default();
        loop {
            let (gone, more) = self.write(move |tx| operations::purge(tx.connection, finished)).await?;
            purged.operations += gone;
            if !more {
                break;
            }
        }
        loop {
            let (gone, more) = self.write(move |tx| keys::purge(tx, now)).await?;
            purged.keys += gone;
            if !more {
                return Ok(purged);
            }
        }
    }
}
