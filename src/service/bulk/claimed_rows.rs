//! Rows on their way when an earlier process ended: each is settled as far as it can be, then the operation ends.

use std::time::Duration;

use crate::domain::error::{Code, Error};
use crate::domain::intent::Intent;
use crate::domain::operation::{ItemOutcome, ItemReport, ItemState, ItemStatus};
use crate::service::StoreResultExt as _;
use crate::service::bulk::memory_budget;
use crate::service::bulk::run::OperationRun;
use crate::service::write::executor::resource_path;
use crate::store::{Mutation, Window};

/// Rows looked at in one go.
const WINDOW: usize = 512;
/// First and longest pause between two looks.
const MAX_LOOKUPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl OperationRun {
    /// Waits for the rows whose answer was lost with an earlier process, until each was settled, or left to a person: then
    /// the row is unknown. The background settles them; each write tells its row how it ended.
    pub(super) async fn await_claimed(&self) -> Result<(), Error> {
        let (id, store) = (&self.operation.id, &self.gateway.0.store);
        let mut pause = MAX_LOOKUPS.0;
        let mut logged = false;
        loop {
            let mut from = 0;
            let mut open = 0;
            loop {
                let window = Window { rows: WINDOW, bytes: memory_budget::WINDOW };
                let items = store.item_reports(id, &[ItemState::Claimed], from, window).await.or_not_applied()?.rows;
                let Some(last) = items.last() else { break };
                from = last.id.index + 1;
                open += items.len();
                let mut ends = Vec::new();
                for item in items {
                    ends.extend(self.claimed_outcome(&item).await?);
                }
                self.ended(ends).await?;
            }
            if open == 0 || self.should_yield() {
                return Ok(());
            }
            if !logged {
                // Nothing is sent for it but what the background settles.
                self.gateway.0.board.release_slot(id);
                tracing::info!(operation = %id, rows = open, "settling rows whose answer an earlier process has lost");
                logged = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_LOOKUPS.1);
        }
    }

    /// Returns the end of a claimed row that no settling will tell: its write has ended without it, or is left to a person.
    async fn claimed_outcome(&self, item: &ItemReport) -> Result<Option<Mutation>, Error> {
        let record = item.record.clone().unwrap_or_default();
        let end = match self.gateway.0.store.intent(&record).await.or_not_applied()? {
            // The record was erased in between.
            None => ItemOutcome::of(ItemStatus::Existing),
            Some(intent) => match self.left_to_a_person(&intent) {
                Some(fault) => ItemOutcome::failed(fault),
                None => return Ok(None),
            },
        };
        // Only while it is claimed: it may have been told since.
        Ok(Some(Mutation::ItemEndedClaimed(item.id.clone(), Some(record), end)))
    }

    /// Returns the fault of a row whose open write nothing settles by itself.
    fn left_to_a_person(&self, intent: &Intent) -> Option<Error> {
        if intent.under_way {
            return None;
        }
        let connection = self.gateway.connection_of(&intent.connection).ok();
        let detail = match (&connection, intent.due) {
            (Some(_), Some(_)) => return None,
            (Some(_), None) => "Settle it by hand.",
            (None, _) => "Its connection is not configured any more. Settle it by hand.",
        };
        let reason = intent.reason.as_deref().unwrap_or("The process that was sending it ended.");
        let fault = Error::unknown(Code::VendorTimeout, format!("{reason} {detail}"))
            .with_resource(resource_path(&intent.write));
        Some(connection.map_or_else(|| fault.clone(), |connection| connection.tag_connection(fault.clone())))
    }
}
