//! Sending an operation's rows: whoever has its turn takes the waiting ones in order, a window at a time, and keeps as many
//! calls under way as the connection lends to operations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::{Item, ItemOutcome, ItemState, Operation, OperationKind, OperationState, Progress};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::CallPurpose;
use crate::service::bulk::batch_sender::Batch;
use crate::service::bulk::memory_budget::{MemoryPermit, OperationBudget};
use crate::service::bulk::{ErrorBudget, enrolments, memory_budget};
use crate::service::connections::Connection;
use crate::service::fair_semaphore::QueueKey;
use crate::service::{Gateway, RequestContext, StoreResultExt as _, call};
use crate::store::{Mutation, SubjectHash, Window};

/// Rows looked at in one go, for small calls; two calls' worth for large ones. Fewer where they are long ([`budget::WINDOW`]).
const WINDOW: usize = 512;
/// Rows that are under way at once, where the vendor's calls take many: each is held in memory, with its person and its intent.
const ROWS: usize = 2_000;
/// Calls that are planned ahead at the least.
const AHEAD: usize = 2;
/// How much longer than the grace a row waits for an earlier write about the same.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longest time a row waits for in one go; whoever has set a longer grace is told rather than kept waiting.
pub(super) const MAX_WAIT: Duration = Duration::from_mins(1);

/// An operation at work.
pub(super) struct OperationRun {
    pub(super) gateway: Gateway,
    pub(super) caller: RequestContext,
    pub(super) operation: Operation,
    pub(super) failures: ErrorBudget,
    /// Whether the work has met a fault of its own: nothing more is begun, and what is under way goes on to its end.
    stopped: AtomicBool,
}

/// Works on an operation until it has ended, nothing more can be done for it now, or the process has to let go of it.
pub(super) async fn run_operation(gateway: &Gateway, operation: Operation) -> Result<(), Error> {
    // Read with the turn in hand: another instance may have ended it meanwhile.
    let found = gateway.0.store.operation(&operation.tenant, &operation.id).await.or_not_applied()?;
    let Some((mut operation, progress)) = found.filter(|(operation, _)| !operation.state.is_terminal()) else {
        return Ok(());
    };
    if operation.state == OperationState::Queued {
        operation.state = OperationState::Running;
        operation.started = operation.started.or(Some(gateway.now()));
        gateway.0.store.commit(vec![Mutation::Operation(operation.clone())]).await.or_not_applied()?;
    }
    let failed = failed_so_far(gateway, &operation, &progress).await?;
    let failures = ErrorBudget::new(operation.fail_on_errors, failed);
    let caller = RequestContext::of_operation(&operation, gateway.exchange_of_operation(&operation));
    let stopped = AtomicBool::new(false);
    let work = Arc::new(OperationRun { gateway: gateway.clone(), caller, operation, failures, stopped });
    if work.operation.cancelling {
        // The process that was asked may have ended in between, and rows may wait again since.
        gateway.0.store.skip_waiting(&work.operation.id).await.or_not_applied()?;
    }
    work.send_waiting().await?;
    if work.should_yield() {
        return Ok(());
    }
    work.await_claimed().await?;
    work.end().await
}

/// Counts the rows that have failed in this try. Those that could not be read count in the first one only: no later one tries them.
async fn failed_so_far(gateway: &Gateway, operation: &Operation, progress: &Progress) -> Result<u64, Error> {
    let mut failed = progress.not_applied + progress.unknown;
    if operation.fail_on_errors.is_none() || operation.accepted == operation.created {
        return Ok(failed);
    }
    let mut from = 0;
    loop {
        let states = [ItemState::NotApplied];
        let items = gateway.0.store.items(&operation.id, &states, from, WINDOW).await.or_not_applied()?;
        let Some(last) = items.last() else { return Ok(failed) };
        from = last.id.index + 1;
        failed = failed.saturating_sub(items.iter().filter(|item| item.request.is_none()).count() as u64);
    }
}

