//! Numbers events, and removes what retention no longer keeps of them and of deliveries.

use std::sync::Arc;

use jiff::Timestamp;

use super::{PostgresStore, events, webhooks};
use crate::store::codec::micros;
use crate::store::engine::{Access, Engine as _};
use crate::store::event_reads::expired_events;
use crate::store::postgres::transaction::work;
use crate::store::result_reads::column;
use crate::store::sql::values;
use crate::store::{StoreError, event_sql, measure};

impl PostgresStore {
    /// Numbers the next committed events, at most `limit`; returns how many.
    pub(super) async fn number_committed_events(&self, limit: usize) -> Result<u64, StoreError> {
        let unnumbered: Option<(i64,)> = self.select_one(Access::Scan, event_sql::UNNUMBERED_EVENT, &values![]).await?;
        if unnumbered.is_none() {
            return Ok(0);
        }
        let writer = Arc::clone(&self.writer);
        // In a task of its own, because the signal follows the commit even if the caller stops waiting.
        let numbering = tokio::spawn(async move {
            let numbered = writer.run(work!(|tx| events::number(tx.connection, limit))).await;
            if !matches!(numbered, Ok(0)) {
                writer.events.send_visible();
            }
            numbered
        });
        let interrupted = |_| Err(StoreError::InDoubt("a transaction was interrupted".to_owned()));
        let numbered = measure("write", async { numbering.await.unwrap_or_else(interrupted) }).await;
        self.write_failed.record(&numbered);
        numbered
    }

    /// Removes expired events in portions, so that no transaction holds its locks for long or exceeds the statement timeout.
    pub(super) async fn purge_expired_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        for (tenant, until) in expired_events(self, before).await? {
            let mut more = true;
            while more {
                let (tenant, until) = (tenant.clone(), column(until));
                let (gone, again) =
                    self.write(work!(|tx, tenant| events::purge(tx.connection, &tenant, until))).await?;
                (purged, more) = (purged + gone, again);
            }
        }
        Ok(purged)
    }

    /// Removes ended deliveries and those of webhooks that are gone, as [`Self::purge_expired_events`].
    pub(super) async fn purge_deliveries(&self, before: Timestamp) -> Result<u64, StoreError> {
        let (before, mut purged) = (micros(before), 0);
        loop {
            let (ended, more_ended) = self.write(work!(|tx| webhooks::purge_ended(tx.connection, before))).await?;
            let (removed, more_removed) = self.write(work!(|tx| webhooks::purge_removed(tx.connection))).await?;
            purged += ended + removed;
            if !more_ended && !more_removed {
                return Ok(purged);
            }
        }
    }

    /// Removes the deliveries of a webhook with this id that is gone, as [`Self::purge_expired_events`].
    pub(super) async fn purge_deliveries_of(&self, webhook: &str) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let id = webhook.to_owned();
            let (gone, more) = self.write(work!(|tx, id| webhooks::purge_deliveries_of(tx.connection, &id))).await?;
            purged += gone;
            if !more {
                return Ok(purged);
            }
        }
    }
}
