//! The audit record: what is written to it by the gateway itself, and that nothing is lost on the way unnoticed.
//!
//! A request's line is written by the public face, once it is known what will be answered. Here are the lines about what
//! ends later: a write whose caller did not wait for its end, an operation, and a write whose outcome was not known. The
//! last two stand in the transaction that writes the outcome down.

pub(super) mod pending_entry;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::domain::audit::{AuditEvent, ChainedEntry, Entry, RowCounts};
use crate::domain::error::{Code, Error};
use crate::domain::intent::Intent;
use crate::domain::operation::{Operation, OperationKind, Progress};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::RowResult;
use crate::service::write::executor::{VendorReply, resource_path};
use crate::service::write::handle::{WriteReply, join_result};
use crate::service::write::idempotency::Replayable;
use crate::service::{Gateway, RequestContext, StoreResultExt as _};
use crate::store::{Mutation, StoreError};
use crate::telemetry::metrics;

/// Most lines in one transaction.
const AT_ONCE: usize = 256;

/// Most lines that wait for the store to be back; there may be no end to the requests that are refused meanwhile.
const LATE: usize = 10_000;

/// Lines on their way.
#[derive(Default)]
pub(super) struct AuditWriter {
    waiting: Mutex<VecDeque<QueuedEntry>>,
    /// Held by whoever writes.
    pen: tokio::sync::Mutex<()>,
    /// What could not be written while the store was away.
    late: Mutex<VecDeque<Entry>>,
}

struct QueuedEntry {
    entry: Entry,
    written: oneshot::Sender<()>,
}

/// What a line says of a write's end.
pub(super) struct AuditFacts {
    pub(super) object: Option<String>,
    pub(super) connection: Option<String>,
    pub(super) outcome: Outcome,
}

impl Gateway {
    /// Writes a line, whether or not anybody waits for that. What cannot be written now is written when the store is back.
    pub fn record(&self, entry: Entry) -> impl Future<Output = ()> + use<> {
        let gateway = self.clone();
        let writing = self.0.tasks.spawn(async move { gateway.written(entry).await });
        async move {
            if let Err(error) = writing.await {
                tracing::error!(panicked = error.is_panic(), "a line of the audit record was not written");
                metrics::audit_lost(1);
            }
        }
    }

    /// The caller's lines after this one, in order.
    ///
    /// # Errors
    /// `store_unavailable`, also where a line was altered.
    pub async fn audit(&self, caller: &RequestContext, after: u64, limit: usize) -> Result<Vec<ChainedEntry>, Error> {
        let _permit = self.read_permit(caller).await;
        self.0.store.audit(&caller.tenant, after, limit).await.or_not_applied()
    }

