//! Reconciles the due writes of a connection, with as many calls in flight as its bulk limits allow. Registrations that
//! are safe to resend share vendor calls as they did at first, so an interrupted bulk is reconciled as fast as it was
//! sent; any other write has its own call.

use futures_util::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;

use crate::domain::candidate::Candidate;
use crate::domain::capability::RetrySafety;
use crate::domain::error::Error;
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, Write};
use crate::domain::vendor::{BatchGroup, CallContext, CallPurpose, Priority};
use crate::service::batching;
use crate::service::batching::BatchLimits;
use crate::service::bulk::batch_sender::{is_batch_rejection, is_transient};
use crate::service::connections::Connection;
use crate::service::fair_semaphore::QueueKey;
use crate::service::write::executor::{MAX_BACKOFF, candidate_path, expedite_reconciliation, resource_path};
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::keep_unknown_unless_proved;
use crate::service::{Gateway, StoreResultExt as _};
use crate::store::Mutation;
use crate::telemetry::spans;

/// Open writes read per page: enough for two of the largest batches.
const PAGE_SIZE: usize = 1_000;
/// Maximum number of batches prepared concurrently.
const MAX_PREPARED_BATCHES: usize = 256;

/// Registration to resend, with its record.
struct PendingWrite {
    intent: Intent,
    candidate: Candidate,
    // Held until the outcome is committed.
    turn: SubjectLock,
}

impl Gateway {
    /// Reconciles the due writes of a connection.
    pub(in crate::service) async fn reconcile_due(&self, name: &str) {
        loop {
            if self.is_stopping() || !self.0.lease.holds() {
                return;
            }
            let Ok(connection) = self.connection_of(name) else { return };
            let now = self.now();
            let farthest = MAX_BACKOFF.saturating_add(connection.settle_grace());
            let farthest = SignedDuration::try_from(farthest).unwrap_or(SignedDuration::MAX);
            let horizon = now.saturating_add(farthest).unwrap_or(Timestamp::MAX);
            let due = match self.0.store.due_intents(name, now, horizon, PAGE_SIZE).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, connection = name, "reading due writes failed; will retry");
                    return;
                }
            };
            let found = due.len();
            let mut settling = stream::iter(into_batches(&connection, due))
                .map(|intents| async move {
                    let Some(first) = intents.first() else { return 0 };
                    let span = spans::settling(first.write.record_id(), &first.connection);
                    let record = first.write.record_id().to_owned();
                    let settled = async {
                        match intents.as_slice() {
                            [intent] => self.reconcile_in_background(intent).await.map(usize::from),
                            _ => self.reconcile_batch(intents).await,
                        }
                    };
                    settled.instrument(span).await.unwrap_or_else(|fault| {
                        let code = fault.code.as_str();
                        tracing::debug!(record, connection = name, code, "a write stays unknown");
                        0
                    })
                })
                .buffer_unordered(MAX_PREPARED_BATCHES);
            let mut settled = 0;
            while let Some(done) = settling.next().await {
                settled += done;
            }
            // Other tasks or instances hold the locks of the writes that are still due.
            if found < PAGE_SIZE || settled == 0 {
                return;
            }
        }
    }

    /// Reconciles one write, unless another task holds its lock. Returns whether this task handled it.
    async fn reconcile_in_background(&self, intent: &Intent) -> Result<bool, Error> {
        let (connection, _place) = self.acquire_bulk(&intent.connection, &queue_key(intent)).await?;
        let connection = connection.as_ref();
        // Count as work in progress, so that the process does not exit in the middle of it.
        let _under_way = self.0.tasks.token();
        if self.is_stopping() {
            return Ok(false);
        }
        let record = intent.write.record_id();
        let call = self.reconcile_context(intent);
        let Some(_turns) = self.try_lock_subjects(intent).await? else { return Ok(false) };
        if matches!(intent.write, Write::Enrol(_)) {
            return self.reconcile_enrolment(connection, record, &call).await.map(|_| true);
        }
        // Read under the lock: it may have been reconciled since.
        if let Ok(id) = CandidateId::parse(record) {
            if let Some(candidate) = self.0.store.candidate(&intent.tenant, &id).await.or_not_applied()? {
                self.reconcile_candidate(connection, candidate, &call).await?;
                return Ok(true);
            }
        } else if let Ok(id) = AssignmentId::parse(record)
            && let Some(assignment) = self.0.store.assignment(&intent.tenant, &id).await.or_not_applied()?
        {
            self.reconcile_assignment(connection, assignment, &call).await?;
            return Ok(true);
        }
        // The record was erased, so there is no outcome to report.
        self.0.store.commit(vec![Mutation::RemoveIntent(record.to_owned())]).await.or_not_applied()?;
        Ok(true)
    }

    /// Reconciles registrations in one call, except those whose locks other tasks hold. Returns how many this task
    /// handled.
    async fn reconcile_batch(&self, intents: Vec<Intent>) -> Result<usize, Error> {
        let Some(first) = intents.first() else { return Ok(0) };
        let (name, key, call) = (first.connection.clone(), queue_key(first), self.reconcile_context(first));
        let (connection, _place) = self.acquire_bulk(&name, &key).await?;
        // Count as work in progress, so that the process does not exit in the middle of it.
        let _under_way = self.0.tasks.token();
        if self.is_stopping() {
            return Ok(0);
        }
        let mut open = Vec::with_capacity(intents.len());
        for intent in intents {
            if let Some(turn) = self.0.subject_locks.try_lock(&intent.subject).await.or_not_applied()?
                && let Some(open_still) = self.reread_open(&connection, &intent, turn).await?
            {
                open.push(open_still);
            }
        }
        if open.is_empty() {
            return Ok(0);
        }
        tracing::info!(connection = name, rows = open.len(), "reconciling registrations in one call");
        let settled = open.len();
        // However often the call is split, it counts as one attempt: a rejected call had no effect.
        for open in &mut open {
            expedite_reconciliation(&mut open.intent, self.now());
            open.intent.attempts += 1;
        }
        let mut parts = vec![open];
        let mut end = Ok(());
        while let Some(mut part) = parts.pop() {
            // A write whose attempt cannot be committed is not sent and stays unknown.
            let answers = match self.begin_attempts(&connection, &mut part).await {
                Ok(()) => {
                    let writes: Vec<Write> = part.iter().map(|open| open.intent.write.clone()).collect();
                    self.send(&connection, &writes, &call).await
                }
                Err(fault) => part.iter().map(|_| Err(fault.clone())).collect(),
            };
            if part.len() > 1
                && answers.iter().all(is_batch_rejection)
                && !answers.iter().any(|answer| answer.as_ref().is_err_and(is_transient))
            {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            }
            let (mut changes, mut turns) = (Vec::new(), Vec::with_capacity(part.len()));
            for (PendingWrite { intent, candidate, turn }, answer) in part.into_iter().zip(answers) {
                turns.push(turn);
                let answer = answer.map_err(|fault| keep_unknown_unless_proved(fault, &candidate_path(&candidate.id)));
                changes.extend(self.candidate_conclusion(&connection, candidate, intent, answer).0);
            }
            end = end.and(self.commit_outcome(changes, &name).await);
            drop(turns);
        }
        end.map(|()| settled)
    }

    /// Reads the write and its record again under the lock; `None` if the write may not be resent in a shared call.
    async fn reread_open(
        &self,
        connection: &Connection,
        intent: &Intent,
        turn: SubjectLock,
    ) -> Result<Option<PendingWrite>, Error> {
        let record = intent.write.record_id();
        let Ok(id) = CandidateId::parse(record) else { return Ok(None) };
        let Some(intent) = self.0.store.intent(record).await.or_not_applied()? else { return Ok(None) };
        let early = intent.under_way || self.0.grace_periods.remaining(&intent, connection.settle_grace()).is_some();
        if early || matches!(batch_group(connection, &intent), BatchGroup::Single) {
            return Ok(None);
        }
        let candidate = self.0.store.candidate(&intent.tenant, &id).await.or_not_applied()?;
        let open = candidate.filter(|candidate| !candidate.state.is_terminal());
        Ok(open.map(|candidate| PendingWrite { intent, candidate, turn }))
    }

    /// Commits one more attempt of each write.
    async fn begin_attempts(&self, connection: &Connection, open: &mut [PendingWrite]) -> Result<(), Error> {
        let now = self.now();
        for PendingWrite { intent, .. } in open.iter_mut() {
            intent.started = now;
            intent.under_way = true;
            intent.lingering = true;
            intent.settle_from = connection.reconcile_from(now);
        }
        let changes = open.iter().map(|open| Mutation::Intent(open.intent.clone())).collect();
        self.0.store.commit(changes).await.or_not_applied()
    }

    fn reconcile_context(&self, intent: &Intent) -> CallContext {
        let exchange = self.background_exchange(format!("settle-{}", intent.write.record_id()), None);
        let cause = Cause::Settling { resource: resource_path(&intent.write) };
        self.keep_exchange(&exchange, ExchangeOwner { tenant: intent.tenant.clone(), cause });
        CallContext { purpose: CallPurpose::Reconcile, priority: Priority::Bulk, exchange }
    }
}

