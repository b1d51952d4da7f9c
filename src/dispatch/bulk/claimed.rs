//! Rows on their way when an earlier process ended: each is settled as far as it can be, then the operation ends.

use std::time::Duration;

use super::budget;
use super::worker::Work;
use crate::dispatch::BeforeSending as _;
use crate::dispatch::journal::resource_of;
use crate::domain::journal::Intent;
use crate::domain::operation::{ItemEnd, ItemReport, ItemResult, ItemState};
use crate::domain::problem::{Code, Fault};
use crate::store::{Change, Window};

/// Rows looked at in one go.
const WINDOW: usize = 512;
/// First and longest pause between two looks.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl Work {
    /// Waits for the rows whose answer was lost with an earlier process, until each was settled, or left to a person: then
    /// the row is unknown. The background settles them; each write tells its row how it ended.
    pub(super) async fn settle_claimed(&self) -> Result<(), Fault> {
        let (id, store) = (&self.operation.id, &self.gateway.0.store);
        let mut pause = LOOKS.0;
        let mut logged = false;
        loop {
            let mut from = 0;
            let mut open = 0;
            loop {
                let window = Window { rows: WINDOW, bytes: budget::WINDOW };
                let items = store.item_reports(id, &[ItemState::Claimed], from, window).await.before_sending()?.rows;
                let Some(last) = items.last() else { break };
                from = last.at.index + 1;
                open += items.len();
                let mut ends = Vec::new();
                for item in items {
                    ends.extend(self.end_of_claimed(&item).await?);
                }
                self.ended(ends).await?;
            }
            if open == 0 || self.rests() {
                return Ok(());
            }
            if !logged {
                // Nothing is sent for it but what the background settles.
                self.gateway.0.board.give_slot_back(id);
                tracing::info!(operation = %id, rows = open, "settling rows whose answer an earlier process has lost");
                logged = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Returns the end of a claimed row that no settling will tell: its write has ended without it, or is left to a person.
    async fn end_of_claimed(&self, item: &ItemReport) -> Result<Option<Change>, Fault> {
        let record = item.record.clone().unwrap_or_default();
        let end = match self.gateway.0.store.intent(&record).await.before_sending()? {
            // The record was erased in between.
            None => ItemEnd::of(ItemResult::Existing),
            Some(intent) => match self.left_to_a_person(&intent) {
                Some(fault) => ItemEnd::failed(fault),
                None => return Ok(None),
            },
        };
        // Only while it is claimed: it may have been told since.
        Ok(Some(Change::ItemEndedClaimed(item.at.clone(), Some(record), end)))
    }

    /// Returns the fault of a row whose open write nothing settles by itself.
    fn left_to_a_person(&self, intent: &Intent) -> Option<Fault> {
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
        let fault = Fault::unknown(Code::VendorTimeout, format!("{reason} {detail}")).at(resource_of(&intent.write));
        Some(connection.map_or_else(|| fault.clone(), |connection| connection.own(fault.clone())))
    }
}
