//! The reconciler: finds out the outcome of a write whose response was lost, in the way the vendor's adapter declares.
//!
//! The next request about the subject reconciles the write, and so does `background::due_writes` with exponential
//! back-off. A write is never resent before its intent records the new attempt, and never while an earlier attempt may
//! still take effect ([`grace`](super::grace)).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::capability::RetrySafety;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::SettledBy;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, MIN_BACKOFF};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::record::{Record, RecordId};
use crate::domain::subject::SubjectKey;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::{CallContext, CallPurpose, RowResult, WriteSuccess};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, with_resource_if_unknown};
use crate::service::write::conclusion::fail_origin;
use crate::service::write::executor::Executor;
use crate::service::write::locks::{SubjectLock, SubjectLocks};
use crate::store::{Mutation, Store};

/// Reason for leaving a write to a person after its connection was moved to another account or address.
pub(in crate::service) const MOVED_CONNECTION_REASON: &str = "It was sent to a different account or address than its \
    connection uses now, so the gateway cannot find out its outcome. Settle it manually, or restore the connection and \
    retry the request.";

/// Initial and maximum polling interval while another task or instance is sending a write. The maximum leaves the lock
/// free long enough for the search for orphans, which never waits for a lock.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Finds out the outcomes of open writes.
pub(in crate::service) struct Reconciler {
    store: Arc<dyn Store>,
    executor: Arc<Executor>,
    locks: Arc<SubjectLocks>,
}

/// A record whose last write has a known outcome.
pub(in crate::service) struct Reconciled {
    /// Record as it is now; `None` once it is erased.
    pub(in crate::service) record: Option<Record>,
    /// Password sent with a registration that turned out to be applied.
    pub(in crate::service) password: Option<Secret>,
    /// Password the gateway generated for such a registration, to be returned now.
    pub(in crate::service) initial_password: Option<Secret>,
    /// Error that proved the open write not applied, if it ended so.
    pub(in crate::service) rejection: Option<Error>,
}

impl Reconciled {
    fn known(record: Record) -> Self {
        Self { record: Some(record), password: None, initial_password: None, rejection: None }
    }
}

impl Reconciler {
    pub(in crate::service) fn new(store: Arc<dyn Store>, executor: Arc<Executor>, locks: Arc<SubjectLocks>) -> Self {
        Self { store, executor, locks }
    }

    /// Reconciles the record's open write, if it has one; the caller holds its subject's lock and has read the record
    /// under it. `by` says on whose account.
    ///
    /// # Errors
    /// `subject_unsettled` during the grace period or if the write must not be resent; otherwise the error that left it
    /// unknown.
    pub(in crate::service) async fn reconcile(
        &self,
        connection: &Connection,
        record: Record,
        call: &CallContext,
        by: SettledBy,
    ) -> Result<Reconciled, Error> {
        if record.is_settled() {
            return Ok(Reconciled::known(record));
        }
        let resource = record.path();
        let intent = match self.store.intent(record.id().as_str()).await.or_not_applied()? {
            Some(intent) => intent,
            // Reconciled before; its row has its outcome.
            None if matches!(record, Record::Enrolment(_)) => return Ok(Reconciled::known(record)),
            None => {
                let detail = "An earlier write must be settled manually.";
                return Err(Error::new(Code::SubjectUnsettled, detail).with_resource(resource));
            }
        };
        let (password, initial_password) =
            (intent.write.sent_password().cloned(), intent.write.generated_password().cloned());
        let (intent, result) = self.resend(connection, intent, &resource, call).await?;
        let ended = self.executor.conclude_one(connection, record, intent, result, by).await?;
        let record = Some(ended.record).filter(|_| !ended.erased);
        match ended.result {
            Ok(_) => Ok(Reconciled { record, password, initial_password, rejection: None }),
            Err(error) if error.outcome == Outcome::Unknown => Err(error),
            Err(error) => Ok(Reconciled { record, password: None, initial_password: None, rejection: Some(error) }),
        }
    }

    /// Reads the record and reconciles its open write; the caller holds its subject's lock. `None` if it is gone.
    ///
    /// # Errors
    /// As [`Self::reconcile`].
    pub(in crate::service) async fn reconcile_locked(
        &self,
        tenant: &str,
        connection: &Connection,
        id: &RecordId,
        call: &CallContext,
        by: SettledBy,
    ) -> Result<Option<Reconciled>, Error> {
        match self.read(tenant, id).await? {
            Some(record) => self.reconcile(connection, record, call, by).await.map(Some),
            None => Ok(None),
        }
    }

