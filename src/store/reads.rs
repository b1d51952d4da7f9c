//! The reads that are the same for every engine.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::audit::ChainedEntry;
use crate::domain::candidate::{Candidate, CandidateState};
use crate::domain::ids::{AssignmentId, CandidateId, OperationId};
use crate::domain::intent::Intent;
use crate::domain::operation::{Operation, OperationKind, OperationState, Progress};
use crate::store::codec::operations::running as running_row;
use crate::store::codec::{OperationRow, RecordCodec, SealedRow, candidate_state, micros};
use crate::store::columns::RowWithPhoto;
use crate::store::engine::{Access, Engine};
use crate::store::sql::{self, AFTER_ALL, values};
use crate::store::{
    CandidateFilter, ItemCounts, ListPart, OperationFilter, Page, RunningOperation, StoreError, SubjectHash,
    UnindexedCandidate, UnsettledCount,
};

/// Maximum bytes of open intents read at once: an intent with a picture is a thousand times as large as one without.
const MAX_INTENT_BYTES: usize = 8 << 20;

/// The reads of a [`Store`](crate::store::Store) that are the same for every engine.
#[async_trait]
pub trait StoreReads: Send + Sync {
    /// Returns the tenant's candidate with this id.
    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError>;

    /// Returns a part of the tenant's candidates, newest first and without their pictures.
    async fn listed_candidates(
        &self,
        tenant: &str,
        filter: &CandidateFilter,
        page: &Page,
    ) -> Result<ListPart<Candidate>, StoreError>;

    /// Returns a part of the candidates, of all tenants, whose group an earlier version has not indexed, ordered by id
    /// and without their pictures. Logs those that cannot be read.
    async fn candidates_without_group_index(&self, page: &Page) -> Result<ListPart<UnindexedCandidate>, StoreError>;

    /// Returns the tenant's assignment with this id.
    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError>;

    /// Returns the tenant's assignments with these ids, in any order.
    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError>;

    /// Returns the tenant's assignments of this subject at this connection, newest first.
    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError>;

    /// Returns whether any tenant has or had an assignment of this subject at this connection.
    async fn is_subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError>;

    /// Returns, ordered by id, candidates after this one that are gone while assignments still name them: they were
    /// erased before the person was removed from their assignments.
    async fn partially_erased_candidates(
        &self,
        after: Option<&CandidateId>,
        limit: usize,
    ) -> Result<Vec<CandidateId>, StoreError>;

    /// Returns the open intent of this record.
    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError>;

    /// Returns the open intents of this subject, oldest first.
    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError>;

    /// Returns a connection's open intents that change a program's employees, oldest first.
    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents of a connection that are due and that no instance is sending, the longest due first. An
    /// intent due after `horizon` counts as due as well: nothing is postponed that long, so a clock was wrong when its
    /// time was set.
    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents that an instance was sending when it ended, oldest first.
    async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// Returns open intents that this instance is sending, ordered by record, after this one: a page of the search for
    /// those whose task is gone.
    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError>;

    /// Counts the open intents that no instance is sending.
    async fn count_unsettled_intents(&self) -> Result<Vec<UnsettledCount>, StoreError>;

    /// Counts the rows that are waiting or being sent, over all operations.
    async fn count_open_items(&self) -> Result<ItemCounts, StoreError>;

    /// Returns the tenant's operation with this id.
    async fn operation(&self, tenant: &str, id: &OperationId) -> Result<Option<(Operation, Progress)>, StoreError>;

    /// Returns a page of the tenant's operations, newest first; omits those still being received.
    async fn operations(
        &self,
        tenant: &str,
        filter: &OperationFilter,
        page: &Page,
    ) -> Result<Vec<(Operation, Progress)>, StoreError>;

    /// Returns queued and running operations other than `but`. Per tenant and connection, these are the `of_each`
    /// oldest operations, and separately as many that change programs' employees. The first of each group come first,
    /// then the second of each, and so on.
    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError>;

    /// Returns all running operations with the number of their rows that have not ended.
    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError>;

    /// Returns the recorded subjects of the operation's rows, each with the index of its first row.
    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError>;

    /// Returns the tenant's audit entries after the one with this number, in order.
    async fn audit(&self, tenant: &str, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, StoreError>;

    /// Returns the time most recently recorded by [`remember_time`](crate::store::Store::remember_time).
    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError>;
}

#[async_trait]
impl<E: Engine> StoreReads for E {
    async fn candidate(&self, tenant: &str, id: &CandidateId) -> Result<Option<Candidate>, StoreError> {
        let row: Option<RowWithPhoto> =
            self.select_one(Access::Key, sql::CANDIDATE, &values![id.as_str(), tenant]).await?;
        row.map(|RowWithPhoto(row)| self.codec().candidate(&row)).transpose()
    }

