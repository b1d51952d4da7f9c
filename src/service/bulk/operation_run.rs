//! State of a running operation, shared by the parts that plan and send its rows.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::domain::error::{Code, Error};
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::{Item, ItemId, ItemOutcome, ItemState, Operation};
use crate::service::bulk::ErrorBudget;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::fair_semaphore::QueueKey;
use crate::service::write::locks::SubjectLock;
use crate::service::{Gateway, RequestContext};
use crate::store::Mutation;

/// How much longer than the grace period a row waits for an earlier write about the same subject.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum delay a row waits for. A row that would have to wait longer, for example for a long grace period, fails with
/// the reason.
pub(super) const MAX_WAIT: Duration = Duration::from_mins(1);

/// State of a running operation.
pub(super) struct OperationRun {
    pub(super) gateway: Gateway,
    pub(super) caller: RequestContext,
    pub(super) operation: Operation,
    pub(super) failures: ErrorBudget,
    /// Whether the run itself failed, for example at the store: no new batches start, and those in flight finish.
    pub(super) stopped: AtomicBool,
    /// The operation's lock, held until the last task of the run has ended, even if another one panicked.
    pub(super) _lock: SubjectLock,
}

impl OperationRun {
    /// Returns whether this process must stop working on the operation and leave it to another instance.
    pub(super) fn should_yield(&self) -> bool {
        self.gateway.is_stopping() || !self.gateway.0.lease.holds()
    }

    /// Adds to `ends` the end of a waiting row that cannot be sent because of this error, unless the row should wait.
    ///
    /// # Errors
    /// The error itself if the store failed: what the store has of the row is not known then, so the row stays queued until
    /// the store is back.
    pub(super) fn end_row(
        &self,
        connection: &Connection,
        row: ItemId,
        error: Error,
        ends: &mut Vec<Mutation>,
    ) -> Result<(), Error> {
        if error.code == Code::StoreUnavailable {
            return Err(error);
        }
        if !self.should_wait(connection, &error) {
            ends.push(Mutation::EndWaitingItem(row, None, ItemOutcome::failed(error)));
        }
        Ok(())
    }

    /// Returns whether the row should stay queued after this error: an earlier write about the same subject will be
    /// reconciled soon. The next pass over the operation retries the row.
    fn should_wait(&self, connection: &Connection, error: &Error) -> bool {
        let soon = error.code == Code::SubjectUnsettled && error.retry_after.is_some_and(|wait| wait <= MAX_WAIT);
        soon && self.gateway.0.active_operations.time_since_start(&self.operation.id)
            < connection.settle_grace().saturating_add(TIMEOUT)
    }

    /// Returns the queue in which the operation's calls wait for in-flight permits.
    pub(super) fn queue_key(&self) -> QueueKey {
        QueueKey { tenant: self.operation.tenant.clone(), operation: self.operation.id.to_string() }
    }

    /// Returns the operation's request context with this row as the origin of writes.
    pub(super) fn row_context(&self, item: &Item) -> RequestContext {
        RequestContext { origin: WriteOrigin { key: None, item: Some(item.id.clone()) }, ..self.caller.clone() }
    }

    /// Commits the outcomes of rows that ended without a vendor call.
    pub(super) async fn commit_unsent_outcomes(&self, ends: Vec<Mutation>) -> Result<(), Error> {
        let failed = |change: &&Mutation| {
            matches!(change, Mutation::EndItem(_, _, end) | Mutation::EndWaitingItem(_, _, end)
                if matches!(end.state(), ItemState::NotApplied | ItemState::Unknown))
        };
        self.failures.add(ends.iter().filter(failed).count() as u64);
        if ends.is_empty() {
            return Ok(());
        }
        self.gateway.0.store.commit(ends).await.or_not_applied()
    }
}