    /// Locks a candidate or assignment and reconciles its open write. `None` if it is gone.
    ///
    /// # Errors
    /// As [`Self::reconcile`].
    pub(in crate::service) async fn lock_and_reconcile(
        &self,
        tenant: &str,
        connection: &Connection,
        id: &RecordId,
        call: &CallContext,
        by: SettledBy,
    ) -> Result<Option<Reconciled>, Error> {
        let locked = match id {
            RecordId::Candidate(id) => {
                let locked = self.lock_candidate(tenant, id, connection.longest_call()).await?;
                locked.map(|(lock, candidate)| (lock, candidate.into()))
            }
            RecordId::Assignment(id) => {
                let locked = self.lock_assignment(tenant, id).await?;
                locked.map(|(lock, assignment)| (lock, assignment.into()))
            }
            RecordId::Enrolment(_) | RecordId::Operation(_) | RecordId::Webhook(_) => None,
        };
        let Some((_lock, record)) = locked else { return Ok(None) };
        self.reconcile(connection, record, call, by).await.map(Some)
    }

    /// Locks the candidate once no other instance is sending a write about it, for at most `patience`. `None` if it was
    /// erased.
    pub(in crate::service) async fn lock_candidate(
        &self,
        tenant: &str,
        id: &CandidateId,
        patience: Duration,
    ) -> Result<Option<(SubjectLock, Candidate)>, Error> {
        let until = Instant::now() + patience;
        let mut pause = POLL_INTERVALS.0;
        loop {
            let lock = self.locks.lock(&SubjectKey::candidate(id)).await.or_not_applied()?;
            // Read the intent first: once it is gone, a record read later has the outcome.
            let intent = self.store.intent(id.as_str()).await.or_not_applied()?;
            let in_flight = intent.is_some_and(|intent| intent.in_flight);
            let Some(candidate) = self.store.candidate(tenant, id).await.or_not_applied()? else { return Ok(None) };
            if candidate.state.is_terminal() || !in_flight || Instant::now() >= until {
                return Ok(Some((lock, candidate)));
            }
            // The first writer of a new candidate holds no lock in the store; its intent shows that it is in flight.
            drop(lock);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_INTERVALS.1);
        }
    }

    /// Locks the assignment's subject. `None` if there is no such assignment.
    pub(in crate::service) async fn lock_assignment(
        &self,
        tenant: &str,
        id: &AssignmentId,
    ) -> Result<Option<(SubjectLock, Assignment)>, Error> {
        let Some(found) = self.store.assignment(tenant, id).await.or_not_applied()? else { return Ok(None) };
        let lock = self.locks.lock(&found.subject_key()).await.or_not_applied()?;
        let assignment = self.store.assignment(tenant, id).await.or_not_applied()?;
        Ok(assignment.map(|assignment| (lock, assignment)))
    }

    /// Reads the tenant's record; an enrolment has none of its own.
    pub(in crate::service) async fn read(&self, tenant: &str, id: &RecordId) -> Result<Option<Record>, Error> {
        Ok(match id {
            RecordId::Candidate(id) => self.store.candidate(tenant, id).await.or_not_applied()?.map(Record::from),
            RecordId::Assignment(id) => self.store.assignment(tenant, id).await.or_not_applied()?.map(Record::from),
            RecordId::Enrolment(id) => Some(Record::Enrolment(id.clone())),
            RecordId::Operation(_) | RecordId::Webhook(_) => None,
        })
    }

    /// Returns the warning on a record whose last write is unknown: since when, why, and who will resolve it.
    pub(in crate::service) async fn unknown_write_warning(&self, record: &str) -> Result<Option<Warning>, Error> {
        let intent = self.store.intent(record).await.or_not_applied()?;
        Ok(intent.map(|intent| {
            let reason = intent.reason.unwrap_or_else(|| "The write is in flight.".to_owned());
            let next = match intent.due {
                Some(_) => "The gateway will reconcile it automatically.",
                None => "It must be settled manually.",
            };
            Warning::new(WarningCode::Unsettled, format!("Unknown since {}. {reason} {next}", intent.opened))
        }))
    }

    /// Resends the write in its safe form, if the adapter allows that and the grace period is over. The new attempt is
    /// committed first.
    async fn resend(
        &self,
        connection: &Connection,
        mut intent: Intent,
        resource: &str,
        call: &CallContext,
    ) -> Result<(Intent, RowResult<VendorReply>), Error> {
        let now = self.executor.clock.now();
        if intent.in_flight {
            let detail = "An earlier write about this resource is in flight at another instance.";
            let wait = Some(Duration::from_secs(1));
            return Err(connection.tag_connection(
                Error::new(Code::SubjectUnsettled, detail).with_retry_after(wait).with_resource(resource),
            ));
        }
        if connection.is_other_destination(&intent) {
            return Err(self.needs_manual_resolution(connection, intent, resource).await);
        }
        if let Some(left) = self.executor.grace_periods.remaining(&intent, connection.settle_grace()) {
            let detail = "An earlier write got no response; the vendor may still be processing it.";
            let wait = Some(left.max(Duration::from_secs(1)));
            return Err(connection.tag_connection(
                Error::new(Code::SubjectUnsettled, detail).with_retry_after(wait).with_resource(resource),
            ));
        }
        if connection.retry_safety(&intent) == RetrySafety::Unsafe {
            let detail = "An earlier write got no response, and resending it could apply it twice. Settle it manually.";
            return Err(connection.tag_connection(Error::new(Code::SubjectUnsettled, detail).with_resource(resource)));
        }
        intent.expedite(now);
        intent.attempts += 1;
        // If this commit is in doubt, the search for orphans finds the intent. The outcome stays unknown: an earlier
        // attempt may have been applied.
        let committed = self.executor.begin_attempts(connection, [&mut intent]).await.or_not_applied();
        committed.map_err(|error| connection.tag_connection(with_resource_if_unknown(error, resource)))?;
        let call = CallContext { purpose: CallPurpose::Reconcile, ..call.clone() };
        let result = self.executor.send_one(connection, &intent.write, &call).await;
        Ok((intent, result.map_err(|error| keep_unknown_unless_proved(error, resource))))
    }

    /// Leaves a write that was sent elsewhere to a person: stops its background attempts and marks its key and row as
    /// unknown.
    async fn needs_manual_resolution(&self, connection: &Connection, mut intent: Intent, resource: &str) -> Error {
        let error = connection
            .tag_connection(Error::new(Code::SubjectUnsettled, MOVED_CONNECTION_REASON).with_resource(resource));
        if intent.due.is_none() {
            return error;
        }
        intent.due = None;
        intent.reason = Some(MOVED_CONNECTION_REASON.to_owned());
        let unknown = error.clone().with_unknown_outcome();
        let mut changes: Vec<_> = fail_origin(intent.origin.clone(), intent.write.record_id(), &unknown).collect();
        changes.push(Mutation::Intent(intent));
        match self.store.commit(changes).await.or_not_applied() {
            Ok(()) => error,
            Err(lost) => connection.tag_connection(with_resource_if_unknown(lost, resource)),
        }
    }
}

