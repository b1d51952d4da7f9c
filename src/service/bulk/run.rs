//! Runs an operation: the instance that holds its lock plans the waiting rows in order ([`planner`](super::planner)),
//! and keeps as many calls in flight as the connection's bulk limits allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;

use crate::domain::error::{Code, Error};
use crate::domain::operation::{ItemOutcome, ItemState, Operation, OperationKind, OperationState, Progress};
use crate::service::bulk::batch_sender::Batch;
use crate::service::bulk::memory_budget::MemoryPermit;
use crate::service::bulk::operation_run::OperationRun;
use crate::service::bulk::planner::PlannedPages;
use crate::service::bulk::{ErrorBudget, enrolments, memory_budget};
use crate::service::bulk_limits::ClaimPermit;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::write::locks::SubjectLock;
use crate::service::{Gateway, RequestContext};
use crate::store::{Mutation, Window};

/// Rows read per page where they are not sent.
const PAGE_SIZE: usize = 512;
/// Maximum number of rows in flight per operation: each is held in memory, with its person and its intent. Enough for
/// six of the largest batches: four in flight, one claimed and one whose outcomes are being committed.
const MAX_ROWS_IN_FLIGHT: usize = 3_000;
/// Minimum number of batches planned ahead.
const MIN_PLANNED_BATCHES: usize = 2;

/// Runs an operation until it ends, until none of its rows can be sent yet, or until this process has to yield it.
/// Releases the operation's lock once none of its tasks works on it any more.
pub(super) async fn run_operation(gateway: &Gateway, operation: Operation, lock: SubjectLock) -> Result<(), Error> {
    // Read under the lock: another instance may have ended it since.
    let found = gateway.0.store.operation(&operation.tenant, &operation.id).await.or_not_applied()?;
    let Some((mut operation, progress)) = found.filter(|(operation, _)| !operation.state.is_terminal()) else {
        return Ok(());
    };
    if operation.state == OperationState::Queued {
        operation.state = OperationState::Running;
        operation.started = operation.started.or(Some(gateway.now()));
        gateway.0.store.commit(vec![Mutation::Operation(operation.clone())]).await.or_not_applied()?;
    }
    if matches!(operation.kind, OperationKind::Reread | OperationKind::Replay) {
        return run_without_rows(gateway, operation).await;
    }
    let failed = count_failed(gateway, &operation, &progress).await?;
    let failures = ErrorBudget::new(operation.fail_on_errors, failed);
    let caller = RequestContext::of_operation(&operation, gateway.exchange_of_operation(&operation));
    let stopped = AtomicBool::new(false);
    let gateway = gateway.clone();
    let work = Arc::new(OperationRun { gateway, caller, operation, failures, stopped, _lock: lock });
    if work.operation.cancelling {
        // The instance that took the request may have died before it skipped the rows, and rows may have been requeued
        // since.
        work.gateway.0.store.skip_waiting(&work.operation.id).await.or_not_applied()?;
    }
    work.send_waiting().await?;
    if work.should_yield() {
        return Ok(());
    }
    work.await_claimed().await?;
    work.end().await
}

/// Runs an operation without rows, which reads reports or delivers events again. One that breaks off is run again.
async fn run_without_rows(gateway: &Gateway, operation: Operation) -> Result<(), Error> {
    let is_done = match &operation.replay {
        Some(replay) => gateway.run_replay(&operation, replay).await?,
        None => gateway.run_reread(&operation).await?,
    };
    if !is_done {
        return Ok(());
    }
    let found = gateway.0.store.operation(&operation.tenant, &operation.id).await.or_not_applied()?;
    let Some((mut operation, progress)) = found else { return Ok(()) };
    operation.state = if operation.cancelling { OperationState::Cancelled } else { OperationState::Completed };
    operation.finished = Some(gateway.now());
    let caller = RequestContext::of_operation(&operation, gateway.exchange_of_operation(&operation));
    let id = operation.id.clone();
    gateway.0.store.commit(gateway.operation_end(&caller, operation, &progress)).await.or_not_applied()?;
    gateway.0.active_operations.forget(&id);
    gateway.0.active_operations.notify();
    Ok(())
}

/// Counts the rows that failed in this run. Unreadable rows count in the first run only: later runs do not try them.
async fn count_failed(gateway: &Gateway, operation: &Operation, progress: &Progress) -> Result<u64, Error> {
    let mut failed = progress.not_applied + progress.unknown;
    if operation.fail_on_errors.is_none() || operation.accepted == operation.created {
        return Ok(failed);
    }
    let mut from = 0;
    loop {
        let states = [ItemState::NotApplied];
        let items = gateway.0.store.items(&operation.id, &states, from, PAGE_SIZE).await.or_not_applied()?;
        let Some(last) = items.last() else { return Ok(failed) };
        from = last.id.index + 1;
        failed = failed.saturating_sub(items.iter().filter(|item| item.request.is_none()).count() as u64);
    }
}

