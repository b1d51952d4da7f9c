//! Sending an operation's rows: whoever has its turn takes the waiting ones in order, a window at a time, and keeps as many
//! calls under way as the connection lends to operations.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;

use super::budget::{Allowance, Held};
use super::delivery::Planned;
use super::{Failures, budget, enrolments};
use crate::dispatch::connections::Connection;
use crate::dispatch::places::QueueKey;
use crate::dispatch::{BeforeSending as _, Caller, Gateway, call};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::Origin;
use crate::domain::operation::{BulkOperation, Item, ItemEnd, ItemState, OperationKind, OperationState, Progress};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::vendor::Attempt;
use crate::store::{Change, Subject, Window};

/// Rows looked at in one go, for small calls; two calls' worth for large ones. Fewer where they are long ([`budget::WINDOW`]).
const WINDOW: usize = 512;
/// Rows that are under way at once, where the vendor's calls take many: each is held in memory, with its person and its intent.
const ROWS: usize = 2_000;
/// Calls that are planned ahead at the least.
const AHEAD: usize = 2;
/// How much longer than the grace a row waits for an earlier write about the same.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest time a row waits for in one go; whoever has set a longer grace is told rather than kept waiting.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// An operation at work.
pub(super) struct Work {
    pub(super) gateway: Gateway,
    pub(super) caller: Caller,
    pub(super) operation: BulkOperation,
    pub(super) failures: Failures,
    /// Whether the work has met a fault of its own: nothing more is begun, and what is under way goes on to its end.
    stopped: AtomicBool,
}

/// Works on an operation until it has ended, nothing more can be done for it now, or the process has to let go of it.
pub(super) async fn worked(gateway: &Gateway, operation: BulkOperation) -> Result<(), Fault> {
    // Read with the turn in hand: another instance may have ended it meanwhile.
    let found = gateway.0.store.operation(&operation.tenant, &operation.id).await.before_sending()?;
    let Some((mut operation, progress)) = found.filter(|(operation, _)| !operation.state.ended()) else {
        return Ok(());
    };
    if operation.state == OperationState::Queued {
        operation.state = OperationState::Running;
        operation.started = operation.started.or(Some(gateway.now()));
        gateway.0.store.commit(vec![Change::Operation(operation.clone())]).await.before_sending()?;
    }
    let failed = failed_so_far(gateway, &operation, &progress).await?;
    let failures = Failures::new(operation.fail_on_errors, failed);
    let caller = Caller::of_operation(&operation, gateway.exchange_of_operation(&operation));
    let stopped = AtomicBool::new(false);
    let work = Arc::new(Work { gateway: gateway.clone(), caller, operation, failures, stopped });
    if work.operation.cancelling {
        // The process that was asked may have ended in between, and rows may wait again since.
        gateway.0.store.skip_waiting(&work.operation.id).await.before_sending()?;
    }
    work.send_waiting().await?;
    if work.rests() {
        return Ok(());
    }
    work.settle_claimed().await?;
    work.end().await
}

/// Counts the rows that have failed in this try. Those that could not be read count in the first one only: no later one tries them.
async fn failed_so_far(gateway: &Gateway, operation: &BulkOperation, progress: &Progress) -> Result<u64, Fault> {
    let mut failed = progress.not_applied + progress.unknown;
    if operation.fail_on_errors.is_none() || operation.accepted == operation.created {
        return Ok(failed);
    }
    let mut from = 0;
    loop {
        let states = [ItemState::NotApplied];
        let items = gateway.0.store.items(&operation.id, &states, from, WINDOW).await.before_sending()?;
        let Some(last) = items.last() else { return Ok(failed) };
        from = last.at.index + 1;
        failed = failed.saturating_sub(items.iter().filter(|item| item.row.is_none()).count() as u64);
    }
}

impl Work {
    /// Whether the process has to let go of the operation; another goes on with it.
    pub(super) fn rests(&self) -> bool {
        self.gateway.is_resting() || !self.gateway.0.lease.holds()
    }

    /// Whether a row that met this fault waits on: an earlier write about the same is settled soon, and the row is in order.
    /// The next pass over the operation tries it again.
    pub(super) fn waits_on(&self, connection: &Connection, fault: &Fault) -> bool {
        let soon = fault.code == Code::SubjectUnsettled && fault.retry_after.is_some_and(|wait| wait <= LONGEST_WAIT);
        soon && self.gateway.0.board.since_taken_up(&self.operation.id)
            < connection.settle_grace().saturating_add(PATIENCE)
    }

