//! Starts operations: round-robin across tenants and connections, oldest first, within the slots of
//! [`ActiveOperations`](super::active_operations::ActiveOperations).

use tracing::Instrument as _;

use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::domain::operation::Operation;
use crate::domain::subject::SubjectKey;
use crate::service::Gateway;
use crate::service::bulk::active_operations::SlotGroup;
use crate::service::bulk::run;
use crate::service::errors::StoreResultExt as _;
use crate::service::write::locks::SubjectLock;
use crate::telemetry::spans;

/// Maximum number of operations of one group fetched at once.
const MAX_FETCHED: usize = 4;

/// Starts operations that no instance works on, as far as slots are free.
pub(super) async fn begin(gateway: &Gateway) -> Result<(), Error> {
    let board = &gateway.0.active_operations;
    // Operations already considered: started here (and perhaps ended by now), or run by another instance.
    let mut seen: Vec<OperationId> = Vec::new();
    loop {
        let mut passed = board.active();
        passed.extend_from_slice(&seen);
        let found = gateway.0.store.unfinished_operations(&passed, MAX_FETCHED).await.or_not_applied()?;
        let mut moved = false;
        for operation in found {
            if !board.has_slot(&SlotGroup::of(&operation)) {
                continue;
            }
            moved = true;
            seen.push(operation.id.clone());
            if let Some(lock) =
                gateway.0.subject_locks.try_lock(&SubjectKey::operation(&operation.id)).await.or_not_applied()?
            {
                spawn(gateway, operation, lock);
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

fn spawn(gateway: &Gateway, operation: Operation, lock: SubjectLock) {
    if !gateway.0.active_operations.begin(&operation) {
        return;
    }
    let span = spans::operation(
        operation.id.as_str(),
        operation.kind.as_str(),
        &operation.connection,
        operation.traceparent.as_deref(),
    );
    let gateway = gateway.clone();
    gateway.0.tasks.spawn(work(gateway.clone(), operation, lock).instrument(span));
}

async fn work(gateway: Gateway, operation: Operation, lock: SubjectLock) {
    let id = operation.id.clone();
    // If an error or a panic ends the run early, the next background pass starts it again.
    let _off_the_board = ActiveGuard(gateway.clone(), id.clone());
    if let Err(error) = run::run_operation(&gateway, operation, lock).await {
        tracing::warn!(
            operation = %id,
            code = error.code.as_str(),
            detail = error.detail,
            "operation paused after an error"
        );
    }
}

struct ActiveGuard(Gateway, OperationId);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.0.active_operations.end(&self.1);
    }
}