impl OperationRun {
    /// Sends the waiting rows through the connection as currently configured. A configuration change ends the pass;
    /// rows planned for the old configuration still wait in the store and are planned again.
    async fn send_waiting(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let Ok(connection) = self.gateway.connection_of(&self.operation.connection) else {
                return self.fail_waiting_rows().await;
            };
            if self.operation.kind == OperationKind::ProgramEmployees {
                enrolments::send_all(self, &connection.name).await?;
            } else {
                Arc::clone(self).send_all(Arc::clone(&connection)).await?;
            }
            if self.should_yield() || self.gateway.is_current(&connection) {
                return Ok(());
            }
        }
    }

    async fn send_all(self: Arc<Self>, connection: Arc<Connection>) -> Result<(), Error> {
        let PlannedPages { pages, planner } = PlannedPages::spawn(&self, &connection).await?;
        let calls = stream::unfold(pages, |mut pages| async move {
            let calls = match pages.recv().await? {
                Ok((calls, held)) => calls.into_iter().map(|call| Ok((call, Arc::clone(&held)))).collect(),
                Err(error) => vec![Err(error)],
            };
            Some((stream::iter(calls), pages))
        });
        let rows_in_flight = Arc::new(Semaphore::new(MAX_ROWS_IN_FLIGHT));
        let with_rows = move |planned: Result<(Batch, Arc<MemoryPermit>), Error>| {
            let rows_in_flight = Arc::clone(&rows_in_flight);
            async move {
                let rows = planned.as_ref().map_or(0, |(planned, _)| planned.rows()).min(MAX_ROWS_IN_FLIGHT);
                // The semaphore is never closed, so acquiring cannot fail.
                let held = rows_in_flight.acquire_many_owned(u32::try_from(rows).unwrap_or(u32::MAX)).await.ok();
                planned.map(|planned| (planned, held))
            }
        };
        // Twice the in-flight limit, so that planning and committing overlap with the vendor's calls.
        let at_once = 2 * connection.max_in_flight() + MIN_PLANNED_BATCHES;
        let work = Arc::clone(&self);
        let deliver = move |planned: Result<((Batch, Arc<MemoryPermit>), _), Error>| {
            let (work, connection) = (Arc::clone(&work), Arc::clone(&connection));
            async move {
                let ((planned, _held), _room) = planned?;
                let ahead = !work.failures.may_stop();
                // Looked up by name: a reload may have replaced the connection.
                let Ok(claim) = work.gateway.acquire_claim(&connection.name, &work.queue_key(), ahead).await else {
                    return Ok(());
                };
                work.deliver(&connection, planned, claim).await
            }
        };
        let mut delivered = std::pin::pin!(calls.flatten().then(with_rows).map(deliver).buffer_unordered(at_once));
        // Drive every call to its end: the operation ends only when each row's outcome is committed or queued.
        let mut met = Ok(());
        while let Some(ended) = delivered.next().await {
            if ended.is_err() {
                self.stopped.store(true, Ordering::Relaxed);
                met = met.and(ended);
            }
        }
        planner.await.map_err(|_| panicked())?;
        met?;
        if self.failures.reached() {
            self.gateway.0.store.skip_waiting(&self.operation.id).await.or_not_applied()?;
        }
        Ok(())
    }

    async fn deliver(
        &self,
        connection: &Connection,
        planned: Batch,
        (current, begun): (Arc<Connection>, ClaimPermit),
    ) -> Result<(), Error> {
        let planned_for_it = std::ptr::eq(current.as_ref(), connection);
        if !planned_for_it || self.stopped.load(Ordering::Relaxed) || self.should_yield() || self.failures.reached() {
            // The rows still wait in the store.
            return Ok(());
        }
        match planned {
            Batch::People(rows) => self.register_batch(connection, rows, begun).await,
            Batch::Bookings(rows) => self.book_batch(connection, rows, begun).await,
        }
    }

    /// Fails every waiting row, because the connection was removed from the configuration.
    async fn fail_waiting_rows(&self) -> Result<(), Error> {
        let (id, most) = (&self.operation.id, Window { rows: PAGE_SIZE, bytes: memory_budget::PAGE_BYTES });
        loop {
            let reports = self.gateway.0.store.item_reports(id, &[ItemState::Waiting], 0, most).await;
            let items = reports.or_not_applied()?.rows;
            if items.is_empty() {
                return Ok(());
            }
            let error = Error::new(Code::ConnectionNotFound, "The operation's connection is no longer configured.");
            let ends = items
                .into_iter()
                .map(|item| Mutation::EndWaitingItem(item.id, None, ItemOutcome::failed(error.clone())));
            self.commit_unsent_outcomes(ends.collect()).await?;
        }
    }

    async fn end(&self) -> Result<(), Error> {
        let store = &self.gateway.0.store;
        let found = store.operation(&self.operation.tenant, &self.operation.id).await.or_not_applied()?;
        let Some((mut operation, progress)) = found else { return Ok(()) };
        if progress.pending > 0 {
            // Rows were requeued or retried meanwhile; the next pass continues.
            return Ok(());
        }
        operation.state = if operation.cancelling { OperationState::Cancelled } else { OperationState::Completed };
        operation.finished = Some(self.gateway.now());
        store.commit(self.gateway.operation_end(&self.caller, operation, &progress)).await.or_not_applied()?;
        self.gateway.0.active_operations.forget(&self.operation.id);
        // The slot is free for another operation.
        self.gateway.0.active_operations.notify();
        Ok(())
    }
}

/// Returns the error of a run one of whose tasks panicked; the panic is logged. The next background pass runs the
/// operation again.
fn panicked() -> Error {
    Error::new(Code::Internal, "A task of the operation ended unexpectedly.")
}
