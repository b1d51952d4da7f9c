//! The executor: the only place that makes a write durable before it is sent, sends it, and commits what became of it.
//!
//! 1. [`Executor::begin`] commits record, identities, intent, idempotency key and bulk row in one transaction. Until it
//!    returns, nothing is sent; from then on only the vendor's own response proves `not_applied`.
//! 2. [`Executor::send`] makes one vendor call for all writes of a batch and returns one result each.
//! 3. [`Executor::conclude`] applies the results to the records ([`Record::conclude`]) and commits records, intents,
//!    keys, rows and audit entries in one transaction. If the store is unavailable, the outcome is queued; meanwhile the
//!    intents stay marked as in flight, so no task sends them again.
//!
//! A single write is a batch of one ([`Executor::execute`]). The caller holds the locks of the writes' subjects from
//! before [`Executor::begin`] until [`Executor::conclude`] has returned.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::domain::error::{Code, Error};
use crate::domain::intent::{Intent, Write};
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::subject::SubjectKey;
use crate::domain::system::System;
use crate::domain::transition::{AppliedWrite, Transition, VendorReply};
use crate::domain::vendor::{CallContext, CallPurpose, RowResult};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::service::RequestContext;
use crate::service::audit::entry::{AuditFacts, reconciled_entry};
use crate::service::cluster::steady_clock::SteadyClock;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, outcome_not_stored_error, skipped_error, with_resource_if_unknown};
use crate::service::metrics::LabelLimiter;
use crate::service::write::conclusion::{complete_origin, fail_origin, transition_mutations};
use crate::service::write::grace::GracePeriods;
use crate::service::write::locks::SubjectLock;
use crate::service::write::pending_outcomes::{AttemptId, PendingOutcomes, UnsentAttempts};
use crate::service::write::vendor_call::call_vendor;
use crate::store::{AcquireKey, BeginResult, Mutation, PreparedRecord, PreparedWrite, Store, StoreError};

/// Begins, sends and concludes writes.
pub(in crate::service) struct Executor {
    store: Arc<dyn Store>,
    system: System,
    pub(super) clock: Arc<SteadyClock>,
    tasks: TaskTracker,
    labels: LabelLimiter,
    pub(in crate::service) grace_periods: GracePeriods,
    pub(in crate::service) pending_outcomes: PendingOutcomes,
    pub(in crate::service) unsent_attempts: UnsentAttempts,
}

/// A write whose intent is committed, so that it may be sent.
pub(in crate::service) struct InFlightWrite {
    pub(in crate::service) record: Record,
    pub(in crate::service) intent: Intent,
    /// Lock of the write's subject, held until the outcome is committed or queued, so that the next holder never finds
    /// the write still in flight; `None` if the caller holds it.
    pub(in crate::service) lock: Option<SubjectLock>,
}

/// How the execution of a single write ended.
pub(in crate::service) enum Execution {
    /// The vendor applied the write.
    Applied {
        /// Record as committed.
        record: Record,
        /// Whether the write created what it was to create.
        created: bool,
        /// Password the gateway generated for the person, if any.
        initial_password: Option<Secret>,
    },
    /// Nothing was written or sent, for this reason.
    NotBegun(BeginResult),
}

impl Execution {
    /// Returns the record of an applied write that nothing but the cancellation of its row could prevent, and whether it
    /// was created.
    pub(in crate::service) fn applied(self) -> Result<(Record, bool), Error> {
        match self {
            Self::Applied { record, created, initial_password: _ } => Ok((record, created)),
            Self::NotBegun(_) => Err(skipped_error()),
        }
    }
}

/// What [`Executor::conclude`] does with the bulk rows of writes that had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum RowFate {
    /// They end.
    End,
    /// They wait again, to be sent or skipped by the next run of their operation.
    Requeue,
}

