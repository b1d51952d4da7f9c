//! Reconciliation: finds out the outcome of a write whose response was lost, in the way the vendor's adapter declares.
//!
//! The next request about the subject reconciles the write, and so does `background::due_writes` with exponential
//! back-off. A write is never resent before its intent records the new attempt, and never while an earlier attempt may
//! still take effect ([`grace`](super::grace)).

use std::time::Duration;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::capability::RetrySafety;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::intent::Intent;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::vendor::{CallContext, CallPurpose, RowResult, WriteSuccess};
use crate::secret::Secret;
use crate::service::connections::Connection;
use crate::service::write::executor::{
    MIN_BACKOFF, VendorReply, assignment_path, candidate_path, expedite_reconciliation, generated_password,
    sent_password,
};
use crate::service::{Gateway, StoreResultExt as _, with_resource_if_unknown};
use crate::store::Mutation;

/// Reason for leaving a write to a person after its connection was moved to another account or address.
pub(in crate::service) const MOVED_CONNECTION_REASON: &str = "It was sent to a different account or address than its \
    connection uses now, so the gateway cannot find out its outcome. Settle it manually, or restore the connection and \
    retry the request.";

/// Candidate whose open write was reconciled.
pub(in crate::service) struct ReconciledCandidate {
    /// Current record.
    pub(in crate::service) candidate: Candidate,
    /// Password sent with a registration that turned out to be applied.
    pub(in crate::service) password: Option<Secret>,
    /// Password the gateway generated for such a registration, to be returned now.
    pub(in crate::service) initial_password: Option<Secret>,
}

impl Gateway {
    /// Reconciles the candidate's open write, if it has one; the caller holds its lock. Afterwards the candidate is
    /// registered or failed, or erased (`None`) if the open write was a removal.
    ///
    /// # Errors
    /// `subject_unsettled` during the grace period or if the write must not be resent; otherwise the error that left it
    /// unknown.
    pub(in crate::service) async fn reconcile_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        call: &CallContext,
    ) -> Result<Option<ReconciledCandidate>, Error> {
        if candidate.state.is_terminal() {
            return Ok(Some(ReconciledCandidate { candidate, password: None, initial_password: None }));
        }
        let resource = candidate_path(&candidate.id);
        let intent = self.open_intent(candidate.id.as_str(), &resource).await?;
        let (sent, own_password) = (sent_password(&intent.write).cloned(), generated_password(&intent.write).cloned());
        let (intent, row) = self.resend(connection, intent, &resource, call).await?;
        let (candidate, end) = self.conclude_candidate_with_record(connection, candidate, intent, row).await?;
        let (password, initial_password) = match end {
            Ok(()) => (sent, own_password),
            Err(fault) if fault.outcome == Outcome::Unknown => return Err(fault),
            Err(_) => (None, None),
        };
        Ok(candidate.map(|candidate| ReconciledCandidate { candidate, password, initial_password }))
    }

    /// Reconciles the assignment's open write, if it has one; the caller holds its subject's lock.
    ///
    /// # Errors
    /// As [`Gateway::reconcile_candidate`].
    pub(in crate::service) async fn reconcile_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        call: &CallContext,
    ) -> Result<Assignment, Error> {
        if assignment.state.is_terminal() {
            return Ok(assignment);
        }
        let resource = assignment_path(&assignment.id);
        let intent = self.open_intent(assignment.id.as_str(), &resource).await?;
        let (intent, row) = self.resend(connection, intent, &resource, call).await?;
        let (assignment, end) = self.conclude_assignment_with_record(connection, assignment, intent, row).await?;
        match end {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            Ok(()) | Err(_) => Ok(assignment),
        }
    }

    /// Returns the warning on a record whose last write is unknown: since when, why, and who will resolve it.
    pub(in crate::service) async fn unknown_write_warning(&self, record: &str) -> Result<Option<Warning>, Error> {
        let intent = self.0.store.intent(record).await.or_not_applied()?;
        Ok(intent.map(|intent| {
            let reason = intent.reason.unwrap_or_else(|| "The write is in flight.".to_owned());
            let next = match intent.due {
                Some(_) => "The gateway will reconcile it automatically.",
                None => "It must be settled manually.",
            };
            Warning::new(WarningCode::Unsettled, format!("Unknown since {}. {reason} {next}", intent.opened))
        }))
    }

    async fn open_intent(&self, record: &str, resource: &str) -> Result<Intent, Error> {
        let intent = self.0.store.intent(record).await.or_not_applied()?;
        intent.ok_or_else(|| {
            Error::new(Code::SubjectUnsettled, "An earlier write must be settled manually.").with_resource(resource)
        })
    }

    /// Resends the write in its safe form, if the adapter allows that and the grace period is over. The new attempt is
    /// committed first.
    pub(in crate::service) async fn resend(
        &self,
        connection: &Connection,
        mut intent: Intent,
        resource: &str,
        call: &CallContext,
    ) -> Result<(Intent, RowResult<VendorReply>), Error> {
        let now = self.now();
        if intent.under_way {
            let detail = "An earlier write about this resource is in flight at another instance.";
            let wait = Some(Duration::from_secs(1));
            return Err(connection.tag_connection(
                Error::new(Code::SubjectUnsettled, detail).with_retry_after(wait).with_resource(resource),
            ));
        }
        if connection.is_other_destination(&intent) {
            return Err(self.needs_manual_resolution(connection, intent, resource).await);
        }
        if let Some(left) = self.0.grace_periods.remaining(&intent, connection.settle_grace()) {
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
        expedite_reconciliation(&mut intent, now);
        intent.attempts += 1;
        intent.started = now;
        intent.under_way = true;
        intent.lingering = true;
        intent.settle_from = connection.reconcile_from(now);
        // If this commit is in doubt, the search for orphans finds the intent. The outcome stays unknown: an earlier
        // attempt may have been applied.
        let committed = self.0.store.commit(vec![Mutation::Intent(intent.clone())]).await.or_not_applied();
        committed.map_err(|fault| connection.tag_connection(with_resource_if_unknown(fault, resource)))?;
        let call = CallContext { purpose: CallPurpose::Reconcile, ..call.clone() };
        let row = self.send_one(connection, &intent.write, &call).await;
        Ok((intent, row.map_err(|fault| keep_unknown_unless_proved(fault, resource))))
    }

    /// Leaves a write that was sent elsewhere to a person: stops its background attempts and marks its key and row as
    /// unknown.
    async fn needs_manual_resolution(&self, connection: &Connection, mut intent: Intent, resource: &str) -> Error {
        let fault = connection
            .tag_connection(Error::new(Code::SubjectUnsettled, MOVED_CONNECTION_REASON).with_resource(resource));
        if intent.due.is_none() {
            return fault;
        }
        intent.due = None;
        intent.reason = Some(MOVED_CONNECTION_REASON.to_owned());
        let mut changes = crate::service::write::executor::fail_origin(
            intent.origin.clone(),
            intent.write.record_id(),
            &fault.clone().with_unknown_outcome(),
        );
        changes.push(Mutation::Intent(intent));
        match self.0.store.commit(changes).await.or_not_applied() {
            Ok(()) => fault,
            Err(lost) => connection.tag_connection(with_resource_if_unknown(lost, resource)),
        }
    }
}

