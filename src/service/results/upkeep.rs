//! Upkeep of reports in the background: retention, the index of registrations, gauges.

use jiff::{SignedDuration, Timestamp};

use crate::domain::results::ReportState;
use crate::service::Gateway;
use crate::telemetry::metrics;

/// Number of bookings whose registrations are indexed in one transaction.
const INDEXED: usize = 256;

impl Gateway {
    /// Removes what retention no longer keeps of reports.
    pub(in crate::service) async fn purge_reports(&self) {
        let now = self.now();
        let before = |kept: std::time::Duration| {
            let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
            now.saturating_sub(kept).unwrap_or(Timestamp::MIN)
        };
        let retention = self.configured().retention;
        match self.0.store.purge_reports(before(retention.reports), before(retention.parked_reports)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "purged reports"),
            Err(error) => tracing::warn!(%error, "purging reports failed; will retry"),
        }
    }

    /// Indexes the registrations of some bookings that an earlier version wrote. Returns whether all are indexed.
    pub(in crate::service) async fn index_registrations(&self) -> bool {
        if self.is_stopping() {
            return false;
        }
        match self.0.store.index_participants(INDEXED).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "indexing the registrations of bookings failed; will retry");
                false
            }
        }
    }

    /// Sets the gauges of reports and feeds of all configured connections with reports.
    pub(in crate::service) async fn count_reports(&self) {
        let configured = self.configured();
        let with_source = configured.connections.values().filter(|connection| connection.report_source().is_some());
        let names: Vec<&str> = with_source.map(|connection| connection.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        self.count_fetches(&names).await;
        let Ok(counts) = self.0.store.count_reports().await else { return };
        for name in names {
            for state in ReportState::ALL {
                let counted = counts.iter().find(|counted| counted.connection == name && counted.state == *state);
                metrics::reports(name, state.as_str(), counted.map_or(0, |counted| counted.count));
            }
            self.show_feed_time(name).await;
        }
    }
}