/// Returns the queue in which reconciliation waits for in-flight permits.
fn queue_key(intent: &Intent) -> QueueKey {
    QueueKey { tenant: intent.tenant.clone(), operation: "settling".to_owned() }
}

/// Groups the due writes into batches. Tenants never share a call: each tenant sees its own calls.
fn into_batches(connection: &Connection, due: Vec<Intent>) -> Vec<Vec<Intent>> {
    let packings: Vec<BatchGroup> = due.iter().map(|intent| batch_group(connection, intent)).collect();
    let mut due: Vec<Option<Intent>> = due.into_iter().map(Some).collect();
    batching::into_batches(
        &packings,
        &BatchLimits { rows: |most| connection.batch(most), bytes: connection.call_bytes() },
    )
    .into_iter()
    .map(|positions| positions.into_iter().filter_map(|position| due[position].take()).collect())
    .collect()
}

fn batch_group(connection: &Connection, intent: &Intent) -> BatchGroup {
    match &intent.write {
        Write::Register(registration) if connection.retry_safety(intent) == RetrySafety::Idempotent => {
            match connection.vendor().reconcile_batch(registration) {
                BatchGroup::Keyed { key, at_most, bytes } => {
                    BatchGroup::Keyed { key: format!("{}\n{key}", intent.tenant), at_most, bytes }
                }
                BatchGroup::Single => BatchGroup::Single,
            }
        }
        _ => BatchGroup::Single,
    }
}
