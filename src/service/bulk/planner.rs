//! Plans the rows of an operation in a task of its own, so that planning delays no answer and no next call.
//!
//! One page is planned while the batches of the page before are sent. Rows that an earlier run left unknown are
//! reconciled first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::SettledBy;
use crate::domain::operation::{Item, ItemOutcome, ItemState, OperationKind};
use crate::domain::outcome::Outcome;
use crate::domain::record::RecordId;
use crate::domain::vendor::CallPurpose;
use crate::service::bulk::batch_sender::Batch;
use crate::service::bulk::duplicates::PlannedRows;
use crate::service::bulk::memory_budget::{MemoryPermit, OperationBudget};
use crate::service::bulk::operation_run::OperationRun;
use crate::service::bulk::{memory_budget, unsendable};
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::streams::complete_all;
use crate::store::{Mutation, Window};

/// Minimum rows per page. A page has at least two full batches and as many rows as may be in flight; large rows make
/// pages shorter ([`memory_budget::PAGE_BYTES`]).
const MIN_PAGE: usize = 128;

/// Maximum number of rows reconciled concurrently. They hold no permit of the connection's bulk limits: they queue at
/// the transport's limit, before the batches of other tenants. So at most a quarter of the in-flight limit is used.
const MAX_CONCURRENT_RECONCILES: usize = 8;

/// Batches of a page, with the memory permit of their rows.
type Page = (Vec<Batch>, Arc<MemoryPermit>);

/// The pages of an operation as its planner completes them.
pub(super) struct PlannedPages {
    /// Ends after the last page, after an error, and when sending has stopped.
    pub(super) pages: mpsc::Receiver<Result<Page, Error>>,
    /// The planner; await it after the last page, because it may still commit outcomes of rows that were not planned.
    pub(super) planner: JoinHandle<()>,
}

impl PlannedPages {
    /// Spawns the planner of an operation's waiting rows.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn spawn(work: &Arc<OperationRun>, connection: &Arc<Connection>) -> Result<Self, Error> {
        let seen = PlannedRows::load(&work.gateway, &work.operation.id).await?;
        let allowance = work.gateway.0.active_operations.budget.allowance();
        let (work, connection) = (Arc::clone(work), Arc::clone(connection));
        let tasks = work.gateway.0.tasks.clone();
        let mut reader = RowPager { work, connection, seen, from: 0, allowance };
        let (sender, pages) = mpsc::channel(1);
        let plan = async move {
            // A page is planned once the one before is being sent. Without a receiver nothing more is sent.
            while let Ok(room) = sender.reserve().await {
                let Some(page) = reader.next().await.transpose() else { return };
                let failed = page.is_err();
                room.send(page);
                if failed {
                    return;
                }
            }
        };
        Ok(Self { pages, planner: tasks.spawn(plan.in_current_span()) })
    }
}

/// Reads the waiting rows and plans them into batches.
struct RowPager {
    work: Arc<OperationRun>,
    connection: Arc<Connection>,
    seen: PlannedRows,
    from: u64,
    allowance: OperationBudget,
}

impl RowPager {
    /// Returns the batches of the next page and the memory permit of their rows; `None` when no row waits or sending
    /// has stopped.
    async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(mut held) = self.allowance.acquire_window().await else { return Ok(None) };
        let (work, connection) = (Arc::clone(&self.work), Arc::clone(&self.connection));
        let connection = connection.as_ref();
        let over = work.stopped.load(Ordering::Relaxed) || work.should_yield() || work.failures.reached();
        if over || !work.gateway.is_current(connection) {
            return Ok(None);
        }
        let rows = MIN_PAGE.max(2 * connection.largest_batch()).max(connection.max_in_flight());
        let most = Window { rows, bytes: memory_budget::PAGE_BYTES };
        let (store, id) = (&work.gateway.0.store, &work.operation.id);
        let waiting = store.next_items(id, &[ItemState::Waiting], self.from, most).await.or_not_applied()?;
        let Some(last) = waiting.last() else { return Ok(None) };
        self.from = last.id.index + 1;
        held.shrink_to(&waiting);
        let (mut items, mut ends) = (Vec::with_capacity(waiting.len()), Vec::new());
        let reconciled = stream::iter(waiting)
            .map(|item| async {
                let is_sendable = work.reconcile_before_sending(connection, &item).await?;
                Ok(is_sendable.then_some(item))
            })
            .buffered(connection.max_in_flight().div_ceil(4).clamp(1, MAX_CONCURRENT_RECONCILES));
        for item in complete_all(reconciled).await?.into_iter().flatten() {
            match unsendable(&item, work.operation.kind) {
                Some(end) => ends.push(Mutation::EndWaitingItem(item.id, None, end)),
                None => items.push(item),
            }
        }
        work.commit_unsent_outcomes(ends).await?;
        let calls = match work.operation.kind {
            OperationKind::Assignments => work.plan_bookings(connection, items, &mut self.seen).await,
            OperationKind::Candidates
            | OperationKind::ProgramEmployees
            | OperationKind::Reread
            | OperationKind::Replay => work.plan_candidates(connection, items, &mut self.seen).await,
        };
        Ok(Some((calls?, Arc::new(held))))
    }
}

impl OperationRun {
    /// Reconciles the write that an earlier run of the row left unknown, if there is one. Returns whether the row may be
    /// sent now; if not, reconciliation has recorded its outcome.
    async fn reconcile_before_sending(&self, connection: &Connection, item: &Item) -> Result<bool, Error> {
        let Some(record) = &item.record else { return Ok(true) };
        let settled = self.reconcile_record(connection, record).await;
        let again = match settled {
            Ok(applied) => !applied,
            // The row waits until the store is back.
            Err(error) if error.code == Code::StoreUnavailable => return Err(error),
            Err(error) if error.outcome == Outcome::NotApplied && error.code != Code::SubjectUnsettled => true,
            Err(error) => {
                // Too early, or not reconcilable: the row stays unknown.
                let unknown = Error { outcome: Outcome::Unknown, ..error };
                let end = ItemOutcome::failed(unknown);
                self.commit_unsent_outcomes(vec![Mutation::EndWaitingItem(item.id.clone(), Some(record.clone()), end)])
                    .await?;
                return Ok(false);
            }
        };
        if again {
            let requeue = Mutation::RequeueItem(item.id.clone(), record.clone());
            self.gateway.0.store.commit(vec![requeue]).await.or_not_applied()?;
        }
        Ok(again)
    }

    /// Reconciles a record's open write and returns whether it was applied.
    async fn reconcile_record(&self, connection: &Connection, record: &str) -> Result<bool, Error> {
        let id = RecordId::parse(record);
        let Some(id) = id.filter(|id| matches!(id, RecordId::Candidate(_) | RecordId::Assignment(_))) else {
            return Err(Error::from_fields(vec![FieldError::invalid("", "is not a known record")]));
        };
        let (reconciler, call) = (&self.gateway.0.reconciler, self.caller.call_context(CallPurpose::Reconcile));
        let settled =
            reconciler.lock_and_reconcile(&self.operation.tenant, connection, &id, &call, SettledBy::Caller).await?;
        // A record that is gone was erased, which only an applied write can have been.
        let record = settled.and_then(|settled| settled.record);
        Ok(record.is_none_or(|record| record.outcome() == Some(Outcome::Applied)))
    }
}
