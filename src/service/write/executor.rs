//! The executor: the only place that makes a write durable before it is sent, sends it, and commits what became of it.
//!
//! 1. [`Executor::begin`] commits record, identities, intent, idempotency key and bulk row in one transaction. Until it
//!    returns, nothing is sent; from then on only the vendor's own response proves `not_applied`.
//! 2. [`Executor::send`] makes one vendor call for all writes of a batch and returns one result each.
//! 3. [`Executor::conclude`] commits what became of them ([`conclusion`](super::conclusion)).
//!
//! A single write is a batch of one ([`Executor::execute`]). The caller holds the locks of the writes' subjects from
//! before [`Executor::begin`] until [`Executor::conclude`] has returned.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::domain::error::{Code, Error};
use crate::domain::event::SettledBy;
use crate::domain::intent::{Intent, Write};
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::subject::SubjectKey;
use crate::domain::system::System;
use crate::domain::transition::{AppliedWrite, VendorReply};
use crate::domain::vendor::{CallContext, CallPurpose, Priority, RowResult};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::service::RequestContext;
use crate::service::audit::entry::AuditFacts;
use crate::service::cluster::steady_clock::SteadyClock;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, skipped_error, with_resource_if_unknown};
use crate::service::events::emit::Emitter;
use crate::service::metrics::LabelLimiter;
use crate::service::write::grace::GracePeriods;
use crate::service::write::locks::SubjectLock;
use crate::service::write::pending_outcomes::{AttemptId, PendingOutcomes, UnsentAttempts};
use crate::service::write::single_writes::SingleWrites;
use crate::service::write::vendor_call::call_vendor;
use crate::store::{AcquireKey, BeginResult, Mutation, PreparedRecord, PreparedWrite, Store, StoreError};

/// Begins, sends and concludes writes.
pub(in crate::service) struct Executor {
    pub(super) store: Arc<dyn Store>,
    pub(super) system: System,
    pub(super) clock: Arc<SteadyClock>,
    tasks: TaskTracker,
    labels: LabelLimiter,
    pub(in crate::service) grace_periods: GracePeriods,
    pub(in crate::service) pending_outcomes: PendingOutcomes,
    pub(in crate::service) unsent_attempts: UnsentAttempts,
    pub(in crate::service) single_writes: SingleWrites,
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
            single_writes: SingleWrites::default(),
        }
    }

    /// Returns the maker of events that happen now.
    pub(super) fn emitter(&self) -> Emitter<'_> {
        Emitter { system: &self.system, now: self.clock.now() }
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
        let _in_flight = (caller.priority == Priority::Interactive).then(|| self.single_writes.begin());
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
        let kind = intent.write.kind();
        let is_new = matches!(intent.write, Write::Register(_) | Write::Assign(_));
        let (changes, transition) = self.conclusion(connection, record, intent, result, None);
        let created = is_new && transition.result.as_ref().is_ok_and(|applied| applied.created);
        let facts = created.then(|| AuditFacts::of_record(&transition.record)).flatten();
        let late = || {
            let error = transition.result.as_ref().err();
            self.emitter().settled(kind, &transition.record, SettledBy::Reconciler, error)
        };
        self.commit_first_outcome(changes, &resource, (caller, facts), late).await?;
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