impl OperationRun {
    /// Whether the process has to let go of the operation; another goes on with it.
    pub(super) fn should_yield(&self) -> bool {
        self.gateway.is_stopping() || !self.gateway.0.lease.holds()
    }

    /// Whether a row that met this fault waits on: an earlier write about the same is settled soon, and the row is in order.
    /// The next pass over the operation tries it again.
    pub(super) fn should_wait(&self, connection: &Connection, fault: &Error) -> bool {
        let soon = fault.code == Code::SubjectUnsettled && fault.retry_after.is_some_and(|wait| wait <= MAX_WAIT);
        soon && self.gateway.0.board.since_taken_up(&self.operation.id)
            < connection.settle_grace().saturating_add(TIMEOUT)
    }

    /// Returns the queue in which its calls wait for their places at the vendor.
    pub(super) fn queue_key(&self) -> QueueKey {
        QueueKey { tenant: self.operation.tenant.clone(), operation: self.operation.id.to_string() }
    }

    /// Whoever asked for the operation, for this row.
    pub(super) fn caller_of(&self, item: &Item) -> RequestContext {
        RequestContext { origin: WriteOrigin { key: None, item: Some(item.id.clone()) }, ..self.caller.clone() }
    }

    /// Writes down how rows ended without a call.
    pub(super) async fn ended(&self, ends: Vec<Mutation>) -> Result<(), Error> {
        let failed = |change: &&Mutation| {
            matches!(change, Mutation::ItemEnded(_, _, end) | Mutation::ItemEndedUnsent(_, _, end)
                if matches!(end.state(), ItemState::NotApplied | ItemState::Unknown))
        };
        self.failures.add(ends.iter().filter(failed).count() as u64);
        if ends.is_empty() {
            return Ok(());
        }
        self.gateway.0.store.commit(ends).await.or_not_applied()
    }

