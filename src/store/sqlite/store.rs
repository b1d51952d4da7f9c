//! Implements [`Store`]: seals arguments, runs the statements, and opens the rows they return.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

use super::{SqliteStore, items, keys, mutations, operations, query, statements};
use crate::domain::assignment::Assignment;
use crate::domain::audit::ChainedEntry;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::intent::Intent;
use crate::domain::operation::{Item, ItemId, ItemReport, ItemState, Operation, Progress};
use crate::store::codec::operations::running as running_row;
use crate::store::codec::{ItemRow, OperationRow, RecordCodec, micros};
use crate::store::columns::{FromColumns, RowWithPhoto};
use crate::store::engine::{Access, Engine};
use crate::store::sql::{self, AFTER_ALL, Sql, SqlValue, Statement, values};
use crate::store::sqlite::mutations::BegunWrite;
use crate::store::{
    AcceptResult, AcquireKey, AssignmentFilter, BeginResult, ItemCounts, KeyState, MAX_INTENT_BYTES, Mutation, Page,
    Peer, PreparedWrite, PurgeCounts, RunningOperation, Store, StoreError, SubjectHash, UnsettledCount, Window,
    WindowedRows,
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
        values: Vec<SqlValue<'_>>,
    ) -> Result<Vec<T>, StoreError> {
        let values: Vec<_> = values.into_iter().map(SqlValue::into_owned).collect();
        let select = move |connection: &Connection| statements::select(connection, sql, &values);
        match access {
            Access::Key | Access::PolledKey => self.read_one(select).await,
            Access::Scan | Access::List => self.read(select).await,
        }
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
        let _: Vec<(i64,)> = self.select(Access::Scan, sql::PING, values![]).await?;
        Ok(())
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
        let rows = self.records.encode_mutations(changes)?;
        self.write(move |hand| rows.iter().try_for_each(|row| mutations::apply(hand, row))).await
    }

    async fn candidates_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Candidate>, StoreError> {
        let (records, tenant, ids) = (Arc::clone(&self.records), tenant.to_owned(), ids.to_vec());
        self.read(move |connection| query::candidates_without_photos(connection, &records, &tenant, &ids)).await
    }

    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError> {
        self.records(Access::List, sql::ASSIGNMENTS_BY_ID, values![tenant, ids], RecordCodec::assignment).await
    }

    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError> {
        let row: Option<RowWithPhoto> =
            self.select_one(Access::Key, sql::CANDIDATE, values![id.as_str(), tenant]).await?;
        row.map(|RowWithPhoto(row)| self.records.candidate(&row)).transpose()
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
        self.records.open_all(&rows, RecordCodec::candidate)
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
        self.record(sql::ASSIGNMENT, values![id.as_str(), tenant], RecordCodec::assignment).await
    }

    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        self.records(Access::Key, sql::BOOKINGS, values![connection, &*forms, tenant], RecordCodec::assignment).await
    }

    async fn is_subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError> {
        let forms = self.records.subject_forms(connection, subject);
        let known = self.select_one(Access::Key, sql::IS_SUBJECT_KNOWN, values![connection, &*forms]).await?;
        Ok(known.is_some_and(|(known,)| known))
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
        self.records.open_all(&rows, RecordCodec::assignment)
    }

    async fn partially_erased_candidates(
        &self,
        after: Option<&CandidateId>,
        limit: usize,
    ) -> Result<Vec<CandidateId>, StoreError> {
        let after = after.map_or("", CandidateId::as_str);
        let ids: Vec<(String,)> = self.select(Access::Scan, sql::PARTIALLY_ERASED, values![after, limit]).await?;
        Ok(ids.iter().filter_map(|(id,)| CandidateId::parse(id).ok()).collect())
    }

    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError> {
        self.record(sql::INTENT, values![record], RecordCodec::intent).await
    }

    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError> {
        let forms = self.records.lock_forms(subject);
        self.records(Access::Key, sql::INTENTS_OF, values![&*forms], RecordCodec::intent).await
    }

    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError> {
        self.records(Access::Key, sql::ENROLMENT_INTENTS, values![connection], RecordCodec::intent).await
    }

    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError> {
        let values = values![connection, micros(now), micros(horizon), limit, MAX_INTENT_BYTES];
        self.records(Access::Scan, sql::DUE_INTENTS, values, RecordCodec::intent).await
    }

    async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError> {
        self.records(Access::Scan, sql::ORPHANED_INTENTS, values![limit, MAX_INTENT_BYTES], RecordCodec::intent).await
    }

    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError> {
        let values = values![self.records.instance(), after, limit, MAX_INTENT_BYTES];
        self.records(Access::Scan, sql::OWN_INTENTS, values, RecordCodec::intent).await
    }

    async fn count_unsettled_intents(&self) -> Result<Vec<UnsettledCount>, StoreError> {
        self.select(Access::List, sql::UNSETTLED, values![]).await
    }

    async fn count_open_items(&self) -> Result<ItemCounts, StoreError> {
        let counts = self.select_one(Access::List, sql::OPEN_ITEMS, values![]).await?;
        let (waiting, claimed): (i64, i64) = counts.unwrap_or_default();
        Ok(ItemCounts { waiting: waiting.unsigned_abs(), claimed: claimed.unsigned_abs() })
    }

    async fn acquire_key(&self, claim: &AcquireKey) -> Result<KeyState, StoreError> {
        let claim = self.records.key_row(claim);
        let taken = self.write(move |hand| keys::take(hand, &claim)).await;
        // If the key was acquired after all, only the next process can see that, and then under an ended instance.
        taken.map_err(StoreError::into_definite_failure)
    }

    async fn open_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        let statement = OperationRow::of(operation).open(self.records.instance());
        self.write(move |hand| hand.run(&statement)).await
    }

    async fn add_items(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let rows = items.into_iter().map(|item| self.records.item_row(item)).collect::<Result<Vec<_>, _>>()?;
        self.write(move |hand| items::add(hand.connection, &rows)).await
    }

    async fn accept_operation(
        &self,
        operation: &Operation,
        key: Option<&AcquireKey>,
    ) -> Result<AcceptResult, StoreError> {
        let (id, operation) = (operation.id.clone(), operation.clone());
        let key = key.map(|claim| self.records.key_row(claim));
        let accepted = self.write(move |hand| operations::accept(hand, &operation, key.as_ref())).await?;
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
        let values = values![id.as_str(), tenant];
        Ok(self.operations_with_progress(Access::PolledKey, sql::OPERATION, values).await?.pop())
    }

    async fn operations(&self, tenant: &str, page: &Page) -> Result<Vec<(Operation, Progress)>, StoreError> {
        let values = values![tenant, page.after.as_deref().unwrap_or(AFTER_ALL), page.limit];
        self.operations_with_progress(Access::List, sql::OPERATIONS, values).await
    }

    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError> {
        let but: Vec<String> = but.iter().map(ToString::to_string).collect();
        Ok(OperationRow::readable(self.select(Access::Scan, sql::UNFINISHED_OPERATIONS, values![but, of_each]).await?))
    }

    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError> {
        let rows = self.select(Access::Scan, sql::RUNNING_OPERATIONS, values![]).await?;
        rows.into_iter().map(running_row).collect()
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
        let rows = self.read(move |connection| items::list(connection, &text, &states, from, most)).await?;
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
        self.read(move |connection| items::reports(connection, &records, &id, &states, from, most)).await
    }

    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = self.select(Access::Scan, sql::ITEM_SUBJECTS, values![id.as_str()]).await?;
        Ok(RecordCodec::item_subjects(&rows))
    }

    async fn skip_waiting(&self, id: &OperationId) -> Result<u64, StoreError> {
        let mut skipped = 0;
        loop {
            let id = id.to_string();
            match self.write(move |hand| items::skip_waiting(hand.connection, &id)).await? {
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
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows: Vec<(i64, Vec<u8>)> = self.select(Access::List, sql::AUDIT, values![tenant, after, limit]).await?;
        rows.iter().map(|(seq, sealed)| self.records.open_audit_entry(tenant, *seq, sealed)).collect()
    }

    async fn remember_time(&self, now: Timestamp) -> Result<(), StoreError> {
        let statement = Statement { sql: sql::REMEMBER_TIME, values: values![micros(now)] };
        self.write(move |hand| hand.run(&statement)).await
    }

    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let seen = self.select_one(Access::Scan, sql::REMEMBERED_TIME, values![]).await?;
        Ok(seen.and_then(|(seen,)| Timestamp::from_microsecond(seen).ok()))
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
