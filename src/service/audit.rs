//! Audit entries written by the gateway itself. No entry is lost without an error in the log and a count in the
//! metrics.
//!
//! The HTTP layer writes the entry of a request once its response is known. This module writes the entries of what ends
//! later: a write whose caller did not wait, an operation, and a write that was reconciled. The last two are committed
//! in the same transaction as the outcome.

pub(super) mod entry;
pub(super) mod pending_entry;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::domain::audit::{AuditEvent, ChainedEntry, Entry, RowCounts};
use crate::domain::error::{Code, Error};
use crate::domain::operation::{Operation, OperationKind, Progress};
use crate::service::audit::entry::AuditFacts;
use crate::service::audit::pending_entry::PendingAuditEntry;
use crate::service::errors::StoreResultExt as _;
use crate::service::mutex::lock_unpoisoned;
use crate::service::write::handle::{WriteReply, join_result};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, RequestContext};
use crate::store::{Mutation, StoreError};
use crate::telemetry::metrics;

/// Maximum number of entries per transaction.
const MAX_BATCH: usize = 256;

/// Maximum number of entries queued while the store is unavailable; the number of requests rejected meanwhile is
/// unbounded.
const MAX_BACKLOG: usize = 10_000;

/// Maximum wait for the store to tell whether entries were written, as long as a failure may
/// take it.
const MAX_APPEND_WAIT: Duration = Duration::from_secs(30);

/// Writer of audit entries, with its queues.
#[derive(Default)]
pub(super) struct AuditWriter {
    waiting: Mutex<VecDeque<QueuedEntry>>,
    /// Lock of the task that writes.
    write_lock: tokio::sync::Mutex<()>,
    /// Backlog of entries that could not be written while the store was unavailable.
    late: Mutex<VecDeque<Entry>>,
    /// Number of entries of which the store has not yet confirmed whether they were written.
    pub(super) undecided: AtomicUsize,
}

struct QueuedEntry {
    entry: Entry,
    written: oneshot::Sender<()>,
}

impl Gateway {
    /// Writes an entry, even if the returned future is dropped. If the store is unavailable, queues it until the store
    /// is back.
    pub fn record(&self, entry: Entry) -> impl Future<Output = ()> + use<> {
        let gateway = self.clone();
        let writing = self.0.tasks.spawn(async move { gateway.written(entry).await });
        async move {
            if let Err(error) = writing.await {
                tracing::error!(panicked = error.is_panic(), "an audit entry was not written");
                metrics::audit_lost(1);
            }
        }
    }

