//! Operations as their owner sees them: progress and row results, cancellation and retry.

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
use crate::service::errors::{StoreResultExt as _, skipped_error, with_resource_if_unknown};
use crate::service::{CandidateWithPassword, Gateway, RequestContext};
use crate::store::{Mutation, OperationFilter, Page, Window, WindowedRows};

/// Initial and maximum polling interval while a caller waits for an operation's end. The end of an operation that this
/// instance runs is noticed at once.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Maximum number of bytes of row results read at once.
const MAX_RESULT_BYTES: usize = 256 << 10;

/// Query for operations; `None` fields match any value.
#[derive(Debug, Clone, Default)]
pub struct OperationQuery<'a> {
    /// State.
    pub state: Option<OperationState>,
    /// Kind of the rows.
    pub kind: Option<OperationKind>,
    /// Connection.
    pub connection: Option<&'a str>,
    /// Maximum number of entries.
    pub limit: usize,
    /// Cursor of the previous page.
    pub cursor: Option<&'a str>,
}

/// Operation with its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStatus {
    /// The operation.
    pub operation: Operation,
    /// Progress of its rows.
    pub progress: Progress,
    /// When the operation is removed; known once it has ended.
    pub expires: Option<Timestamp>,
}

impl OperationStatus {
    /// Creates the status of a newly queued operation.
    pub(in crate::service) fn queued(operation: Operation) -> Self {
        let progress = Progress { total: operation.total, pending: operation.total, ..Progress::default() };
        Self { operation, progress, expires: None }
    }
}

/// Filter of rows by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFilter {
    /// Rows that were applied, now or before.
    Applied,
    /// Rows that failed or were skipped, without effect.
    NotApplied,
    /// Rows whose outcome is unknown.
    Unknown,
    /// Rows that were not sent.
    Skipped,
}

/// Result of one row.
#[derive(Debug, Clone)]
pub struct ResultRow {
    /// Its position in the request, from 0.
    pub index: u64,
    /// Caller-supplied id of the row.
    pub item_id: Option<String>,
    /// Outcome of the row.
    pub end: RowOutcome,
}

/// Outcome of a row.
#[derive(Debug, Clone)]
pub enum RowOutcome {
    /// Resource created by this row.
    Created(RowResource),
    /// Resource that existed before.
    Existing(RowResource),
    /// Error of a row that failed.
    Failed(Error),
}