    /// Returns the queue in which its calls wait for their places at the vendor.
    pub(super) fn queue_key(&self) -> QueueKey {
        QueueKey { tenant: self.operation.tenant.clone(), operation: self.operation.id.to_string() }
    }

    /// Whoever asked for the operation, for this row.
    pub(super) fn caller_of(&self, item: &Item) -> Caller {
        Caller { origin: Origin { key: None, item: Some(item.at.clone()) }, ..self.caller.clone() }
    }

    /// Writes down how rows ended without a call.
    pub(super) async fn ended(&self, ends: Vec<Change>) -> Result<(), Fault> {
        let failed = |change: &&Change| {
            matches!(change, Change::ItemEnded(_, _, end) | Change::ItemEndedUnsent(_, _, end)
                if matches!(end.state(), ItemState::NotApplied | ItemState::Unknown))
        };
        self.failures.add(ends.iter().filter(failed).count() as u64);
        if ends.is_empty() {
            return Ok(());
        }
        self.gateway.0.store.commit(ends).await.before_sending()
    }

    /// Sends what waits, through the connection as it is configured. One that changes meanwhile ends a pass: rows that were
    /// planned for it as it was still wait in the store, and are planned again for it as it is.
    async fn send_waiting(self: &Arc<Self>) -> Result<(), Fault> {
        loop {
            let Ok(connection) = self.gateway.connection_of(&self.operation.connection) else {
                return self.refuse_all().await;
            };
            if self.operation.kind == OperationKind::ProgramEmployees {
                enrolments::send_all(self, &connection.name).await?;
            } else {
                Arc::clone(self).send_all(Arc::clone(&connection)).await?;
            }
            if self.rests() || self.gateway.is_current(&connection) {
                return Ok(());
            }
        }
    }

    async fn send_all(self: Arc<Self>, connection: Arc<Connection>) -> Result<(), Fault> {
        let seen: HashMap<Subject, u64> =
            self.gateway.0.store.item_subjects(&self.operation.id).await.before_sending()?.into_iter().collect();
        let allowance = self.gateway.0.board.budget.allowance();
        let windows =
            Windows { work: Arc::clone(&self), connection: Arc::clone(&connection), seen, from: 0, allowance };
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
        let roomy = move |planned: Result<(Planned, Arc<Held>), Fault>| {
            let room = Arc::clone(&room);
            async move {
                let rows = planned.as_ref().map_or(0, |(planned, _)| planned.rows()).min(ROWS);
                // Never closed, so there is room in the end.
                let held = room.acquire_many_owned(u32::try_from(rows).unwrap_or(u32::MAX)).await.ok();
                planned.map(|planned| (planned, held))
            }
        };
        let work = Arc::clone(&self);
        let deliver = move |planned: Result<((Planned, Arc<Held>), _), Fault>| {
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
            self.gateway.0.store.skip_waiting(&self.operation.id).await.before_sending()?;
        }
        Ok(())
    }

    async fn deliver(&self, connection: &Connection, planned: Planned) -> Result<(), Fault> {
        let ahead = !self.failures.may_stop();
        // Looked up by its name, since places may have gone to its successor.
        let Ok((current, begun)) = self.gateway.begin_call(&connection.name, &self.queue_key(), ahead).await else {
            return Ok(());
        };
        let planned_for_it = std::ptr::eq(current.as_ref(), connection);
        if !planned_for_it || self.stopped.load(Ordering::Relaxed) || self.rests() || self.failures.reached() {
            // They still wait in the store.
            return Ok(());
        }
        match planned {
            Planned::People(rows) => self.register_all(connection, rows, begun).await,
            Planned::Bookings(rows) => self.book_all(connection, rows, begun).await,
        }
    }

    /// Every row fails where its connection has left the configuration.
    async fn refuse_all(&self) -> Result<(), Fault> {
        let (id, most) = (&self.operation.id, Window { rows: WINDOW, bytes: budget::WINDOW });
        loop {
            let reports = self.gateway.0.store.item_reports(id, &[ItemState::Waiting], 0, most).await;
            let items = reports.before_sending()?.rows;
            if items.is_empty() {
                return Ok(());
            }
            let fault = Fault::new(Code::ConnectionNotFound, "The operation's connection is not configured any more.");
            let ends =
                items.into_iter().map(|item| Change::ItemEndedUnsent(item.at, None, ItemEnd::failed(fault.clone())));
            self.ended(ends.collect()).await?;
        }
    }

