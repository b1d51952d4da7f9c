//! Operations as their owner sees them: how far they are, what became of each row; and asking for their end or for another
//! try.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::skipped;
use crate::dispatch::journal::operation_path;
use crate::dispatch::{BeforeSending as _, Caller, CandidateAnswer, Gateway, doubt_at};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::ids::OperationId;
use crate::domain::operation::{
    BulkOperation, ItemEnd, ItemReport, ItemResult, ItemState, OperationKind, OperationState, Progress,
};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::program::Enrolled;
use crate::store::{Change, Page, Part, Window};

/// First and longest pause between two looks at an operation whose end is waited for. What this instance works on is
/// looked at as soon as it has ended.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Most bytes of rows that are read at once to tell how they ended.
const REPORTS: usize = 256 << 10;

/// An operation and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationView {
    /// The operation.
    pub operation: BulkOperation,
    /// How far it is.
    pub progress: Progress,
    /// When it is forgotten; known once it has ended.
    pub expires: Option<Timestamp>,
}

impl OperationView {
    /// Describes an operation that was queued just now.
    pub(in crate::dispatch) fn queued(operation: BulkOperation) -> Self {
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
pub struct RowResult {
    /// Its position in the request, from 0.
    pub index: u64,
    /// The caller's mark.
    pub item_id: Option<String>,
    /// How it ended.
    pub end: RowEnd,
}

/// How a row ended.
#[derive(Debug, Clone)]
pub enum RowEnd {
    /// It was done now.
    Created(Resource),
    /// It was there before.
    Existing(Resource),
    /// It failed.
    Failed(Fault),
}

/// What a row led to.
#[derive(Debug, Clone)]
pub enum Resource {
    /// A person.
    Candidate(CandidateAnswer),
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
    pub async fn operation(&self, caller: &Caller, id: &OperationId) -> Result<OperationView, Fault> {
        let permit = self.read_permit(caller).await;
        let found = self.0.store.operation(&caller.tenant, id).await.before_sending()?;
        drop(permit);
        found
            .filter(|(operation, _)| operation.state != OperationState::Receiving)
            .and_then(|found| self.viewed(caller, found))
            .ok_or_else(|| Fault::new(Code::NotFound, format!("There is no operation {id}.")))
    }

    /// As [`Self::operation`], of one that was accepted: a store that cannot be read says nothing about it.
    async fn accepted_operation(&self, caller: &Caller, id: &OperationId) -> Result<OperationView, Fault> {
        self.operation(caller, id).await.map_err(|fault| {
            if fault.code == Code::StoreUnavailable { fault.unproved().at(operation_path(id)) } else { fault }
        })
    }

    /// A part of the tenant's operations, newest first, and the cursor of the next part.
    pub async fn operations(
        &self,
        caller: &Caller,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<OperationView>, Option<String>), Fault> {
        let unknown = |_| Fault::of_fields(vec![FieldFault::invalid("?cursor", "is not a cursor this list has given")]);
        let after = cursor.map(|cursor| OperationId::parse(cursor).map_err(unknown)).transpose()?;
        // One more than asked for tells whether there is a next part.
        let page = Page { limit: limit + 1, after: after.map(String::from) };
        let _permit = self.read_permit(caller).await;
        let mut found = self.0.store.operations(&caller.tenant, &page).await.before_sending()?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(last, _)| last.id.to_string());
        Ok((found.into_iter().filter_map(|found| self.viewed(caller, found)).collect(), next))
    }

    /// Waits until the operation has ended, at most this long.
    pub async fn operation_ended(
        &self,
        caller: &Caller,
        id: &OperationId,
        patience: Duration,
    ) -> Result<OperationView, Fault> {
        let deadline = Instant::now().checked_add(patience);
        let mut pause = LOOKS.0;
        loop {
            let changed = self.0.board.changed.notified();
            let view = self.accepted_operation(caller, id).await?;
            let left = deadline.map_or(LOOKS.1, |deadline| deadline.saturating_duration_since(Instant::now()));
            if view.operation.state.ended() || left.is_zero() {
                return Ok(view);
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause.min(left)) => pause = (pause * 2).min(LOOKS.1),
            }
        }
    }

