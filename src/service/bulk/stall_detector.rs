//! Detects operations that run without progress. None should, so they are counted for an alert.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::OperationId;
use crate::service::Gateway;
use crate::store::RunningOperation;
use crate::telemetry::metrics;

/// Time without progress after which an operation counts as stalled.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// Last observation of the running operations: the number of pending rows of each, and since when it has not changed.
#[derive(Default)]
pub(in crate::service) struct ProgressMark {
    pending: HashMap<OperationId, (u64, Instant)>,
    connections: BTreeMap<String, usize>,
}

impl ProgressMark {
    /// Updates the observation and returns the number of stalled operations by connection. Keeps reporting connections
    /// that were reported before; a gauge would otherwise keep its last value for ever.
    fn look(&mut self, running: &[RunningOperation]) -> &BTreeMap<String, usize> {
        let now = Instant::now();
        let mut pending = HashMap::with_capacity(running.len());
        self.connections.values_mut().for_each(|count| *count = 0);
        for operation in running {
            let before = self.pending.get(&operation.id).filter(|(rows, _)| *rows == operation.pending);
            let since = before.map_or(now, |(_, since)| *since);
            let stalls = now.saturating_duration_since(since) >= STALL_TIMEOUT;
            *self.connections.entry(operation.connection.clone()).or_default() += usize::from(stalls);
            pending.insert(operation.id.clone(), (operation.pending, since));
        }
        self.pending = pending;
        &self.connections
    }
}

impl Gateway {
    /// Counts the stalled operations.
    pub(in crate::service) async fn count_stalled(&self, seen: &mut ProgressMark) {
        let Ok(running) = self.0.store.running_operations().await else { return };
        for (connection, count) in seen.look(&running) {
            metrics::operations_stalled(connection, *count);
        }
        let unfinished: HashSet<OperationId> = running.into_iter().map(|operation| operation.id).collect();
        self.0.active_operations.forget_others(&unfinished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operation_stalls_when_no_row_has_ended_for_five_minutes() {
        let id = OperationId::parse(&format!("op_{}", "0".repeat(32))).unwrap();
        let with = |pending| [RunningOperation { id: id.clone(), connection: "c".to_owned(), pending }];
        let mut seen = ProgressMark::default();
        let stalled = |seen: &mut ProgressMark, pending| seen.look(&with(pending))["c"];
        assert_eq!(stalled(&mut seen, 9), 0);
        tokio::time::advance(STALL_TIMEOUT).await;
        assert_eq!(stalled(&mut seen, 9), 1);
        assert_eq!(stalled(&mut seen, 8), 0, "a row has ended");
        tokio::time::advance(STALL_TIMEOUT).await;
        assert_eq!(stalled(&mut seen, 8), 1);
        assert_eq!(seen.look(&[])["c"], 0, "it has ended");
    }
}