/// Keeps the outcome unknown unless the error proves that no attempt was applied: rejecting a later attempt says
/// nothing about an earlier one.
pub(in crate::service) fn keep_unknown_unless_proved(fault: Error, resource: &str) -> Error {
    if fault.proof || fault.outcome == Outcome::Unknown {
        return fault;
    }
    fault.with_unknown_outcome().with_resource(resource)
}

/// Builds the error of a row that was not sent because an earlier write about the same subject is unknown. The row is
/// reported as not sent: it would never be updated when the other write is reconciled.
pub(in crate::service) fn blocked_by_unknown_write(connection: &Connection, fault: Error) -> Error {
    if fault.outcome != Outcome::Unknown {
        return fault;
    }
    let detail = format!("An earlier write about this resource is not settled: {}", fault.detail);
    let unsettled = Error::new(Code::SubjectUnsettled, detail).with_retry_after(retry_after(&fault));
    connection.tag_connection(Error { resource: fault.resource, ..unsettled })
}

/// Returns the suggested retry delay after a failed reconciliation. If the outcome is still unknown, the background
/// will try again. `None` if only a person can settle it.
pub(in crate::service) fn retry_after(fault: &Error) -> Option<Duration> {
    fault.retry_after.or_else(|| (fault.outcome == Outcome::Unknown).then_some(MIN_BACKOFF))
}

/// Adds the recorded problem to a manual resolution as not applied, so that the original reason is kept.
pub(in crate::service) fn with_reason(row: RowResult<VendorReply>, problem: Option<&Error>) -> RowResult<VendorReply> {
    row.map_err(|said| match problem {
        Some(problem) => Error {
            outcome: said.outcome,
            detail: format!("{} Earlier problem: {}", said.detail, problem.detail),
            resource: None,
            retry_after: None,
            ..problem.clone()
        },
        None => said,
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
            Ok(Err(Error::new(Code::SubjectUnsettled, "An operator confirmed that the write was not applied.")))
        }
        Outcome::Unknown => {
            Err(Error::from_fields(vec![FieldError::invalid("/outcome", "must be applied or not_applied")]))
        }
    }
}
