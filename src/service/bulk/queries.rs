//! Operations as their owner sees them: how far they are, what became of each row; and asking for their end or for another
//! try.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::OperationId;
use crate::domain::operation::{
    ItemOutcome, ItemReport, ItemState, ItemStatus, Operation, OperationKind, OperationState, Progress,
};
use crate::domain::program::Enrolled;
use crate::service::bulk::skipped_error;
use crate::service::write::executor::operation_path;
use crate::service::{CandidateWithWarnings, Gateway, RequestContext, StoreResultExt as _, doubt_at};
use crate::store::{Mutation, Page, Part, Window};

/// First and longest pause between two looks at an operation whose end is waited for. What this instance works on is
/// looked at as soon as it has ended.
const MAX_LOOKUPS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Most bytes of rows that are read at once to tell how they ended.
const REPORTS: usize = 256 << 10;

/// An operation and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStatus {
    /// The operation.
    pub operation: Operation,
    /// How far it is.
    pub progress: Progress,
    /// When it is forgotten; known once it has ended.
    pub expires: Option<Timestamp>,
}

impl OperationStatus {
    /// Describes an operation that was queued just now.
    pub(in crate::service) fn queued(operation: Operation) -> Self {
        let progress = Progress { total: operation.total, pending: operation.total, ..Progress::default() };
        Self { operation, progress, expires: None }
    }
}

/// Which rows are meant, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFilter {
    /// Done, now or before.
    Applied,
    /// Failed or skipped: nothing happened.
    NotApplied,
    /// Not known.
    Unknown,
    /// Not sent.
    Skipped,
}

/// What became of one row.
#[derive(Debug, Clone)]
pub struct ResultRow {
    /// Its position in the request, from 0.
    pub index: u64,
    /// The caller's mark.
    pub item_id: Option<String>,
    /// How it ended.
    pub end: RowOutcome,
}

/// How a row ended.
#[derive(Debug, Clone)]
pub enum RowOutcome {
    /// It was done now.
    Created(RowResource),
    /// It was there before.
    Existing(RowResource),
    /// It failed.
    Failed(Error),
}

/// What a row led to.
#[derive(Debug, Clone)]
pub enum RowResource {
    /// A person.
    Candidate(CandidateWithWarnings),
    /// A booking.
    Assignment(Assignment),
    /// A change of a program's employees.
    Enrolled(Enrolled),
    /// Something that was erased since.
    Erased,
}

impl ResultFilter {
    const fn states(self) -> &'static [ItemState] {
        match self {
            Self::Applied => &[ItemState::Applied],
            Self::NotApplied => &[ItemState::NotApplied, ItemState::Skipped],
            Self::Unknown => &[ItemState::Unknown],
            Self::Skipped => &[ItemState::Skipped],
        }
    }
}

const ENDED: &[ItemState] = &[ItemState::Applied, ItemState::NotApplied, ItemState::Unknown, ItemState::Skipped];