    /// What became of an operation's rows so far, in the order of the request, from this position on; at most so many, and
    /// fewer where they take much memory. Whether there may be more. People come without their pictures.
    pub async fn operation_results(
        &self,
        caller: &Caller,
        id: &OperationId,
        outcome: Option<ResultFilter>,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<RowResult>, bool), Fault> {
        let OperationView { operation, .. } = self.operation(caller, id).await?;
        let states = outcome.map_or(ENDED, ResultFilter::states);
        let most = Window { rows: limit, bytes: REPORTS };
        let _permit = self.read_permit(caller).await;
        let Part { rows: items, more } = self.0.store.item_reports(id, states, from, most).await.before_sending()?;
        let records: Vec<String> = items.iter().filter_map(|item| item.record.clone()).collect();
        let mut resources: HashMap<String, Resource> = HashMap::new();
        match operation.kind {
            OperationKind::Candidates => {
                let found = self.0.store.candidates_by_id(&caller.tenant, &records).await.before_sending()?;
                resources.extend(found.into_iter().map(|found| (found.id.to_string(), candidate(found))));
            }
            OperationKind::Assignments => {
                let found = self.0.store.assignments_by_id(&caller.tenant, &records).await.before_sending()?;
                resources.extend(found.into_iter().map(|found| (found.id.to_string(), Resource::Assignment(found))));
            }
            OperationKind::ProgramEmployees => {}
        }
        let told = self.tells_passwords(&operation);
        Ok((items.into_iter().map(|item| result(item, &resources, told)).collect(), more))
    }

    /// Ends an operation: what was not begun is skipped, what is under way goes on to its end.
    pub async fn cancel_operation(&self, caller: &Caller, id: &OperationId) -> Result<OperationView, Fault> {
        let view = self.operation(caller, id).await?;
        if view.operation.state.ended() {
            return Ok(view);
        }
        let (store, resource) = (&self.0.store, operation_path(id));
        let cancelling = store.commit(vec![Change::OperationCancelling(id.clone())]).await.before_sending();
        cancelling.map_err(|fault| doubt_at(fault, &resource))?;
        // Its worker finds nothing more to send, and a row it has in hand cannot be claimed any more.
        store.skip_waiting(id).await.after_acceptance(&resource)?;
        self.0.board.wake();
        self.accepted_operation(caller, id).await
    }

    /// Sends an operation's failed and skipped rows again, its unknown ones once they are settled; applied ones never.
    pub async fn retry_operation(&self, caller: &Caller, id: &OperationId) -> Result<OperationView, Fault> {
        self.refuse_when_draining()?;
        let view = self.operation(caller, id).await?;
        let Progress { not_applied, unknown, skipped, .. } = view.progress;
        if not_applied + unknown + skipped > 0 {
            let requeued = self.0.store.requeue(id, self.0.environment.now()).await.before_sending();
            requeued.map_err(|fault| doubt_at(fault, &operation_path(id)))?;
            self.0.board.wake();
        }
        self.accepted_operation(caller, id).await
    }

    /// The operation, unless the caller may not use its connection or its time is over.
    fn viewed(&self, caller: &Caller, (operation, progress): (BulkOperation, Progress)) -> Option<OperationView> {
        let kept = SignedDuration::try_from(self.configured().retention.operations).unwrap_or(SignedDuration::MAX);
        let expires = operation.finished.map(|finished| finished.saturating_add(kept).unwrap_or(Timestamp::MAX));
        let over = expires.is_some_and(|expires| expires <= self.now());
        (!over && caller.connections.contains(&operation.connection)).then_some(OperationView {
            operation,
            progress,
            expires,
        })
    }

    /// Whether the passwords made up for an operation's people are still told.
    fn tells_passwords(&self, operation: &BulkOperation) -> bool {
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let from = operation.finished.unwrap_or(operation.created);
        from.saturating_add(kept).unwrap_or(Timestamp::MAX) > self.now()
    }
}

fn candidate(candidate: Candidate) -> Resource {
    Resource::Candidate(candidate.into())
}

fn result(item: ItemReport, resources: &HashMap<String, Resource>, tells_passwords: bool) -> RowResult {
    let ItemReport { at, item_id, state, record, refused, end } = item;
    // How a row ended in an earlier try counts no more, unless it could not be read: then nothing else can come of it.
    let end = end.filter(|end| refused || end.state() == state);
    let Some(ItemEnd { result, warnings, initial_password, counts }) = end else {
        // Rows skipped all at once are not written one by one.
        let fault = match state {
            ItemState::Skipped => skipped(),
            _ => Fault::unknown(Code::Internal, "The row has no end."),
        };
        return RowResult { index: at.index, item_id, end: RowEnd::Failed(fault) };
    };
    let resource = || {
        let found = record.as_ref().and_then(|record| resources.get(record)).cloned();
        match (counts, found) {
            (Some(counts), _) => Resource::Enrolled(Enrolled { counts, warnings: warnings.clone() }),
            (None, Some(Resource::Candidate(mut answer))) => {
                answer.candidate.warnings.extend(warnings.clone());
                answer.initial_password = initial_password.clone().filter(|_| tells_passwords);
                Resource::Candidate(answer)
            }
            (None, Some(Resource::Assignment(mut assignment))) => {
                assignment.warnings.extend(warnings.clone());
                Resource::Assignment(assignment)
            }
            (None, _) => Resource::Erased,
        }
    };
    let end = match result {
        ItemResult::Created => RowEnd::Created(resource()),
        ItemResult::Existing => RowEnd::Existing(resource()),
        ItemResult::Failed(fault) => RowEnd::Failed(*fault),
    };
    RowResult { index: at.index, item_id, end }
}