    /// One transaction after the other, each with all lines that wait by then. Where several processes share the store each
    /// transaction holds the end of the tenant's chain while it is committed: one for each line would make a queue of them.
    async fn written(&self, entry: Entry) {
        if !self.0.store.shared() {
            // Its writer commits together whatever waits together.
            return self.append(vec![entry]).await;
        }
        let (written, mut done) = oneshot::channel();
        lock(&self.0.recorder.waiting).push_back(QueuedEntry { entry, written });
        while matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            let _pen = self.0.recorder.pen.lock().await;
            if !matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                return;
            }
            let (entries, writers) = self.0.recorder.next();
            self.append(entries).await;
            // Whoever does not wait any more is not told.
            for writer in writers {
                writer.send(()).unwrap_or_default();
            }
        }
    }

    async fn append(&self, entries: Vec<Entry>) {
        let lines = entries.iter().cloned().map(Mutation::Audit).collect();
        match self.0.store.commit(lines).await {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(%error, lines = entries.len(), "lines of the audit record wait for the store");
                self.queue_entry(entries);
            }
            Err(error) => lost(entries.len(), &error.to_string()),
        }
    }

    fn queue_entry(&self, entries: Vec<Entry>) {
        let mut late = lock(&self.0.recorder.late);
        let kept = entries.len().min(LATE.saturating_sub(late.len()));
        let left_out = entries.len() - kept;
        late.extend(entries.into_iter().take(kept));
        drop(late);
        if left_out > 0 {
            lost(left_out, "the store was away for too long");
        }
    }

    /// Writes what could not be written when it happened, as far as the store takes it.
    pub(super) async fn flush_audit_backlog(&self) {
        loop {
            let entries: Vec<Entry> = {
                let mut late = lock(&self.0.recorder.late);
                let count = late.len().min(AT_ONCE);
                late.drain(..count).collect()
            };
            if entries.is_empty() {
                return;
            }
            let lines = entries.iter().cloned().map(Mutation::Audit).collect();
            if let Err(error) = self.0.store.commit(lines).await {
                match error {
                    StoreError::Unavailable(_) => self.queue_entry(entries),
                    error => lost(entries.len(), &error.to_string()),
                }
                return;
            }
        }
    }

    /// To be called when the process ends: what still waits for the store is lost with it.
    pub(super) fn discard_audit_backlog(&self) {
        let late = std::mem::take(&mut *lock(&self.0.recorder.late));
        if !late.is_empty() {
            lost(late.len(), "the process ends while the store is away");
        }
    }

    /// Records the end of a write that nobody waits for any more.
    pub(super) fn record_outcome<T: Replayable>(
        self,
        caller: &RequestContext,
        action: &'static str,
        work: JoinHandle<Result<WriteReply<T>, Error>>,
    ) {
        let entry = Entry { action, event: AuditEvent::Ended, ..self.entry_of(caller) };
        let line = caller.line.clone();
        let tasks = self.0.tasks.clone();
        tasks.spawn(async move {
            let end = join_result(work.await);
            if line.is_some_and(|line| line.is_taken()) {
                return;
            }
            let told = match &end {
                Ok(reply) => T::audit_facts(&reply.written),
                Err(fault) => Some(AuditFacts {
                    object: fault.resource.clone(),
                    connection: fault.connection.as_ref().map(|name| name.connection.clone()),
                    outcome: fault.outcome,
                }),
            };
            // What goes on as an operation has its line when that ends.
            let Some(AuditFacts { object, connection, outcome }) = told else { return };
            let code = end.as_ref().err().map(|fault| fault.code.as_str());
            let replayed = end.as_ref().is_ok_and(|reply| reply.replayed);
            let time = self.0.environment.now();
            let entry = Entry { time, object, connection, code, outcome: Some(outcome), replayed, ..entry };
            self.written(entry).await;
        });
    }

    /// The line about the answer to a write that was done now, to stand in the transaction of its outcome. Where several
    /// processes share the store it has a transaction of its own ([`Gateway::written`]).
    pub(super) fn response_entry(&self, caller: &RequestContext, told: AuditFacts) -> Option<Entry> {
        let line = caller.line.as_ref().filter(|_| !self.0.store.shared())?.take_for_commit()?;
        let AuditFacts { object, connection, outcome } = told;
        Some(Entry { time: self.0.environment.now(), object, connection, outcome: Some(outcome), ..line })
    }

    fn entry_of(&self, caller: &RequestContext) -> Entry {
        Entry::about(&caller.exchange, &caller.tenant, &caller.client, self.0.environment.now())
    }

    /// The line about an operation that has ended.
    pub(super) fn operation_entry(
        &self,
        caller: &RequestContext,
        operation: &Operation,
        progress: &Progress,
    ) -> Mutation {
        let Progress { total, applied, not_applied, unknown, skipped, pending: _ } = *progress;
        Mutation::Audit(Entry {
            event: AuditEvent::Ended,
            action: match operation.kind {
                OperationKind::Candidates => "candidates.bulk",
                OperationKind::Assignments => "assignments.bulk",
                OperationKind::ProgramEmployees => "programs.employees",
            },
            object: Some(format!("/operations/{}", operation.id)),
            connection: Some(operation.connection.clone()),
            counts: Some(RowCounts { applied, not_applied, skipped, total, unknown }),
            ..self.entry_of(caller)
        })
    }

    /// The line about a write that was unknown and, by this row, is not any more.
    pub(super) fn reconciled_entry(&self, intent: &Intent, row: &RowResult<VendorReply>) -> Option<Mutation> {
        // The reason of an attempt that ended, or whose process did, without an outcome.
        intent.reason.as_ref()?;
        let (outcome, code) = match row {
            Ok(_) => (Outcome::Applied, None),
            Err(fault) if fault.outcome == Outcome::Unknown => return None,
            Err(fault) => (fault.outcome, Some(fault.code.as_str())),
        };
        Some(Mutation::Audit(Entry {
            time: self.0.environment.now(),
            tenant: intent.tenant.clone(),
            client: None,
            event: AuditEvent::Settled,
            action: intent.write.kind().as_str(),
            object: Some(resource_path(&intent.write)),
            connection: Some(intent.connection.clone()),
            status: None,
            outcome: Some(outcome),
            code,
            replayed: false,
            counts: None,
            request_id: None,
            exchange: None,
        }))
    }
}

impl AuditWriter {
    fn next(&self) -> (Vec<Entry>, Vec<oneshot::Sender<()>>) {
        let mut waiting = lock(&self.waiting);
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).map(|QueuedEntry { entry, written }| (entry, written)).unzip()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(lines: usize, why: &str) {
    tracing::error!(lines, why, code = Code::StoreUnavailable.as_str(), "lines of the audit record are lost");
    metrics::audit_lost(lines);
}
