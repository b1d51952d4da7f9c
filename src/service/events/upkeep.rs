//! Upkeep of events in the background: numbering on a shared store, and retention.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::event::EventType;
use crate::service::Gateway;
use crate::telemetry::metrics;

/// Number of events that are numbered in one transaction.
const NUMBERED: usize = 1_000;
/// Interval between looks at events that are not numbered: those of an instance that has died.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Gateway {
    /// Creates the counters of all types of events.
    pub(in crate::service) fn create_event_counters() {
        for event_type in EventType::ALL.iter().filter(|event_type| **event_type != EventType::Ping) {
            metrics::event_type(event_type.as_str());
        }
    }

    /// Spawns the task that numbers events, if the store leaves that to its users. It holds the gateway weakly and ends
    /// with it.
    pub(in crate::service) fn spawn_event_numbering(&self) {
        if !self.0.store.is_shared() {
            return;
        }
        let gateway = std::sync::Arc::downgrade(&self.0);
        let mut unnumbered = self.0.store.unnumbered_signal();
        tokio::spawn(async move {
            loop {
                unnumbered.mark_unchanged();
                let Some(inner) = gateway.upgrade() else { return };
                let gateway = Self(inner);
                let numbered = gateway.number_events().await;
                drop(gateway);
                if let Err(error) = numbered {
                    tracing::warn!(%error, "numbering events failed; will retry");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                drop(tokio::time::timeout(INTERVAL, unnumbered.changed()).await);
            }
        });
    }

    /// Numbers all events that have no number yet.
    async fn number_events(&self) -> Result<(), crate::store::StoreError> {
        if !self.0.lease.holds() {
            return Ok(());
        }
        while self.0.store.number_events(NUMBERED).await? > 0 {}
        Ok(())
    }

    /// Removes events that are no longer kept.
    pub(in crate::service) async fn purge_events(&self) {
        self.purge_events_before(self.events_kept_since()).await;
    }

    /// Removes events from before this time, as far as it is reported which of them webhooks lose.
    pub(in crate::service) async fn purge_events_before(&self, since: Timestamp) {
        // While they are there, what webhooks lose of them can be counted.
        let until = match self.report_gaps(since).await {
            Ok(until) => until,
            Err(error) => {
                let (code, detail) = (error.code.as_str(), error.detail);
                tracing::warn!(code, detail, "reporting what webhooks lose failed; will retry");
                return;
            }
        };
        match self.0.store.purge_events(until).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "purged events"),
            Err(error) => tracing::warn!(%error, "purging events failed; will retry"),
        }
    }
}