    async fn listed_candidates(
        &self,
        tenant: &str,
        filter: &CandidateFilter,
        page: &Page,
    ) -> Result<ListPart<Candidate>, StoreError> {
        let CandidateFilter { connection, state, group } = filter;
        let (connection, after) = (connection.as_deref(), page.after.as_deref().unwrap_or(AFTER_ALL));
        let state = state.map(candidate_state);
        let Some(group) = group else {
            let of_state = state.filter(|state| *state != candidate_state(CandidateState::Registered));
            let sql = of_state.map_or(sql::LISTED_CANDIDATES, |_| sql::LISTED_CANDIDATES_OF_STATE);
            let values = values![tenant, after, connection, state, page.limit];
            let rows: Vec<SealedRow> = self.select(Access::List, sql, &values).await?;
            let items = self.codec().open_all(&rows, RecordCodec::candidate_without_photo)?;
            return Ok(ListPart { next: next_of(&rows, page), items });
        };
        let missing = self.select_one(Access::Key, sql::IS_A_GROUP_INDEX_MISSING, &values![]).await?;
        let missing = missing.is_some_and(|(missing,)| missing);
        let sql = if missing { sql::LISTED_CANDIDATES_PERHAPS_OF_GROUP } else { sql::LISTED_CANDIDATES_OF_GROUP };
        let forms = self.codec().group_forms(tenant, group);
        let values = values![tenant, after, connection, state, &*forms, page.limit];
        let rows: Vec<SealedRow> = self.select(Access::List, sql, &values).await?;
        let mut items = if missing {
            // It is not known whether those that cannot be read are of the group.
            rows.iter().filter_map(|row| unindexed(self.codec(), row).readable()).collect()
        } else {
            self.codec().open_all(&rows, RecordCodec::candidate_without_photo)?
        };
        items.retain(|candidate| candidate.person.group.as_ref() == Some(group));
        Ok(ListPart { next: next_of(&rows, page), items })
    }

    async fn candidates_without_group_index(&self, page: &Page) -> Result<ListPart<UnindexedCandidate>, StoreError> {
        let values = values![page.after.as_deref().unwrap_or_default(), page.limit];
        let rows: Vec<SealedRow> = self.select(Access::Scan, sql::CANDIDATES_WITHOUT_GROUP_INDEX, &values).await?;
        let next = next_of(&rows, page);
        Ok(ListPart { items: rows.iter().map(|row| unindexed(self.codec(), row)).collect(), next })
    }

    async fn assignment(&self, tenant: &str, id: &AssignmentId) -> Result<Option<Assignment>, StoreError> {
        self.record(sql::ASSIGNMENT, &values![id.as_str(), tenant], RecordCodec::assignment).await
    }

    async fn assignments_by_id(&self, tenant: &str, ids: &[String]) -> Result<Vec<Assignment>, StoreError> {
        self.records(Access::List, sql::ASSIGNMENTS_BY_ID, &values![tenant, ids], RecordCodec::assignment).await
    }

    async fn bookings(&self, tenant: &str, connection: &str, subject: &str) -> Result<Vec<Assignment>, StoreError> {
        let forms = self.codec().subject_forms(connection, subject);
        self.records(Access::Key, sql::BOOKINGS, &values![connection, &*forms, tenant], RecordCodec::assignment).await
    }

    async fn is_subject_known(&self, connection: &str, subject: &str) -> Result<bool, StoreError> {
        let forms = self.codec().subject_forms(connection, subject);
        let known = self.select_one(Access::Key, sql::IS_SUBJECT_KNOWN, &values![connection, &*forms]).await?;
        Ok(known.is_some_and(|(known,)| known))
    }

    async fn partially_erased_candidates(
        &self,
        after: Option<&CandidateId>,
        limit: usize,
    ) -> Result<Vec<CandidateId>, StoreError> {
        let after = after.map_or("", CandidateId::as_str);
        let ids: Vec<(String,)> = self.select(Access::Scan, sql::PARTIALLY_ERASED, &values![after, limit]).await?;
        Ok(ids.iter().filter_map(|(id,)| CandidateId::parse(id).ok()).collect())
    }

    async fn intent(&self, record: &str) -> Result<Option<Intent>, StoreError> {
        self.record(sql::INTENT, &values![record], RecordCodec::intent).await
    }

    async fn intents_of(&self, subject: &str) -> Result<Vec<Intent>, StoreError> {
        let forms = self.codec().lock_forms(subject);
        self.records(Access::Key, sql::INTENTS_OF, &values![&*forms], RecordCodec::intent).await
    }

