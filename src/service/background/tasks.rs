//! Background tasks: adopt the writes of dead processes, reconcile unknown writes with back-off, start queued
//! operations and purge expired data.
//!
//! They only schedule. The vendor's adapter declares how a write may be resent, and `write::executor` commits the
//! outcome; adoption itself only marks a write `unknown`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::error::Error;
use crate::service::Gateway;
use crate::service::bulk::ProgressMark;
use crate::store::ItemCounts;
use crate::telemetry::metrics;

/// Interval between background passes.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between purges of expired data.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

impl Gateway {
    /// Adopts the open writes of processes that have ended, before the first request is served.
    pub(in crate::service) async fn recover(&self) -> Result<(), Error> {
        self.renew_identities().await?;
        let mut open = 0;
        loop {
            let adopted = self.adopt_dead_peers().await?;
            open += adopted;
            if adopted == 0 {
                break;
            }
        }
        if open > 0 {
            tracing::info!(open, "writes left open by an earlier process are unknown until reconciled");
        }
        Ok(())
    }

    /// Starts the background tasks. They hold the gateway weakly and end with it. Each connection has its own
    /// reconciler, so a slow vendor delays no other connection.
    pub(in crate::service) fn run_in_background(&self) {
        self.spawn_reconcilers();
        self.spawn_report_readers();
        Self::create_event_counters();
        self.spawn_event_numbering();
        self.spawn_event_heads();
        self.spawn_connection_monitor();
        let gateway = std::sync::Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let (mut tidied, mut counted, mut erased, mut indexed) = (None, None, false, false);
            let mut registrations_indexed = false;
            let (mut reported, mut searched) = (BTreeSet::new(), String::new());
            let mut seen = ProgressMark::default();
            loop {
                let Some(inner) = gateway.upgrade() else { return };
                let gateway = Self(inner);
                gateway.run_round().await;
                if is_due(&mut tidied, PURGE_INTERVAL) {
                    gateway.purge_expired().await;
                    erased = erased || gateway.finish_erasures().await;
                    // A replica of an earlier version may have written more candidates.
                    (indexed, registrations_indexed) = (false, false);
                    gateway.count_stalled(&mut seen).await;
                }
                if is_due(&mut counted, GAUGE_INTERVAL) {
                    gateway.count_unsettled(&mut reported).await;
                    gateway.count_reports().await;
                    gateway.search_orphans(&mut searched).await;
                }
                indexed = indexed || gateway.index_groups().await;
                registrations_indexed = registrations_indexed || gateway.index_registrations().await;
                let soon = gateway.0.active_operations.changed();
                drop(gateway);
                tokio::select! {
                    () = tokio::time::sleep(PASS_INTERVAL) => {}
                    () = soon => {}
                }
            }
        });
    }

    /// Spawns a reconciler for each connection that has none; it ends when its connection is removed from the
    /// configuration.
    pub(in crate::service) fn spawn_reconcilers(&self) {
        for name in self.configured().connections.keys().filter(|name| self.register_reconciler(name)) {
            let name = name.clone();
            let gateway = std::sync::Arc::downgrade(&self.0);
            tokio::spawn(async move {
                loop {
                    let Some(inner) = gateway.upgrade() else { return };
                    let gateway = Self(inner);
                    if !gateway.is_reconciler_needed(&name) {
                        return;
                    }
                    gateway.reconcile_due(&name).await;
                    drop(gateway);
                    tokio::time::sleep(PASS_INTERVAL).await;
                }
            });
        }
    }

    async fn run_round(&self) {
        self.0.executor.flush_pending_outcomes().await;
        self.flush_audit_backlog().await;
        if self.is_stopping() || !self.0.lease.holds() {
            return;
        }
        let adopted = async {
            while self.adopt_dead_peers().await? > 0 {}
            self.resolve_doubts().await
        };
        // Start operations even if the adoption failed.
        for looked in [adopted.await, self.begin_operations().await, self.renew_identities().await] {
            if let Err::<(), Error>(error) = looked {
                tracing::warn!(code = error.code.as_str(), detail = error.detail, "background pass failed; will retry");
            }
        }
    }

    /// Searches for this instance's orphaned intents.
    async fn search_orphans(&self, searched: &mut String) {
        if self.is_stopping() || !self.0.lease.holds() {
            return;
        }
        if let Err(error) = self.adopt_orphans(searched).await {
            tracing::warn!(
                code = error.code.as_str(),
                detail = error.detail,
                "adopting orphaned writes failed; will retry"
            );
        }
    }

    async fn purge_expired(&self) {
        let now = self.now();
        self.0.executor.grace_periods.remove_expired();
        if let Err(error) = self.0.store.remember_time(now).await {
            tracing::warn!(%error, "recording the time of the store's last use failed; will retry");
        }
        let kept = SignedDuration::try_from(self.configured().retention.operations).unwrap_or(SignedDuration::MAX);
        let finished = now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
        match self.0.store.purge(now, finished).await {
            Ok(purged) if purged.operations + purged.keys > 0 => {
                tracing::info!(operations = purged.operations, keys = purged.keys, "purged expired data");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "purging expired data failed; will retry"),
        }
        self.purge_reports().await;
        self.purge_events().await;
    }

    /// Counts open writes by connection, including removed ones. Keeps reporting connections that were reported before;
    /// a gauge would otherwise keep its last value for ever.
    async fn count_unsettled(&self, reported: &mut BTreeSet<String>) {
        if let Ok(ItemCounts { waiting, claimed }) = self.0.store.count_open_items().await {
            metrics::operation_rows("waiting", waiting);
            metrics::operation_rows("claimed", claimed);
        }
        let Ok(unsettled) = self.0.store.count_unsettled_intents().await else { return };
        reported.extend(self.configured().connections.keys().cloned());
        reported.extend(unsettled.iter().map(|open| open.connection.clone()));
        for name in &*reported {
            let of_connection = unsettled.iter().filter(|open| open.connection == *name);
            let count: u64 = of_connection.map(|open| open.count).sum();
            metrics::unsettled(name, count);
        }
    }
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
