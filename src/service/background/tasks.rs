//! Background tasks: adopt the writes of dead processes, reconcile unknown writes with back-off, start queued
//! operations and purge expired data.
//!
//! They only schedule. The vendor's adapter declares how a write may be resent, and `write::executor` commits the
//! outcome; adoption itself only marks a write `unknown`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState};
use crate::domain::capability::RetrySafety;
use crate::domain::error::{Code, Error};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::Intent;
use crate::domain::outcome::Outcome;
use crate::service::bulk::ProgressMark;
use crate::service::write::executor::{fail_origin, resource_path, schedule_next_attempt};
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::MOVED_CONNECTION_REASON;
use crate::service::{Gateway, StoreResultExt as _};
use crate::store::{ItemCounts, Mutation};
use crate::telemetry::metrics;

/// Interval between background passes.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of orphaned intents per page.
const PAGE_SIZE: usize = 256;
/// Interval between purges of expired data.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

impl Gateway {
    /// Adopts the open writes of processes that have ended, before the first request is served.
    pub(in crate::service) async fn recover(&self) -> Result<(), Error> {
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
        let gateway = std::sync::Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let (mut tidied, mut counted, mut erased) = (None, None, false);
            let (mut told, mut searched) = (BTreeSet::new(), String::new());
            let mut seen = ProgressMark::default();
            loop {
                let Some(inner) = gateway.upgrade() else { return };
                let gateway = Self(inner);
                gateway.run_round().await;
                if is_due(&mut tidied, PURGE_INTERVAL) {
                    gateway.purge_expired().await;
                    erased = erased || gateway.finish_erasures().await;
                    gateway.count_stalled(&mut seen).await;
                }
                if is_due(&mut counted, GAUGE_INTERVAL) {
                    gateway.count_unsettled(&mut told).await;
                    gateway.search_orphans(&mut searched).await;
                }
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
        self.flush_pending_outcomes().await;
        self.flush_audit_backlog().await;
        if self.is_stopping() || !self.0.lease.holds() {
            return;
        }
        let adopted = async {
            while self.adopt_dead_peers().await? > 0 {}
            self.resolve_doubts().await
        };
        // Start operations even if the adoption failed.
        for looked in [adopted.await, self.begin_operations().await] {
            if let Err::<(), Error>(fault) = looked {
                tracing::warn!(code = fault.code.as_str(), detail = fault.detail, "background pass failed; will retry");
            }
        }
    }

    /// Searches for this instance's orphaned intents.
    async fn search_orphans(&self, searched: &mut String) {
        if self.is_stopping() || !self.0.lease.holds() {
            return;
        }
        if let Err(fault) = self.adopt_orphans(searched).await {
            tracing::warn!(
                code = fault.code.as_str(),
                detail = fault.detail,
                "adopting orphaned writes failed; will retry"
            );
        }
    }

    /// Adopts writes that a dead process was sending and returns their number.
    async fn adopt_dead_peers(&self) -> Result<usize, Error> {
        let orphans = self.0.store.orphaned_intents(PAGE_SIZE).await.or_not_applied()?;
        let (mut changes, mut turns): (Vec<Mutation>, Vec<Vec<SubjectLock>>) = (Vec::new(), Vec::new());
        for intent in orphans {
            // The task that holds the lock handles the same intent.
            let Some(taken) = self.try_lock_subjects(&intent).await? else { continue };
            turns.push(taken);
            let now = self.0.store.intent(intent.write.record_id()).await.or_not_applied()?;
            let Some(intent) = now.filter(|now| now.under_way && now.started == intent.started) else { continue };
            changes.extend(self.adoption_mutations(intent).await?);
        }
        if changes.is_empty() {
            return Ok(0);
        }
        self.0.store.commit(changes).await.or_not_applied()?;
        Ok(turns.len())
    }

    /// Builds the mutations that make a write unknown whose process ended while it was in flight. Its grace period
    /// starts now, because it is not known when the attempt ended.
    pub(in crate::service) async fn adoption_mutations(&self, mut intent: Intent) -> Result<Vec<Mutation>, Error> {
        const REASON: &str = "The process handling it ended before it recorded an outcome.";
        let now = self.now();
        intent.lingering = true;
        self.0.grace_periods.begin(&intent);
        let connection = self.connection_of(&intent.connection).ok();
        let why = Error::unknown(Code::VendorTimeout, REASON).with_resource(resource_path(&intent.write));
        let why = connection.as_ref().map_or_else(|| why.clone(), |connection| connection.tag_connection(why.clone()));
        let mut changes = self.unknown_record_mutations(&intent, why).await?;
        intent.reason = Some(REASON.to_owned());
        // If the connection is no longer configured, only a person can find out the outcome.
        let repeat = connection.as_ref().map_or(RetrySafety::Unsafe, |connection| connection.retry_safety(&intent));
        schedule_next_attempt(
            &mut intent,
            repeat,
            connection.as_ref().map_or(now, |connection| connection.reconcile_from(now)),
            now,
        );
        // Wait for the grace period only, without back-off: no attempt has failed.
        intent.due = intent.due.map(|_| intent.settle_from);
        if repeat == RetrySafety::Unsafe {
            let elsewhere = connection.as_ref().is_some_and(|connection| connection.is_other_destination(&intent));
            let detail = if elsewhere {
                MOVED_CONNECTION_REASON
            } else {
                "The process handling it ended, and resending it could apply it twice. Settle it manually."
            };
            intent.reason = Some(detail.to_owned());
            let fault = Error::unknown(Code::VendorTimeout, detail).with_resource(resource_path(&intent.write));
            let fault = connection.map_or_else(|| fault.clone(), |connection| connection.tag_connection(fault.clone()));
            changes.extend(fail_origin(intent.origin.clone(), intent.write.record_id(), &fault));
        }
        changes.push(Mutation::Intent(intent));
        Ok(changes)
    }

    /// Builds the mutation that marks the record of such a write as unknown.
    async fn unknown_record_mutations(&self, intent: &Intent, why: Error) -> Result<Vec<Mutation>, Error> {
        let (outcome, problem) = (Outcome::Unknown, Some(Box::new(why)));
        let record = intent.write.record_id();
        if let Ok(id) = CandidateId::parse(record) {
            let candidate = self.0.store.candidate(&intent.tenant, &id).await.or_not_applied()?;
            let pending = candidate.filter(|candidate| candidate.state == CandidateState::Pending);
            let unknown = |candidate| Candidate { state: CandidateState::Unknown, outcome, problem, ..candidate };
            return Ok(pending.map(unknown).map(Mutation::Candidate).into_iter().collect());
        }
        let Ok(id) = AssignmentId::parse(record) else { return Ok(Vec::new()) };
        let assignment = self.0.store.assignment(&intent.tenant, &id).await.or_not_applied()?;
        let pending = assignment.filter(|assignment| assignment.state == AssignmentState::Pending);
        let unknown = |assignment| Assignment { state: AssignmentState::Unknown, outcome, problem, ..assignment };
        Ok(pending.map(unknown).map(Mutation::Assignment).into_iter().collect())
    }

    async fn purge_expired(&self) {
        let now = self.now();
        self.0.grace_periods.remove_expired();
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
    }

    /// Counts open writes by connection, including removed ones. Keeps reporting connections that were reported before;
    /// a gauge would otherwise keep its last value for ever.
    async fn count_unsettled(&self, told: &mut BTreeSet<String>) {
        if let Ok(ItemCounts { waiting, claimed }) = self.0.store.count_open_items().await {
            metrics::operation_rows("waiting", waiting);
            metrics::operation_rows("claimed", claimed);
        }
        let Ok(unsettled) = self.0.store.count_unsettled_intents().await else { return };
        told.extend(self.configured().connections.keys().cloned());
        told.extend(unsettled.iter().map(|open| open.connection.clone()));
        for name in &*told {
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
