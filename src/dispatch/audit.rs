//! The audit record: what is written to it by the gateway itself, and that nothing is lost on the way unnoticed.
//!
//! A request's line is written by the public face, once it is known what will be answered. Here are the lines about what
//! ends later: a write whose caller did not wait for its end, an operation, and a write whose outcome was not known. The
//! last two stand in the transaction that writes the outcome down.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::journal::{Done, resource_of};
use super::keys::Kept;
use super::tickets::{Reply, ended};
use super::{BeforeSending as _, Caller, Gateway};
use crate::domain::audit::{Counts, Entry, Event, Line};
use crate::domain::journal::Intent;
use crate::domain::operation::{BulkOperation, OperationKind, Progress};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault};
use crate::domain::vendor::Row;
use crate::meter;
use crate::store::{Change, StoreError};

/// Most lines in one transaction.
const AT_ONCE: usize = 256;

/// Most lines that wait for the store to be back; there may be no end to the requests that are refused meanwhile.
const LATE: usize = 10_000;

/// Lines on their way.
#[derive(Default)]
pub(super) struct Recorder {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Held by whoever writes.
    pen: tokio::sync::Mutex<()>,
    /// What could not be written while the store was away.
    late: Mutex<VecDeque<Entry>>,
}

struct Waiting {
    entry: Entry,
    written: oneshot::Sender<()>,
}

/// What a line says of a write's end.
pub(super) struct Told {
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
                meter::audit_lost(1);
            }
        }
    }

    /// The caller's lines after this one, in order.
    ///
    /// # Errors
    /// `store_unavailable`, also where a line was altered.
    pub async fn audit(&self, caller: &Caller, after: u64, limit: usize) -> Result<Vec<Line>, Fault> {
        let _permit = self.read_permit(caller).await;
        self.0.store.audit(&caller.tenant, after, limit).await.before_sending()
    }

    /// One transaction after the other, each with all lines that wait by then. Where several processes share the store each
    /// transaction holds the end of the tenant's chain while it is committed: one for each line would make a queue of them.
    async fn written(&self, entry: Entry) {
        if !self.0.store.shared() {
            // Its writer commits together whatever waits together.
            return self.append(vec![entry]).await;
        }
        let (written, mut done) = oneshot::channel();
        lock(&self.0.recorder.waiting).push_back(Waiting { entry, written });
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
        let lines = entries.iter().cloned().map(Change::Audit).collect();
        match self.0.store.commit(lines).await {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(%error, lines = entries.len(), "lines of the audit record wait for the store");
                self.keep_late(entries);
            }
            Err(error) => lost(entries.len(), &error.to_string()),
        }
    }

    fn keep_late(&self, entries: Vec<Entry>) {
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
    pub(super) async fn write_late_lines(&self) {
        loop {
            let entries: Vec<Entry> = {
                let mut late = lock(&self.0.recorder.late);
                let count = late.len().min(AT_ONCE);
                late.drain(..count).collect()
            };
            if entries.is_empty() {
                return;
            }
            let lines = entries.iter().cloned().map(Change::Audit).collect();
            if let Err(error) = self.0.store.commit(lines).await {
                match error {
                    StoreError::Unavailable(_) => self.keep_late(entries),
                    error => lost(entries.len(), &error.to_string()),
                }
                return;
            }
        }
    }

    /// To be called when the process ends: what still waits for the store is lost with it.
    pub(super) fn give_late_lines_up(&self) {
        let late = std::mem::take(&mut *lock(&self.0.recorder.late));
        if !late.is_empty() {
            lost(late.len(), "the process ends while the store is away");
        }
    }

    /// Records the end of a write that nobody waits for any more.
    pub(super) fn record_end<T: Kept>(
        self,
        caller: &Caller,
        action: &'static str,
        work: JoinHandle<Result<Reply<T>, Fault>>,
    ) {
        let entry = Entry { action, event: Event::Ended, ..self.entry_of(caller) };
        let line = caller.line.clone();
        let tasks = self.0.tasks.clone();
        tasks.spawn(async move {
            let end = ended(work.await);
            if line.is_some_and(|line| line.is_told()) {
                return;
            }
            let told = match &end {
                Ok(reply) => T::told(&reply.written),
                Err(fault) => Some(Told {
                    object: fault.resource.clone(),
                    connection: fault.connection.as_ref().map(|name| name.connection.clone()),
                    outcome: fault.outcome,
                }),
            };
            // What goes on as an operation has its line when that ends.
            let Some(Told { object, connection, outcome }) = told else { return };
            let code = end.as_ref().err().map(|fault| fault.code.as_str());
            let replayed = end.as_ref().is_ok_and(|reply| reply.replayed);
            let time = self.0.environment.now();
            let entry = Entry { time, object, connection, code, outcome: Some(outcome), replayed, ..entry };
            self.written(entry).await;
        });
    }

    /// The line about the answer to a write that was done now, to stand in the transaction of its outcome. Where several
    /// processes share the store it has a transaction of its own ([`Gateway::written`]).
    pub(super) fn line_of_answer(&self, caller: &Caller, told: Told) -> Option<Entry> {
        let line = caller.line.as_ref().filter(|_| !self.0.store.shared())?.take_for_outcome()?;
        let Told { object, connection, outcome } = told;
        Some(Entry { time: self.0.environment.now(), object, connection, outcome: Some(outcome), ..line })
    }

    fn entry_of(&self, caller: &Caller) -> Entry {
        Entry::about(&caller.exchange, &caller.tenant, &caller.client, self.0.environment.now())
    }

    /// The line about an operation that has ended.
    pub(super) fn operation_line(&self, caller: &Caller, operation: &BulkOperation, progress: &Progress) -> Change {
        let Progress { total, applied, not_applied, unknown, skipped, pending: _ } = *progress;
        Change::Audit(Entry {
            event: Event::Ended,
            action: match operation.kind {
                OperationKind::Candidates => "candidates.bulk",
                OperationKind::Assignments => "assignments.bulk",
                OperationKind::ProgramEmployees => "programs.employees",
            },
            object: Some(format!("/operations/{}", operation.id)),
            connection: Some(operation.connection.clone()),
            counts: Some(Counts { applied, not_applied, skipped, total, unknown }),
            ..self.entry_of(caller)
        })
    }

    /// The line about a write that was unknown and, by this row, is not any more.
    pub(super) fn settled_line(&self, intent: &Intent, row: &Row<Done>) -> Option<Change> {
        // The reason of an attempt that ended, or whose process did, without an outcome.
        intent.reason.as_ref()?;
        let (outcome, code) = match row {
            Ok(_) => (Outcome::Applied, None),
            Err(fault) if fault.outcome == Outcome::Unknown => return None,
            Err(fault) => (fault.outcome, Some(fault.code.as_str())),
        };
        Some(Change::Audit(Entry {
            time: self.0.environment.now(),
            tenant: intent.tenant.clone(),
            client: None,
            event: Event::Settled,
            action: intent.write.operation().as_str(),
            object: Some(resource_of(&intent.write)),
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

impl Recorder {
    fn next(&self) -> (Vec<Entry>, Vec<oneshot::Sender<()>>) {
        let mut waiting = lock(&self.waiting);
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).map(|Waiting { entry, written }| (entry, written)).unzip()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(lines: usize, why: &str) {
    tracing::error!(lines, why, code = Code::StoreUnavailable.as_str(), "lines of the audit record are lost");
    meter::audit_lost(lines);
}