/// Resource that a row refers to.
#[derive(Debug, Clone)]
pub enum RowResource {
    /// Candidate.
    Candidate(CandidateWithPassword),
    /// Assignment.
    Assignment(Assignment),
    /// Change of a program's employees.
    Enrolled(Enrolled),
    /// Resource that was erased since.
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
    /// Returns the tenant's operation; `not_found` if there is none or it has expired.
    pub async fn operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        let permit = self.read_permit(caller).await;
        let found = self.0.store.operation(&caller.tenant, id).await.or_not_applied()?;
        drop(permit);
        found
            .filter(|(operation, _)| operation.state != OperationState::Receiving)
            .and_then(|found| self.viewed(caller, found))
            .ok_or_else(|| Error::new(Code::NotFound, format!("There is no operation {id}.")))
    }

    /// As [`Self::operation`] for an accepted operation: if the store cannot be read, the outcome is unknown.
    async fn accepted_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        self.operation(caller, id).await.map_err(|error| {
            if error.code == Code::StoreUnavailable {
                error.with_unknown_outcome().with_resource(id.path())
            } else {
                error
            }
        })
    }

    /// Returns a page of the tenant's operations, newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`; `validation_failed` for a cursor of another list.
    pub async fn operations(
        &self,
        caller: &RequestContext,
        query: OperationQuery<'_>,
    ) -> Result<(Vec<OperationStatus>, Option<String>), Error> {
        let OperationQuery { state, kind, connection, limit, cursor } = query;
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let filter = OperationFilter { state, kind, connection: connection.map(str::to_owned) };
        let unknown =
            |_| Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")]);
        let after = cursor.map(|cursor| OperationId::parse(cursor).map_err(unknown)).transpose()?;
        // One extra entry shows whether there is a next page.
        let page = Page { limit: limit + 1, after: after.map(String::from) };
        let _permit = self.read_permit(caller).await;
        let mut found = self.0.store.operations(&caller.tenant, &filter, &page).await.or_not_applied()?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(last, _)| last.id.to_string());
        Ok((found.into_iter().filter_map(|found| self.viewed(caller, found)).collect(), next))
    }

    /// Waits until the operation ends, for at most `patience`.
    pub async fn wait_for_operation(
        &self,
        caller: &RequestContext,
        id: &OperationId,
        patience: Duration,
    ) -> Result<OperationStatus, Error> {
        let deadline = Instant::now().checked_add(patience);
        let mut pause = POLL_INTERVALS.0;
        loop {
            let changed = self.0.active_operations.changed.notified();
            let view = self.accepted_operation(caller, id).await?;
            let left = deadline.map_or(POLL_INTERVALS.1, |deadline| deadline.saturating_duration_since(Instant::now()));
            if view.operation.state.is_terminal() || left.is_zero() {
                return Ok(view);
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause.min(left)) => pause = (pause * 2).min(POLL_INTERVALS.1),
            }
        }
    }

    /// Returns the results of an operation's rows so far, in request order, starting at `from`, and whether there may
    /// be more. At most `limit` rows, fewer if they take much memory. Candidates come without their photos.
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
        let most = Window { rows: limit, bytes: MAX_RESULT_BYTES };
        let _permit = self.read_permit(caller).await;
        let WindowedRows { rows: items, more } =
            self.0.store.item_reports(id, states, from, most).await.or_not_applied()?;
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
            OperationKind::ProgramEmployees | OperationKind::Reread | OperationKind::Replay => {}
        }
        let visible = self.are_passwords_visible(&operation);
        Ok((items.into_iter().map(|item| result(item, &resources, visible)).collect(), more))
    }

    /// Cancels an operation: waiting rows are skipped, rows in flight finish.
    pub async fn cancel_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        let view = self.operation(caller, id).await?;
        if view.operation.state.is_terminal() {
            return Ok(view);
        }
        let (store, resource) = (&self.0.store, id.path());
        let cancelling = store.commit(vec![Mutation::CancelOperation(id.clone())]).await.or_not_applied();
        cancelling.map_err(|error| with_resource_if_unknown(error, &resource))?;
        // The run finds nothing more to send, and the rows it holds in memory can no longer be claimed.
        store.skip_waiting(id).await.or_unknown(&resource)?;
        self.0.active_operations.notify();
        self.accepted_operation(caller, id).await
    }

    /// Retries an operation's failed and skipped rows, and its unknown rows once they are reconciled; never the applied
    /// ones.
    pub async fn retry_operation(&self, caller: &RequestContext, id: &OperationId) -> Result<OperationStatus, Error> {
        self.refuse_when_draining()?;
        let view = self.operation(caller, id).await?;
        let Progress { not_applied, unknown, skipped, .. } = view.progress;
        if not_applied + unknown + skipped > 0 {
            let requeued = self.0.store.requeue(id, self.0.system.now()).await.or_not_applied();
            requeued.map_err(|error| with_resource_if_unknown(error, &id.path()))?;
            self.0.active_operations.notify();
        }
        self.accepted_operation(caller, id).await
    }

    /// Returns the operation's status, unless it has expired or the caller may not use its connection.
    fn viewed(&self, caller: &RequestContext, (operation, progress): (Operation, Progress)) -> Option<OperationStatus> {
        let kept = SignedDuration::try_from(self.configured().retention.operations).unwrap_or(SignedDuration::MAX);
        let expires = operation.finished.map(|finished| finished.saturating_add(kept).unwrap_or(Timestamp::MAX));
        let over = expires.is_some_and(|expires| expires <= self.now());
        // A replay is at no connection: it is its client's.
        let is_own = operation.replay.is_some() && operation.client == caller.client;
        (!over && (is_own || caller.connections.contains(&operation.connection))).then_some(OperationStatus {
            operation,
            progress,
            expires,
        })
    }

    /// Returns whether the generated passwords of an operation's candidates are still returned.
    fn are_passwords_visible(&self, operation: &Operation) -> bool {
        let kept = SignedDuration::try_from(self.configured().retention.keys).unwrap_or(SignedDuration::MAX);
        let from = operation.finished.unwrap_or(operation.created);
        from.saturating_add(kept).unwrap_or(Timestamp::MAX) > self.now()
    }
}

fn candidate(candidate: Candidate) -> RowResource {
    RowResource::Candidate(candidate.into())
}

fn result(item: ItemReport, resources: &HashMap<String, RowResource>, show_passwords: bool) -> ResultRow {
    let ItemReport { id: at, item_id, state, record, refused, outcome: end } = item;
    // Ignore the outcome of an earlier run, unless the row was unreadable: then no run can change it.
    let end = end.filter(|end| refused || end.state() == state);
    let Some(ItemOutcome { result, warnings, initial_password, counts }) = end else {
        // Rows skipped together have no stored outcome of their own.
        let error = match state {
            ItemState::Skipped => skipped_error(),
            _ => Error::unknown(Code::Internal, "The row has no recorded outcome."),
        };
        return ResultRow { index: at.index, item_id, end: RowOutcome::Failed(error) };
    };
    let resource = || {
        let found = record.as_ref().and_then(|record| resources.get(record)).cloned();
        match (counts, found) {
            (Some(counts), _) => RowResource::Enrolled(Enrolled { counts, warnings: warnings.clone() }),
            (None, Some(RowResource::Candidate(mut registered))) => {
                registered.candidate.warnings.extend(warnings.clone());
                registered.initial_password = initial_password.clone().filter(|_| show_passwords);
                RowResource::Candidate(registered)
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
        ItemStatus::Failed(error) => RowOutcome::Failed(*error),
    };
    ResultRow { index: at.index, item_id, end }
}