    /// Sends what waits, through the connection as it is configured. One that changes meanwhile ends a pass: rows that were
    /// planned for it as it was still wait in the store, and are planned again for it as it is.
    async fn send_waiting(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let Ok(connection) = self.gateway.connection_of(&self.operation.connection) else {
                return self.refuse_all().await;
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
        let seen: HashMap<SubjectHash, u64> =
            self.gateway.0.store.item_subjects(&self.operation.id).await.or_not_applied()?.into_iter().collect();
        let allowance = self.gateway.0.board.budget.allowance();
        let windows =
            RowPager { work: Arc::clone(&self), connection: Arc::clone(&connection), seen, from: 0, allowance };
        let calls = stream::unfold(windows, |mut windows| async move {
            let calls = match windows.next().await.transpose()? {
                Ok((calls, held)) => calls.into_iter().map(|call| Ok((call, Arc::clone(&held)))).collect(),
                Err(fault) => vec![Err(fault)],
            };
            Some((stream::iter(calls), windows))
        });
        // As many again as can be at the vendor: while those are there, the next ones are planned, and the last ones written
        // down.
        let at_once = 2 * connection.max_in_flight() + AHEAD;
        let room = Arc::new(Semaphore::new(ROWS));
        let roomy = move |planned: Result<(Batch, Arc<MemoryPermit>), Error>| {
            let room = Arc::clone(&room);
            async move {
                let rows = planned.as_ref().map_or(0, |(planned, _)| planned.rows()).min(ROWS);
                // Never closed, so there is room in the end.
                let held = room.acquire_many_owned(u32::try_from(rows).unwrap_or(u32::MAX)).await.ok();
                planned.map(|planned| (planned, held))
            }
        };
        let work = Arc::clone(&self);
        let deliver = move |planned: Result<((Batch, Arc<MemoryPermit>), _), Error>| {
            let (work, connection) = (Arc::clone(&work), Arc::clone(&connection));
            async move {
                let ((planned, _held), _room) = planned?;
                work.deliver(&connection, planned).await
            }
        };
        let mut delivered = std::pin::pin!(calls.flatten().then(roomy).map(deliver).buffer_unordered(at_once));
        // To the end of all of them: a call that is dropped while it is under way leaves an intent that nobody settles as long
        // as this process lives.
        let mut met = Ok(());
        while let Some(ended) = delivered.next().await {
            if ended.is_err() {
                self.stopped.store(true, Ordering::Relaxed);
                met = met.and(ended);
            }
        }
        met?;
        if self.failures.reached() {
            self.gateway.0.store.skip_waiting(&self.operation.id).await.or_not_applied()?;
        }
        Ok(())
    }

    async fn deliver(&self, connection: &Connection, planned: Batch) -> Result<(), Error> {
        let ahead = !self.failures.may_stop();
        // Looked up by its name, since places may have gone to its successor.
        let Ok((current, begun)) = self.gateway.acquire_claim(&connection.name, &self.queue_key(), ahead).await else {
            return Ok(());
        };
        let planned_for_it = std::ptr::eq(current.as_ref(), connection);
        if !planned_for_it || self.stopped.load(Ordering::Relaxed) || self.should_yield() || self.failures.reached() {
            // They still wait in the store.
            return Ok(());
        }
        match planned {
            Batch::People(rows) => self.register_batch(connection, rows, begun).await,
            Batch::Bookings(rows) => self.book_batch(connection, rows, begun).await,
        }
    }

    /// Every row fails where its connection has left the configuration.
    async fn refuse_all(&self) -> Result<(), Error> {
        let (id, most) = (&self.operation.id, Window { rows: WINDOW, bytes: memory_budget::WINDOW });
        loop {
            let reports = self.gateway.0.store.item_reports(id, &[ItemState::Waiting], 0, most).await;
            let items = reports.or_not_applied()?.rows;
            if items.is_empty() {
                return Ok(());
            }
            let fault = Error::new(Code::ConnectionNotFound, "The operation's connection is not configured any more.");
            let ends = items
                .into_iter()
                .map(|item| Mutation::ItemEndedUnsent(item.id, None, ItemOutcome::failed(fault.clone())));
            self.ended(ends.collect()).await?;
        }
    }

    async fn end(&self) -> Result<(), Error> {
        let store = &self.gateway.0.store;
        let found = store.operation(&self.operation.tenant, &self.operation.id).await.or_not_applied()?;
        let Some((mut operation, progress)) = found else { return Ok(()) };
        if progress.pending > 0 {
            // Rows that were put back, or asked for again meanwhile: the next round goes on.
            return Ok(());
        }
        operation.state = if operation.cancelling { OperationState::Cancelled } else { OperationState::Completed };
        operation.finished = Some(self.gateway.now());
        let line = self.gateway.operation_entry(&self.caller, &operation, &progress);
        store.commit(vec![Mutation::Operation(operation), line]).await.or_not_applied()?;
        self.gateway.0.board.forget(&self.operation.id);
        // Its slot is free for the next one.
        self.gateway.0.board.notify();
        Ok(())
    }
}

/// The waiting rows, a window at a time, planned and packed into calls.
struct RowPager {
    work: Arc<OperationRun>,
    connection: Arc<Connection>,
    seen: HashMap<SubjectHash, u64>,
    from: u64,
    allowance: OperationBudget,
}

impl RowPager {
    /// The calls of the next window, with the memory their rows take; `None` when no row waits any more, or nothing more
    /// shall be sent.
    async fn next(&mut self) -> Result<Option<(Vec<Batch>, Arc<MemoryPermit>)>, Error> {
        let Some(mut held) = self.allowance.acquire_window().await else { return Ok(None) };
        let (work, connection) = (Arc::clone(&self.work), Arc::clone(&self.connection));
        let connection = connection.as_ref();
        let over = work.stopped.load(Ordering::Relaxed) || work.should_yield() || work.failures.reached();
        if over || !work.gateway.is_current(connection) {
            return Ok(None);
        }
        let most = Window { rows: WINDOW.max(2 * connection.largest_batch()), bytes: memory_budget::WINDOW };
        let (store, id) = (&work.gateway.0.store, &work.operation.id);
        let waiting = store.next_items(id, &[ItemState::Waiting], self.from, most).await.or_not_applied()?;
        let Some(last) = waiting.last() else { return Ok(None) };
        self.from = last.id.index + 1;
        held.shrink_to(&waiting);
        let mut items = Vec::with_capacity(waiting.len());
        let mut ends = Vec::new();
        for item in waiting {
            if work.settled_first(connection, &item).await? == Some(false) {
                continue;
            }
            match crate::service::bulk::unsendable(&item, work.operation.kind) {
                Some(end) => ends.push(Mutation::ItemEndedUnsent(item.id, None, end)),
                None => items.push(item),
            }
        }
        work.ended(ends).await?;
        let calls = match work.operation.kind {
            OperationKind::Assignments => work.plan_bookings(connection, items, &mut self.seen).await,
            OperationKind::Candidates | OperationKind::ProgramEmployees => {
                work.plan_candidates(connection, items, &mut self.seen).await
            }
        };
        Ok(Some((calls?, Arc::new(held))))
    }
}

impl OperationRun {
    /// Settles what an earlier try of the row left unknown. `None` if there was none, else whether the row may be sent again
    /// now: its own end was told by the settling.
    async fn settled_first(&self, connection: &Connection, item: &Item) -> Result<Option<bool>, Error> {
        let Some(record) = &item.record else { return Ok(None) };
        let settled = self.settle_record(connection, record).await;
        let again = match settled {
            Ok(applied) => !applied,
            // Nothing was learned of it: the row waits until the store is back.
            Err(fault) if fault.code == Code::StoreUnavailable && fault.outcome == Outcome::NotApplied => {
                return Err(fault);
            }
            Err(fault) if fault.outcome == Outcome::NotApplied && fault.code != Code::SubjectUnsettled => true,
            Err(fault) => {
                // Too early, or not to be settled: it is as unknown as before.
                let unknown = Error { outcome: Outcome::Unknown, ..fault };
                let end = ItemOutcome::failed(unknown);
                self.ended(vec![Mutation::ItemEndedUnsent(item.id.clone(), Some(record.clone()), end)]).await?;
                return Ok(Some(false));
            }
        };
        if again {
            self.gateway.0.store.commit(vec![Mutation::ItemWaiting(item.id.clone())]).await.or_not_applied()?;
        }
        Ok(Some(again))
    }

    /// Settles a record's open write; whether it is applied.
    async fn settle_record(&self, connection: &Connection, record: &str) -> Result<bool, Error> {
        let (gateway, tenant) = (&self.gateway, &self.operation.tenant);
        let asked = call(&self.caller, CallPurpose::Reconcile);
        if let Ok(id) = CandidateId::parse(record) {
            let Some((_turn, candidate)) = gateway.lock_when_idle(&self.caller, connection, &id).await? else {
                return Ok(true);
            };
            let settled = gateway.reconcile_candidate(connection, candidate, &asked).await?;
            return Ok(settled.is_none_or(|settled| settled.candidate.outcome == Outcome::Applied));
        }
        let Ok(id) = AssignmentId::parse(record) else {
            return Err(Error::from_fields(vec![FieldError::invalid("", "is no record")]));
        };
        let Some(found) = gateway.0.store.assignment(tenant, &id).await.or_not_applied()? else { return Ok(true) };
        let _turn = gateway.lock_subject(&found.turn()).await?;
        let Some(found) = gateway.0.store.assignment(tenant, &id).await.or_not_applied()? else { return Ok(true) };
        Ok(gateway.reconcile_assignment(connection, found, &asked).await?.outcome == Outcome::Applied)
    }
}