    /// Returns the audit entries of the caller's tenant after `after`, in order.
    ///
    /// # Errors
    /// `store_unavailable`, also if an entry was tampered with.
    pub async fn audit(&self, caller: &RequestContext, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, Error> {
        let _permit = self.read_permit(caller).await;
        self.0.store.audit(&caller.tenant, after, limit).await.or_not_applied()
    }

    /// Writes an entry, batched with all others waiting by then if several processes share the store: each transaction
    /// locks the end of the tenant's chain until it is committed, so one per entry would form a queue.
    async fn written(&self, entry: Entry) {
        if !self.0.store.is_shared() {
            // The store's own writer batches commits.
            self.append(vec![entry]).await;
            return;
        }
        let (written, mut done) = oneshot::channel();
        lock_unpoisoned(&self.0.audit_writer.waiting).push_back(QueuedEntry { entry, written });
        while matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            let _pen = self.0.audit_writer.write_lock.lock().await;
            if !matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                return;
            }
            let (entries, writers) = self.0.audit_writer.next();
            self.append(entries).await;
            // The receiver may have been dropped.
            for writer in writers {
                writer.send(()).unwrap_or_default();
            }
        }
    }

    /// Appends entries. If the store needs long to tell whether they were written, a task of its own waits for that, and
    /// other entries and their responses do not. Returns whether the store was available.
    async fn append(&self, entries: Vec<Entry>) -> bool {
        let (gateway, lines) = (self.clone(), entries.iter().cloned().map(Mutation::Audit).collect());
        let mut committing = Box::pin(async move { gateway.0.store.commit(lines).await });
        if let Ok(done) = timeout(MAX_APPEND_WAIT, &mut committing).await {
            return self.conclude_append(entries, done);
        }
        let (gateway, count) = (self.clone(), entries.len());
        tracing::warn!(lines = count, "waiting in the background until it is known whether audit entries were written");
        self.0.audit_writer.undecided.fetch_add(count, Ordering::Relaxed);
        tokio::spawn(async move {
            let done = committing.await;
            gateway.conclude_append(entries, done);
            gateway.0.audit_writer.undecided.fetch_sub(count, Ordering::Relaxed);
        });
        false
    }

    /// Queues entries that were not written, and counts those as lost of which that is unknown. Returns whether the store
    /// was available.
    fn conclude_append(&self, entries: Vec<Entry>, done: Result<(), StoreError>) -> bool {
        match done {
            Ok(()) => return true,
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(%error, lines = entries.len(), "audit entries queued until the store is available");
                self.queue_entry(entries);
            }
            Err(error) => lost(entries.len(), &error.to_string()),
        }
        false
    }

    fn queue_entry(&self, entries: Vec<Entry>) {
        let mut late = lock_unpoisoned(&self.0.audit_writer.late);
        let kept = entries.len().min(MAX_BACKLOG.saturating_sub(late.len()));
        let left_out = entries.len() - kept;
        late.extend(entries.into_iter().take(kept));
        drop(late);
        if left_out > 0 {
            lost(left_out, "the store was unavailable for too long");
        }
    }

    /// Writes the backlog, as far as the store accepts it.
    pub(super) async fn flush_audit_backlog(&self) {
        loop {
            let entries: Vec<Entry> = {
                let mut late = lock_unpoisoned(&self.0.audit_writer.late);
                let count = late.len().min(MAX_BATCH);
                late.drain(..count).collect()
            };
            if entries.is_empty() {
                return;
            }
            if !self.append(entries).await {
                return;
            }
        }
    }

    /// Discards the backlog with an error in the log. Call when the process ends.
    pub(super) fn discard_audit_backlog(&self) {
        let late = std::mem::take(&mut *lock_unpoisoned(&self.0.audit_writer.late));
        if !late.is_empty() {
            lost(late.len(), "the process ends while the store is unavailable");
        }
        let undecided = self.0.audit_writer.undecided.swap(0, Ordering::Relaxed);
        if undecided > 0 {
            lost(undecided, "the process ends while it is unknown whether they were written");
        }
    }

    /// Records the end of a write whose caller no longer waits.
    pub(super) fn record_outcome<T: Replayable>(
        self,
        about: Entry,
        pending: Option<PendingAuditEntry>,
        work: JoinHandle<Result<WriteReply<T>, Error>>,
    ) {
        let entry = Entry { event: AuditEvent::Ended, ..about };
        let tasks = self.0.tasks.clone();
        tasks.spawn(async move {
            let end = join_result(work.await);
            if pending.is_some_and(|pending| pending.is_committed()) {
                return;
            }
            let facts = match &end {
                Ok(reply) => T::audit_facts(&reply.written),
                Err(error) => Some(AuditFacts {
                    object: error.resource.clone(),
                    connection: error.connection.as_ref().map(|name| name.connection.clone()),
                    outcome: error.outcome,
                }),
            };
            // A write that continues as an operation gets its entry when the operation ends.
            let Some(AuditFacts { object, connection, outcome }) = facts else { return };
            let code = end.as_ref().err().map(|error| error.code.as_str());
            let replayed = end.as_ref().is_ok_and(|reply| reply.replayed);
            let time = self.0.system.now();
            let entry = Entry { time, object, connection, code, outcome: Some(outcome), replayed, ..entry };
            self.written(entry).await;
        });
    }

    fn entry_of(&self, caller: &RequestContext) -> Entry {
        Entry::about(&caller.exchange, &caller.tenant, &caller.client, self.0.system.now())
    }

    /// Builds the mutations that commit the end of an operation: the operation, its audit entry and its event.
    pub(super) fn operation_end(
        &self,
        caller: &RequestContext,
        operation: Operation,
        progress: &Progress,
    ) -> Vec<Mutation> {
        let entry = self.operation_entry(caller, &operation, progress);
        let event = self.emitter().operation_completed(&operation, progress, operation_action(operation.kind));
        vec![Mutation::Operation(operation), entry, Mutation::Event(Box::new(event))]
    }

    /// Builds the entry of an operation that has ended.
    fn operation_entry(&self, caller: &RequestContext, operation: &Operation, progress: &Progress) -> Mutation {
        let Progress { total, applied, not_applied, unknown, skipped, pending: _, settling: _ } = *progress;
        Mutation::Audit(Entry {
            event: AuditEvent::Ended,
            action: operation_action(operation.kind),
            object: Some(format!("/operations/{}", operation.id)),
            // A replay is at no connection.
            connection: Some(operation.connection.clone()).filter(|name| !name.is_empty()),
            counts: Some(RowCounts { applied, not_applied, skipped, total, unknown }),
            ..self.entry_of(caller)
        })
    }
}

impl AuditWriter {
    fn next(&self) -> (Vec<Entry>, Vec<oneshot::Sender<()>>) {
        let mut waiting = lock_unpoisoned(&self.waiting);
        let count = waiting.len().min(MAX_BATCH);
        waiting.drain(..count).map(|QueuedEntry { entry, written }| (entry, written)).unzip()
    }
}

/// Returns the action of an operation.
const fn operation_action(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Candidates => "candidates.bulk",
        OperationKind::Assignments => "assignments.bulk",
        OperationKind::ProgramEmployees => "programs.employees",
        OperationKind::Reread => "reports.reread",
        OperationKind::Replay => "webhooks.replay",
    }
}

fn lost(lines: usize, why: &str) {
    tracing::error!(lines, why, code = Code::StoreUnavailable.as_str(), "audit entries lost");
    metrics::audit_lost(lines);
}
