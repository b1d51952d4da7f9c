//! Which operations begin: of each tenant at each connection in turn, oldest first, in the slots they have (`board`).

use tracing::Instrument as _;

use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::domain::operation::Operation;
use crate::service::bulk::active_operations::SlotGroup;
use crate::service::bulk::run;
use crate::service::write::locks::SubjectLock;
use crate::service::{Gateway, StoreResultExt as _};
use crate::telemetry::spans;

/// Operations of one group looked at in one go.
const AT_ONCE: usize = 4;

/// Begins the operations nobody works on yet, as far as there are slots for them.
pub(super) async fn begin(gateway: &Gateway) -> Result<(), Error> {
    let board = &gateway.0.board;
    // Those looked at before: begun, which may be over by now, or another instance's.
    let mut seen: Vec<OperationId> = Vec::new();
    loop {
        let mut passed = board.active();
        passed.extend_from_slice(&seen);
        let found = gateway.0.store.unfinished_operations(&passed, AT_ONCE).await.or_not_applied()?;
        let mut moved = false;
        for operation in found {
            if !board.has_slot(&SlotGroup::of(&operation)) {
                continue;
            }
            moved = true;
            seen.push(operation.id.clone());
            if let Some(turn) = gateway.0.turns.try_lock(&subject(&operation.id)).await.or_not_applied()? {
                spawn(gateway, operation, turn);
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

fn subject(id: &OperationId) -> String {
    format!("operation {id}")
}

fn spawn(gateway: &Gateway, operation: Operation, turn: SubjectLock) {
    if !gateway.0.board.begin(&operation) {
        return;
    }
    let span = spans::operation(
        operation.id.as_str(),
        operation.kind.as_str(),
        &operation.connection,
        operation.traceparent.as_deref(),
    );
    let gateway = gateway.clone();
    gateway.0.tasks.spawn(work(gateway.clone(), operation, turn).instrument(span));
}

async fn work(gateway: Gateway, operation: Operation, turn: SubjectLock) {
    let id = operation.id.clone();
    // Whatever ends it early, a fault or a panic, the next round of the background looks at it again.
    let _off_the_board = ActiveGuard(gateway.clone(), id.clone());
    if let Err(fault) = run::run_operation(&gateway, operation).await {
        tracing::warn!(operation = %id, code = fault.code.as_str(), detail = fault.detail, "an operation rests");
    }
    drop(turn);
}

struct ActiveGuard(Gateway, OperationId);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.0.board.end(&self.1);
    }
}