    async fn end(&self) -> Result<(), Fault> {
        let store = &self.gateway.0.store;
        let found = store.operation(&self.operation.tenant, &self.operation.id).await.before_sending()?;
        let Some((mut operation, progress)) = found else { return Ok(()) };
        if progress.pending > 0 {
            // Rows that were put back, or asked for again meanwhile: the next round goes on.
            return Ok(());
        }
        operation.state = if operation.cancelling { OperationState::Cancelled } else { OperationState::Completed };
        operation.finished = Some(self.gateway.now());
        let line = self.gateway.operation_line(&self.caller, &operation, &progress);
        store.commit(vec![Change::Operation(operation), line]).await.before_sending()?;
        self.gateway.0.board.forget(&self.operation.id);
        // Its slot is free for the next one.
        self.gateway.0.board.wake();
        Ok(())
    }
}

/// The waiting rows, a window at a time, planned and packed into calls.
struct Windows {
    work: Arc<Work>,
    connection: Arc<Connection>,
    seen: HashMap<Subject, u64>,
    from: u64,
    allowance: Allowance,
}

impl Windows {
    /// The calls of the next window, with the memory their rows take; `None` when no row waits any more, or nothing more
    /// shall be sent.
    async fn next(&mut self) -> Result<Option<(Vec<Planned>, Arc<Held>)>, Fault> {
        let Some(mut held) = self.allowance.window().await else { return Ok(None) };
        let (work, connection) = (Arc::clone(&self.work), Arc::clone(&self.connection));
        let connection = connection.as_ref();
        let over = work.stopped.load(Ordering::Relaxed) || work.rests() || work.failures.reached();
        if over || !work.gateway.is_current(connection) {
            return Ok(None);
        }
        let most = Window { rows: WINDOW.max(2 * connection.largest_batch()), bytes: budget::WINDOW };
        let (store, id) = (&work.gateway.0.store, &work.operation.id);
        let waiting = store.next_items(id, &[ItemState::Waiting], self.from, most).await.before_sending()?;
        let Some(last) = waiting.last() else { return Ok(None) };
        self.from = last.at.index + 1;
        held.keep_for(&waiting);
        let mut items = Vec::with_capacity(waiting.len());
        let mut ends = Vec::new();
        for item in waiting {
            if work.settled_first(connection, &item).await? == Some(false) {
                continue;
            }
            match super::unsendable(&item, work.operation.kind) {
                Some(end) => ends.push(Change::ItemEndedUnsent(item.at, None, end)),
                None => items.push(item),
            }
        }
        work.ended(ends).await?;
        let calls = match work.operation.kind {
            OperationKind::Assignments => work.plan_bookings(connection, items, &mut self.seen).await,
            OperationKind::Candidates | OperationKind::ProgramEmployees => {
                work.plan_people(connection, items, &mut self.seen).await
            }
        };
        Ok(Some((calls?, Arc::new(held))))
    }
}

impl Work {
    /// Settles what an earlier try of the row left unknown. `None` if there was none, else whether the row may be sent again
    /// now: its own end was told by the settling.
    async fn settled_first(&self, connection: &Connection, item: &Item) -> Result<Option<bool>, Fault> {
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
                let unknown = Fault { outcome: Outcome::Unknown, ..fault };
                let end = ItemEnd::failed(unknown);
                self.ended(vec![Change::ItemEndedUnsent(item.at.clone(), Some(record.clone()), end)]).await?;
                return Ok(Some(false));
            }
        };
        if again {
            self.gateway.0.store.commit(vec![Change::ItemWaiting(item.at.clone())]).await.before_sending()?;
        }
        Ok(Some(again))
    }

    /// Settles a record's open write; whether it is applied.
    async fn settle_record(&self, connection: &Connection, record: &str) -> Result<bool, Fault> {
        let (gateway, tenant) = (&self.gateway, &self.operation.tenant);
        let asked = call(&self.caller, Attempt::Settling);
        if let Ok(id) = CandidateId::parse(record) {
            let Some((_turn, candidate)) = gateway.at_rest(&self.caller, connection, &id).await? else {
                return Ok(true);
            };
            let settled = gateway.settled_candidate(connection, candidate, &asked).await?;
            return Ok(settled.is_none_or(|settled| settled.candidate.outcome == Outcome::Applied));
        }
        let Ok(id) = AssignmentId::parse(record) else {
            return Err(Fault::of_fields(vec![FieldFault::invalid("", "is no record")]));
        };
        let Some(found) = gateway.0.store.assignment(tenant, &id).await.before_sending()? else { return Ok(true) };
        let _turn = gateway.turn(&found.turn()).await?;
        let Some(found) = gateway.0.store.assignment(tenant, &id).await.before_sending()? else { return Ok(true) };
        Ok(gateway.settled_assignment(connection, found, &asked).await?.outcome == Outcome::Applied)
    }
}