    async fn enrolment_intents(&self, connection: &str) -> Result<Vec<Intent>, StoreError> {
        self.records(Access::Key, sql::ENROLMENT_INTENTS, &values![connection], RecordCodec::intent).await
    }

    async fn due_intents(
        &self,
        connection: &str,
        now: Timestamp,
        horizon: Timestamp,
        limit: usize,
    ) -> Result<Vec<Intent>, StoreError> {
        let values = values![connection, micros(now), micros(horizon), limit, MAX_INTENT_BYTES];
        self.records(Access::Scan, sql::DUE_INTENTS, &values, RecordCodec::intent).await
    }

    async fn orphaned_intents(&self, limit: usize) -> Result<Vec<Intent>, StoreError> {
        self.records(Access::Scan, sql::ORPHANED_INTENTS, &values![limit, MAX_INTENT_BYTES], RecordCodec::intent).await
    }

    async fn own_intents(&self, after: &str, limit: usize) -> Result<Vec<Intent>, StoreError> {
        let values = values![self.codec().instance(), after, limit, MAX_INTENT_BYTES];
        self.records(Access::Scan, sql::OWN_INTENTS, &values, RecordCodec::intent).await
    }

    async fn count_unsettled_intents(&self) -> Result<Vec<UnsettledCount>, StoreError> {
        self.select(Access::List, sql::UNSETTLED, &values![]).await
    }

    async fn count_open_items(&self) -> Result<ItemCounts, StoreError> {
        let counts = self.select_one(Access::List, sql::OPEN_ITEMS, &values![]).await?;
        let (waiting, claimed): (i64, i64) = counts.unwrap_or_default();
        Ok(ItemCounts { waiting: waiting.unsigned_abs(), claimed: claimed.unsigned_abs() })
    }

    async fn operation(&self, tenant: &str, id: &OperationId) -> Result<Option<(Operation, Progress)>, StoreError> {
        let values = values![id.as_str(), tenant];
        Ok(self.operations_with_progress(Access::PolledKey, sql::OPERATION, &values).await?.pop())
    }

    async fn operations(
        &self,
        tenant: &str,
        filter: &OperationFilter,
        page: &Page,
    ) -> Result<Vec<(Operation, Progress)>, StoreError> {
        let OperationFilter { state, kind, connection } = filter;
        let (state, kind) = (state.map(OperationState::as_str), kind.map(OperationKind::as_str));
        let after = page.after.as_deref().unwrap_or(AFTER_ALL);
        let values = values![tenant, after, state, kind, connection.as_deref(), page.limit];
        self.operations_with_progress(Access::List, sql::OPERATIONS, &values).await
    }

    async fn unfinished_operations(&self, but: &[OperationId], of_each: usize) -> Result<Vec<Operation>, StoreError> {
        let but: Vec<String> = but.iter().map(ToString::to_string).collect();
        Ok(OperationRow::readable(self.select(Access::Scan, sql::UNFINISHED_OPERATIONS, &values![but, of_each]).await?))
    }

    async fn running_operations(&self) -> Result<Vec<RunningOperation>, StoreError> {
        let rows = self.select(Access::Scan, sql::RUNNING_OPERATIONS, &values![]).await?;
        rows.into_iter().map(running_row).collect()
    }

    async fn item_subjects(&self, id: &OperationId) -> Result<Vec<(SubjectHash, u64)>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = self.select(Access::Scan, sql::ITEM_SUBJECTS, &values![id.as_str()]).await?;
        Ok(RecordCodec::item_subjects(&rows))
    }

    async fn audit(&self, tenant: &str, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows: Vec<(i64, Vec<u8>)> = self.select(Access::List, sql::AUDIT, &values![tenant, after, limit]).await?;
        rows.iter().map(|(seq, sealed)| self.codec().open_audit_entry(tenant, *seq, sealed)).collect()
    }

    async fn remembered_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let seen = self.select_one(Access::Scan, sql::REMEMBERED_TIME, &values![]).await?;
        Ok(seen.and_then(|(seen,)| Timestamp::from_microsecond(seen).ok()))
    }
}

/// Opens a candidate without its picture; logs that it cannot be read.
fn unindexed(codec: &RecordCodec, row: &SealedRow) -> UnindexedCandidate {
    match codec.candidate_without_photo(row) {
        Ok(candidate) => UnindexedCandidate::Readable(Box::new(candidate)),
        Err(error) => {
            tracing::error!(%error, "a candidate cannot be read; lists by group omit it");
            UnindexedCandidate::Unreadable(row.id.clone(), row.sealed.clone())
        }
    }
}

/// Returns the last of these rows if more may follow them.
fn next_of(rows: &[SealedRow], page: &Page) -> Option<String> {
    rows.last().filter(|_| rows.len() >= page.limit).map(|last| last.id.clone())
}