/// Keeps the outcome unknown unless the error proves that no attempt was applied: rejecting a later attempt says
/// nothing about an earlier one.
pub(in crate::service) fn keep_unknown_unless_proved(error: VendorError, resource: &str) -> VendorError {
    if error.proves_no_effect || error.outcome == Outcome::Unknown {
        return error;
    }
    error.with_unknown_outcome().with_resource(resource)
}

/// Builds the error of a row that was not sent because an earlier write about the same subject is unknown. The row is
/// reported as not sent: it would never be updated when the other write is reconciled.
pub(in crate::service) fn blocked_by_unknown_write(connection: &Connection, error: Error) -> Error {
    if error.outcome != Outcome::Unknown {
        return error;
    }
    let detail = format!("An earlier write about this resource is not settled: {}", error.detail);
    let unsettled = Error::new(Code::SubjectUnsettled, detail).with_retry_after(retry_after(&error));
    connection.tag_connection(Error { resource: error.resource, ..unsettled })
}

/// Returns the suggested retry delay after a failed reconciliation. If the outcome is still unknown, the background
/// will try again. `None` if only a person can settle it.
pub(in crate::service) fn retry_after(error: &Error) -> Option<Duration> {
    error.retry_after.or_else(|| (error.outcome == Outcome::Unknown).then_some(MIN_BACKOFF))
}

/// Adds the recorded problem to a manual resolution as not applied, so that the original reason is kept.
pub(in crate::service) fn with_reason(
    result: RowResult<VendorReply>,
    problem: Option<&Error>,
) -> RowResult<VendorReply> {
    result.map_err(|error| match problem {
        Some(problem) => VendorError::from(Error {
            outcome: error.outcome,
            detail: format!("{} Earlier problem: {}", error.detail, problem.detail),
            resource: None,
            retry_after: None,
            ..problem.clone()
        }),
        None => error,
    })
}

/// Converts an operator's manual resolution into a row result.
pub(in crate::service) fn manual_resolution(outcome: Outcome) -> Result<RowResult<VendorReply>, Error> {
    match outcome {
        Outcome::Applied => {
            let warning =
                Warning::new(WarningCode::SettledByHand, "An operator confirmed that the vendor applied the write.");
            Ok(Ok(WriteSuccess { value: VendorReply::Nothing, warnings: vec![warning] }))
        }
        Outcome::NotApplied => {
            Ok(Err(VendorError::new(Code::SubjectUnsettled, "An operator confirmed that the write was not applied.")))
        }
        Outcome::Unknown => {
            Err(Error::from_fields(vec![FieldError::invalid("/outcome", "must be applied or not_applied")]))
        }
    }
}
