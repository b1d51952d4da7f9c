//! Waits for rows that were in flight when an earlier process died: each is reconciled if possible, then the operation
//! ends.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use crate::domain::error::{Code, Error};
use crate::domain::intent::Intent;
use crate::domain::operation::{ItemOutcome, ItemReport, ItemState, ItemStatus};
use crate::service::bulk::memory_budget;
use crate::service::bulk::operation_run::OperationRun;
use crate::service::errors::StoreResultExt as _;
use crate::store::{Mutation, Window};

/// Rows read per page.
const WINDOW: usize = 512;
/// Maximum number of rows whose writes are read concurrently.
const MAX_CONCURRENT_READS: usize = 16;
/// Initial and maximum polling interval.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl OperationRun {
    /// Waits until each row whose response was lost with an earlier process is reconciled, or left to a person and thus
    /// unknown. The background reconciles the writes; each one's conclusion also concludes its row.
    pub(super) async fn await_claimed(&self) -> Result<(), Error> {
        let (id, store) = (&self.operation.id, &self.gateway.0.store);
        let mut pause = POLL_INTERVALS.0;
        let mut logged = false;
        loop {
            let mut from = 0;
            let mut open = 0;
            loop {
                let window = Window { rows: WINDOW, bytes: memory_budget::PAGE_BYTES };
                let items = store.item_reports(id, &[ItemState::Claimed], from, window).await.or_not_applied()?.rows;
                let Some(last) = items.last() else { break };
                from = last.id.index + 1;
                open += items.len();
                let mut looked =
                    stream::iter(items).map(|item| self.claimed_outcome(item)).buffered(MAX_CONCURRENT_READS);
                let mut ends = Vec::new();
                while let Some(end) = looked.next().await {
                    ends.extend(end?);
                }
                drop(looked);
                self.commit_unsent_outcomes(ends).await?;
            }
            if open == 0 || self.should_yield() {
                return Ok(());
            }
            if !logged {
                // The operation itself sends nothing more; only the background does.
                self.gateway.0.active_operations.release_slot(id);
                tracing::info!(
                    operation = %id,
                    rows = open,
                    "waiting for rows whose responses were lost with an earlier process"
                );
                logged = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_INTERVALS.1);
        }
    }

    /// Returns the outcome of a claimed row that no reconciliation will conclude: its record was erased, or its write
    /// is left to a person.
    async fn claimed_outcome(&self, item: ItemReport) -> Result<Option<Mutation>, Error> {
        let record = item.record.unwrap_or_default();
        let end = match self.gateway.0.store.intent(&record).await.or_not_applied()? {
            // The record was erased meanwhile.
            None => ItemOutcome::of(ItemStatus::Existing),
            Some(intent) => match self.manual_resolution_error(&intent) {
                Some(error) => ItemOutcome::failed(error),
                None => return Ok(None),
            },
        };
        // Applies only while the row is claimed: it may have been concluded since.
        Ok(Some(Mutation::EndClaimedItem(item.id, Some(record), end)))
    }

    /// Returns the error of a row whose open write is not reconciled automatically.
    fn manual_resolution_error(&self, intent: &Intent) -> Option<Error> {
        if intent.in_flight {
            return None;
        }
        let connection = self.gateway.connection_of(&intent.connection).ok();
        let detail = match (&connection, intent.due) {
            (Some(_), Some(_)) => return None,
            (Some(_), None) => "Settle it manually.",
            (None, _) => "Its connection is no longer configured. Settle it manually.",
        };
        let reason = intent.reason.as_deref().unwrap_or("The process handling it ended before it recorded an outcome.");
        let error = Error::unknown(Code::VendorTimeout, format!("{reason} {detail}"))
            .with_resource(intent.write.record().path());
        Some(connection.map_or_else(|| error.clone(), |connection| connection.tag_connection(error.clone())))
    }
}