impl Gateway {
    /// The tenant's operation; `not_found` otherwise, and once it is forgotten.
    pub async fn operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        let permit = self.read_permit(caller).await;
        let found = self.0.store.operation(&caller.tenant, id).await.or_not_applied()?;
        drop(permit);
        found
            .filter(|(operation, _)| operation.state != OperationState::Receiving)
            .and_then(|found| self.viewed(caller, found))
            .ok_or_else(|| Error::new(Code::NotFound, format!("There is no operation {id}.")))
    }

    /// As [`Self::operation`], of one that was accepted: a store that cannot be read says nothing about it.
    async fn accepted_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        self.operation(caller, id).await.map_err(|fault| {
            if fault.code == Code::StoreUnavailable {
                fault.with_unknown_outcome().with_resource(operation_path(id))
            } else {
                fault
            }
        })
    }

    /// A part of the tenant's operations, newest first, and the cursor of the next part.
    pub async fn operations(
        &self,
        caller: &RequestContext,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<OperationStatus>, Option<String>), Error> {
        let unknown =
            |_| Error::from_fields(vec![FieldError::invalid("?cursor", "is not a cursor this list has given")]);
        let after = cursor.map(|cursor| OperationId::parse(cursor).map_err(unknown)).transpose()?;
        // One more than asked for tells whether there is a next part.
        let page = Page { limit: limit + 1, after: after.map(String::from) };
        let _permit = self.read_permit(caller).await;
        let mut found = self.0.store.operations(&caller.tenant, &page).await.or_not_applied()?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(last, _)| last.id.to_string());
        Ok((found.into_iter().filter_map(|found| self.viewed(caller, found)).collect(), next))
    }

    /// Waits until the operation has ended, at most this long.
    pub async fn operation_ended(
        &self,
        caller: &RequestContext,
        id: &OperationId,
        patience: Duration,
    ) -> Result<OperationStatus, Error> {
        let deadline = Instant::now().checked_add(patience);
        let mut pause = MAX_LOOKUPS.0;
        loop {
            let changed = self.0.board.changed.notified();
            let view = self.accepted_operation(caller, id).await?;
            let left = deadline.map_or(MAX_LOOKUPS.1, |deadline| deadline.saturating_duration_since(Instant::now()));
            if view.operation.state.is_terminal() || left.is_zero() {
                return Ok(view);
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause.min(left)) => pause = (pause * 2).min(MAX_LOOKUPS.1),
            }
        }
    }

    /// What became of an operation's rows so far, in the order of the request, from this position on; at most so many, and
    /// fewer where they take much memory. Whether there may be more. People come without their pictures.
    pub async fn operation_results(
        &self,
        caller: &RequestContext,
        id: &OperationId,
        outcome: Option<ResultFilter>,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<ResultRow>, bool), Error> {
        let OperationStatus { operation, .. } = self.operation(caller, id).await?;
        let states = outcome.map_or(ENDED, ResultFilter::states);
        let most = Window { rows: limit, bytes: REPORTS };
        let _permit = self.read_permit(caller).await;
        let Part { rows: items, more } = self.0.store.item_reports(id, states, from, most).await.or_not_applied()?;
        let records: Vec<String> = items.iter().filter_map(|item| item.record.clone()).collect();
        let mut resources: HashMap<String, RowResource> = HashMap::new();
        match operation.kind {
            OperationKind::Candidates => {
                let found = self.0.store.candidates_by_id(&caller.tenant, &records).await.or_not_applied()?;
                resources.extend(found.into_iter().map(|found| (found.id.to_string(), candidate(found))));
            }
            OperationKind::Assignments => {
                let found = self.0.store.assignments_by_id(&caller.tenant, &records).await.or_not_applied()?;
                resources.extend(found.into_iter().map(|found| (found.id.to_string(), RowResource::Assignment(found))));
            }
            OperationKind::ProgramEmployees => {}
        }
        let told = self.tells_passwords(&operation);
        Ok((items.into_iter().map(|item| result(item, &resources, told)).collect(), more))
    }

    /// Ends an operation: what was not begun is skipped, what is under way goes on to its end.
    pub async fn cancel_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        let view = self.operation(caller, id).await?;
        if view.operation.state.is_terminal() {
            return Ok(view);
        }
        let (store, resource) = (&self.0.store, operation_path(id));
        let cancelling = store.commit(vec![Mutation::OperationCancelling(id.clone())]).await.or_not_applied();
        cancelling.map_err(|fault| doubt_at(fault, &resource))?;
        // Its worker finds nothing more to send, and a row it has in hand cannot be claimed any more.
        store.skip_waiting(id).await.or_unknown(&resource)?;
        self.0.board.notify();
        self.accepted_operation(caller, id).await
    }

    /// Sends an operation's failed and skipped rows again, its unknown ones once they are settled; applied ones never.
    pub async fn retry_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        self.refuse_when_draining()?;
        let view = self.operation(caller, id).await?;
        let Progress { not_applied, unknown, skipped, .. } = view.progress;
        if not_applied + unknown + skipped > 0 {
            let requeued = self.0.store.requeue(id, self.0.environment.now()).await.or_not_applied();
            requeued.map_err(|fault| doubt_at(fault, &operation_path(id)))?;
            self.0.board.notify();
        }
        self.accepted_operation(caller, id).await
    }

    /// The operation, unless the caller may not use its connection or its time is over.
    fn viewed(&self, caller: &RequestContext, (operation, progress): (Operation, Progress)) -> Option<OperationStatus> {
        let kept = SignedDuration::try_from(self.configured().retention.operations).unwrap_or(SignedDuration::MAX);
        let expires = operation.finished.map(|finished| finished.saturating_add(kept).unwrap_or(Timestamp::MAX));
        let over = expires.is_some_and(|expires| expires <= self.now());
        (!over && caller.connections.contains(&operation.connection)).then_some(OperationStatus {
            operation,
            progress,
            expires,
        })
    }

    /// Whether the passwords made up for an operation's people are still told.
    fn tells_passwords(&self, operation: &Operation) -> bool {
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let from = operation.finished.unwrap_or(operation.created);
        from.saturating_add(kept).unwrap_or(Timestamp::MAX) > self.now()
    }
}

fn candidate(candidate: Candidate) -> RowResource {
    RowResource::Candidate(candidate.into())
}

fn result(item: ItemReport, resources: &HashMap<String, RowResource>, tells_passwords: bool) -> ResultRow {
    let ItemReport { id: at, item_id, state, record, refused, outcome: end } = item;
    // How a row ended in an earlier try counts no more, unless it could not be read: then nothing else can come of it.
    let end = end.filter(|end| refused || end.state() == state);
    let Some(ItemOutcome { result, warnings, initial_password, counts }) = end else {
        // Rows skipped all at once are not written one by one.
        let fault = match state {
            ItemState::Skipped => skipped_error(),
            _ => Error::unknown(Code::Internal, "The row has no end."),
        };
        return ResultRow { index: at.index, item_id, end: RowOutcome::Failed(fault) };
    };
    let resource = || {
        let found = record.as_ref().and_then(|record| resources.get(record)).cloned();
        match (counts, found) {
            (Some(counts), _) => RowResource::Enrolled(Enrolled { counts, warnings: warnings.clone() }),
            (None, Some(RowResource::Candidate(mut answer))) => {
                answer.candidate.warnings.extend(warnings.clone());
                answer.initial_password = initial_password.clone().filter(|_| tells_passwords);
                RowResource::Candidate(answer)
            }
            (None, Some(RowResource::Assignment(mut assignment))) => {
                assignment.warnings.extend(warnings.clone());
                RowResource::Assignment(assignment)
            }
            (None, _) => RowResource::Erased,
        }
    };
    let end = match result {
        ItemStatus::Created => RowOutcome::Created(resource()),
        ItemStatus::Existing => RowOutcome::Existing(resource()),
        ItemStatus::Failed(fault) => RowOutcome::Failed(*fault),
    };
    ResultRow { index: at.index, item_id, end }
}