impl Executor {
    pub(in crate::service) fn new(
        store: Arc<dyn Store>,
        system: System,
        clock: Arc<SteadyClock>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            store,
            system,
            clock,
            tasks,
            labels: LabelLimiter::default(),
            grace_periods: GracePeriods::default(),
            pending_outcomes: PendingOutcomes::default(),
            unsent_attempts: UnsentAttempts::default(),
        }
    }

    /// Builds the intent of a first attempt at a write about this subject.
    pub(in crate::service) fn intent(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        subject: SubjectKey,
        write: Write,
    ) -> Intent {
        let started = self.clock.now();
        let settle_from = connection.reconcile_from(started);
        Intent {
            tenant: caller.tenant.clone(),
            connection: connection.name.clone(),
            destination: Some(connection.destination()),
            write,
            subject,
            origin: caller.origin.clone(),
            opened: started,
            started,
            attempts: 1,
            in_flight: true,
            may_still_complete: true,
            settle_from,
            backed_off: std::time::Duration::ZERO,
            due: Some(settle_from),
            reason: None,
        }
    }

    /// Executes a single write: begins it, calls `begun` once it is durable, sends it and commits its outcome, together
    /// with the audit entry of the response if the write creates something. The caller holds the subject's lock.
    ///
    /// # Errors
    /// The vendor's; `store_unavailable`, with outcome `unknown` from the beginning's commit on.
    pub(in crate::service) async fn execute(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        key: Option<&AcquireKey>,
        write: PreparedWrite,
        begun: impl FnOnce(&Record),
    ) -> Result<Execution, Error> {
        let (record, intent) = (record_of(&write), write.intent.clone());
        let resource = record.path();
        let results = self.begin(key, vec![write]).await.or_not_applied();
        let results = results.map_err(|error| with_resource_if_unknown(error, &resource))?;
        match results.into_iter().next() {
            Some(BeginResult::Begun) => {}
            Some(BeginResult::Failed(error)) => return Err(error).or_not_applied(),
            refused => return Ok(Execution::NotBegun(refused.unwrap_or(BeginResult::ItemCancelled))),
        }
        begun(&record);
        let call = caller.call_context(CallPurpose::Initial);
        let result = self.send_one(connection, &intent.write, &call).await;
        let initial_password = intent.write.generated_password().cloned();
        let is_new = matches!(intent.write, Write::Register(_) | Write::Assign(_));
        let (changes, transition) = self.conclusion(connection, record, intent, result);
        let created = is_new && transition.result.as_ref().is_ok_and(|applied| applied.created);
        let facts = created.then(|| AuditFacts::of_record(&transition.record)).flatten();
        self.commit_outcome_with_audit(changes, &resource, caller, facts).await?;
        let AppliedWrite { created, .. } = transition.result?;
        Ok(Execution::Applied { record: transition.record, created, initial_password })
    }

    /// Commits writes that are to be sent; returns one result each, in order. Writes whose commit is in doubt are
    /// remembered as unsent, and the search for orphans resolves them.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::service) async fn begin(
        &self,
        key: Option<&AcquireKey>,
        writes: Vec<PreparedWrite>,
    ) -> Result<Vec<BeginResult>, StoreError> {
        let attempts: Vec<_> = writes.iter().map(|write| AttemptId::of(&write.intent)).collect();
        let results = self.store.begin_writes(key, writes).await;
        match &results {
            Err(error) => attempts.into_iter().for_each(|attempt| self.record_doubt(error, attempt)),
            Ok(results) => {
                for (result, attempt) in results.iter().zip(attempts) {
                    if let BeginResult::Failed(error) = result {
                        self.record_doubt(error, attempt);
                    }
                }
            }
        }
        results
    }

    fn record_doubt(&self, error: &StoreError, attempt: AttemptId) {
        if let StoreError::InDoubt(detail) = error {
            tracing::error!(detail, "the commit of an intent is in doubt; nothing was sent");
            self.unsent_attempts.add(attempt);
        }
    }

    /// Restarts the first attempt of a write that was planned some time ago and is to begin now.
    pub(in crate::service) fn restart_attempt(&self, connection: &Connection, intent: &mut Intent) {
        let now = self.clock.now();
        intent.begin_attempt(now, connection.reconcile_from(now));
    }

    /// Commits one more attempt of writes before they are resent; if that fails they must not be sent.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::service) async fn begin_attempts<'a>(
        &self,
        connection: &Connection,
        intents: impl IntoIterator<Item = &'a mut Intent>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let begin = |intent: &'a mut Intent| {
            intent.begin_attempt(now, connection.reconcile_from(now));
            Mutation::Intent(intent.clone())
        };
        self.store.commit(intents.into_iter().map(begin).collect()).await
    }

    /// Sends writes of one kind in one vendor call and returns one result per row, in order.
    pub(in crate::service) async fn send(
        &self,
        connection: &Connection,
        writes: &[Write],
        call: &CallContext,
    ) -> Vec<RowResult<VendorReply>> {
        let paused = connection.seat_limit_error(writes, call.purpose);
        let sent = paused.is_none();
        let mut results = if let Some(error) = paused {
            vec![Err(error.into()); writes.len()]
        } else {
            let results = call_vendor(connection, writes, call).await;
            connection.record_seat_limit(results.iter().filter_map(|result| Some(&*result.as_ref().err()?.error)));
            results
        };
        if results.len() != writes.len() {
            // Only a defective adapter gets here; the outcome of every row is unknown.
            let (connection, rows) = (&connection.name, results.len());
            tracing::error!(connection, rows, "adapter returned the wrong number of rows");
            let error = VendorError::unknown(Code::Internal, "The adapter returned the wrong number of rows.");
            results = writes.iter().map(|_| Err(error.clone())).collect();
        }
        let now = self.system.now();
        for (result, write) in results.iter_mut().zip(writes) {
            if sent {
                connection.note(result.as_ref().map(|_| ()).map_err(|error| &*error.error), now);
            }
            if let Err(VendorError { error, .. }) = result {
                **error = connection.tag_connection(error.as_ref().clone());
                error.exchange = Some(call.exchange.id().clone());
                if error.outcome == Outcome::Unknown && error.resource.is_none() {
                    error.resource = Some(write.record().path());
                }
            }
        }
        if let Some(write) = writes.first() {
            self.labels.count_rows(connection, write.kind(), &results);
        }
        results
    }

    /// Sends one write in its own vendor call.
    pub(in crate::service) async fn send_one(
        &self,
        connection: &Connection,
        write: &Write,
        call: &CallContext,
    ) -> RowResult<VendorReply> {
        let mut results = self.send(connection, std::slice::from_ref(write), call).await;
        results.pop().unwrap_or_else(|| Err(VendorError::unknown(Code::Internal, "The adapter returned no result.")))
    }

    /// Commits the outcomes of one call's writes in one transaction and returns what became of each, in order.
    /// `resource` shows the outcomes if the store fails.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown`: the outcomes are queued.
    pub(in crate::service) async fn conclude(
        &self,
        connection: &Connection,
        writes: Vec<InFlightWrite>,
        results: Vec<RowResult<VendorReply>>,
        rows: RowFate,
        resource: &str,
    ) -> Result<Vec<Transition>, Error> {
        let (mut changes, mut transitions) = (Vec::new(), Vec::with_capacity(writes.len()));
        let mut locks = Vec::with_capacity(writes.len());
        for (InFlightWrite { record, intent, lock }, result) in writes.into_iter().zip(results) {
            locks.push(lock);
            let item = intent.origin.item.clone().filter(|_| rows == RowFate::Requeue);
            let (more, transition) = self.conclusion(connection, record, intent, result);
            changes.extend(more);
            changes.extend(item.map(Mutation::RequeueItem));
            transitions.push(transition);
        }
        let committed = self.commit_outcome(changes, resource).await;
        drop(locks);
        committed.map(|()| transitions)
    }

    /// Commits the outcome of a single write. The caller holds the subject's lock.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown`: the outcome is queued.
    pub(in crate::service) async fn conclude_one(
        &self,
        connection: &Connection,
        record: Record,
        intent: Intent,
        result: RowResult<VendorReply>,
    ) -> Result<Transition, Error> {
        let resource = record.path();
        let (changes, transition) = self.conclusion(connection, record, intent, result);
        self.commit_outcome(changes, &resource).await?;
        Ok(transition)
    }

    /// Builds the mutations that record the outcome of a write, and says what became of it. An unknown write is
    /// scheduled for reconciliation.
    pub(super) fn conclusion(
        &self,
        connection: &Connection,
        record: Record,
        mut intent: Intent,
        result: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Transition) {
        let mut changes: Vec<Mutation> = Vec::with_capacity(6);
        // Fences the outcome to its attempt; an intent that is not in flight is concluded by a person.
        changes.extend(
            intent.in_flight.then(|| Mutation::RequireAttempt(intent.write.record_id().to_owned(), intent.started)),
        );
        let entry = reconciled_entry(self.system.now(), &intent, &result);
        let may_still_complete = result.as_ref().is_err_and(|error| error.may_still_complete);
        let mut transition = record.conclude(&intent, result, connection.vendor(), self.system.now());
        changes.extend(transition_mutations(&transition));
        let origin = std::mem::take(&mut intent.origin);
        let record_id = intent.write.record_id();
        match &mut transition.result {
            Ok(applied) => {
                changes.extend(complete_origin(origin, record_id, applied));
                changes.push(Mutation::RemoveIntent(record_id.to_owned()));
                self.grace_periods.end(record_id);
            }
            Err(error) if error.outcome == Outcome::Unknown => {
                changes.extend(fail_origin(origin.clone(), record_id, error));
                intent.origin = origin;
                self.schedule_reconciliation(&mut intent, connection, error, may_still_complete);
                changes.push(Mutation::Intent(intent));
            }
            Err(error) => {
                changes.extend(fail_origin(origin, record_id, error));
                changes.push(Mutation::RemoveIntent(record_id.to_owned()));
                self.grace_periods.end(record_id);
            }
        }
        changes.extend(entry);
        (changes, transition)
    }

    /// Schedules reconciliation of an attempt that ended as unknown. After a complete response it may start at once;
    /// otherwise only after the grace period, counted from the attempt's end, because the vendor may still be
    /// processing it.
    fn schedule_reconciliation(
        &self,
        intent: &mut Intent,
        connection: &Connection,
        error: &Error,
        may_still_complete: bool,
    ) {
        let now = self.clock.now();
        intent.reason = Some(error.to_string());
        intent.may_still_complete = may_still_complete;
        let settle_from = if may_still_complete { connection.reconcile_from(now) } else { now };
        if may_still_complete {
            self.grace_periods.begin(intent);
        }
        intent.schedule_next_attempt(connection.retry_safety(intent), settle_from, now);
    }

    async fn commit_outcome(&self, changes: Vec<Mutation>, resource: &str) -> Result<(), Error> {
        let committed = self.store.commit(changes.clone()).await;
        committed.map_err(|error| {
            self.pending_outcomes.push(changes);
            outcome_not_stored_error(&error, resource)
        })
    }

    /// As [`Self::commit_outcome`], together with the audit entry of the response, if one is due.
    async fn commit_outcome_with_audit(
        &self,
        changes: Vec<Mutation>,
        resource: &str,
        caller: &RequestContext,
        facts: Option<AuditFacts>,
    ) -> Result<(), Error> {
        // Several processes that share a store write the entry in a transaction of its own.
        let pending = caller.audit_entry.as_ref().filter(|_| !self.store.is_shared());
        let taken = pending.zip(facts).and_then(|(pending, facts)| {
            let entry = pending.take_for_commit()?;
            Some((pending, facts.complete(entry, self.system.now())))
        });
        let Some((pending, entry)) = taken else { return self.commit_outcome(changes, resource).await };
        let all = changes.iter().cloned().chain([Mutation::Audit(entry.clone())]).collect();
        self.store.commit(all).await.map_err(|error| {
            // The response will differ from what this entry records, so the HTTP layer writes its own.
            pending.restore(entry);
            self.pending_outcomes.push(changes);
            outcome_not_stored_error(&error, resource)
        })
    }

    /// Commits changes without making the caller wait; if the store is unavailable, queues them until it is back.
    pub(in crate::service) fn commit_in_background(self: &Arc<Self>, changes: Vec<Mutation>) {
        let executor = Arc::clone(self);
        self.tasks.spawn(async move {
            if executor.store.commit(changes.clone()).await.is_err() {
                executor.pending_outcomes.push(changes);
            }
        });
    }

    /// Commits queued outcomes.
    pub(in crate::service) async fn flush_pending_outcomes(&self) {
        self.pending_outcomes.flush(self.store.as_ref()).await;
    }
}

/// Returns the record of a write that is to begin.
fn record_of(write: &PreparedWrite) -> Record {
    match &write.record {
        PreparedRecord::NewCandidate(candidate, _) | PreparedRecord::Candidate(candidate, _) => {
            candidate.clone().into()
        }
        PreparedRecord::Assignment(assignment) => assignment.clone().into(),
        PreparedRecord::Enrolment(id) => Record::Enrolment(id.clone()),
    }
}
