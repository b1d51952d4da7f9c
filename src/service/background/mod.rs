//! Work without a caller: recovery at start-up, reconciliation of due writes, starting of operations, purging, gauges.

pub(super) mod due_writes;
pub(super) mod tasks;
