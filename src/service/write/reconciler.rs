//! Settling: finding out what became of a write whose answer never came, in the way the vendor's adapter declares.
//!
//! A write is settled by whoever needs its subject next, and by the background (`runner`) with growing pauses. Nothing is ever
//! sent again without the intent saying so first, and never while an earlier attempt may still take effect.

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
    MIN_BACKOFF, VendorReply, assignment_path, candidate_path, expedite_reconciliation, own_password, sent_password,
};
use crate::service::{Gateway, StoreResultExt as _, doubt_at};
use crate::store::Mutation;

/// Why a write is left to a person whose connection leads to another account or address now.
pub(in crate::service) const ELSEWHERE: &str = "It was sent to another account or address than its connection leads to now, so \
                                    nothing here tells what became of it. Settle it by hand, or point the connection \
                                    back and repeat the request.";

/// A candidate whose open write was settled.
pub(in crate::service) struct ReconciledCandidate {
    /// The record as it is now.
    pub(in crate::service) candidate: Candidate,
    /// The password that was sent with a registration that was settled as applied.
    pub(in crate::service) password: Option<Secret>,
    /// The password the gateway made up at a registration that was settled as applied, to be told now.
    pub(in crate::service) initial_password: Option<Secret>,
}

impl Gateway {
    /// Settles the candidate's open write, if it has one; the caller holds its turn. Afterwards it is registered or failed,
    /// or gone (`None`) where the open write was to hide it.
    ///
    /// # Errors
    /// `subject_unsettled` while it is too early or nothing may be sent again; otherwise the fault that left it unknown.
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
        let (sent, own_password) = (sent_password(&intent.write).cloned(), own_password(&intent.write).cloned());
        let (intent, row) = self.resend(connection, intent, &resource, call).await?;
        let (candidate, end) = self.concluded_candidate(connection, candidate, intent, row).await?;
        let (password, initial_password) = match end {
            Ok(()) => (sent, own_password),
            Err(fault) if fault.outcome == Outcome::Unknown => return Err(fault),
            Err(_) => (None, None),
        };
        Ok(candidate.map(|candidate| ReconciledCandidate { candidate, password, initial_password }))
    }

    /// Settles the assignment's open write, if it has one; the caller holds its subject's turn.
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
        let (assignment, end) = self.concluded_assignment(connection, assignment, intent, row).await?;
        match end {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            Ok(()) | Err(_) => Ok(assignment),
        }
    }

    /// What is to be said of a record whose last write is unknown: why it is, and since when.
    pub(in crate::service) async fn unknown_write_warning(&self, record: &str) -> Result<Option<Warning>, Error> {
        let intent = self.0.store.intent(record).await.or_not_applied()?;
        Ok(intent.map(|intent| {
            let reason = intent.reason.unwrap_or_else(|| "It is being sent.".to_owned());
            let next = match intent.due {
                Some(_) => "The gateway settles it by itself.",
                None => "Only a person can settle it.",
            };
            Warning::new(WarningCode::Unsettled, format!("Unknown since {}. {reason} {next}", intent.opened))
        }))
    }

    async fn open_intent(&self, record: &str, resource: &str) -> Result<Intent, Error> {
        let intent = self.0.store.intent(record).await.or_not_applied()?;
        intent.ok_or_else(|| {
            Error::new(Code::SubjectUnsettled, "An earlier write has to be settled by hand.").with_resource(resource)
        })
    }

    /// Sends the write again in its harmless form, if that is allowed and not too early.
    pub(in crate::service) async fn resend(
        &self,
        connection: &Connection,
        mut intent: Intent,
        resource: &str,
        call: &CallContext,
    ) -> Result<(Intent, RowResult<VendorReply>), Error> {
        let now = self.now();
        if intent.under_way {
            let detail = "An earlier write about this is being sent by another instance.";
            let wait = Some(Duration::from_secs(1));
            return Err(connection.tag_connection(
                Error::new(Code::SubjectUnsettled, detail).with_retry_after(wait).with_resource(resource),
            ));
        }
        if connection.is_elsewhere(&intent) {
            return Err(self.needs_manual_resolution(connection, intent, resource).await);
        }
        if let Some(left) = self.0.graces.remaining(&intent, connection.settle_grace()) {
            let detail = "An earlier write was sent and not answered; the vendor may still be at work on it.";
            let wait = Some(left.max(Duration::from_secs(1)));
            return Err(connection.tag_connection(
                Error::new(Code::SubjectUnsettled, detail).with_retry_after(wait).with_resource(resource),
            ));
        }
        if connection.repeat_of(&intent) == RetrySafety::Unsafe {
            let detail = "An earlier write was sent and not answered, and sending it again could do it twice. Settle it by hand.";
            return Err(connection.tag_connection(Error::new(Code::SubjectUnsettled, detail).with_resource(resource)));
        }
        expedite_reconciliation(&mut intent, now);
        intent.attempts += 1;
        intent.started = now;
        intent.under_way = true;
        intent.lingering = true;
        intent.settle_from = connection.settle_from(now);
        // In doubt, it is found by the search for orphans: an earlier attempt may have done it.
        let committed = self.0.store.commit(vec![Mutation::Intent(intent.clone())]).await.or_not_applied();
        committed.map_err(|fault| connection.tag_connection(doubt_at(fault, resource)))?;
        let call = CallContext { purpose: CallPurpose::Reconcile, ..call.clone() };
        let row = self.send_one(connection, &intent.write, &call).await;
        Ok((intent, row.map_err(|fault| keep_unknown_unless_proved(fault, resource))))
    }

    /// Writes down that only a person can settle the write, since it went elsewhere, and tells the key and the row it came
    /// from.
    async fn needs_manual_resolution(&self, connection: &Connection, mut intent: Intent, resource: &str) -> Error {
        let fault = connection.tag_connection(Error::new(Code::SubjectUnsettled, ELSEWHERE).with_resource(resource));
        if intent.due.is_none() {
            return fault;
        }
        intent.due = None;
        intent.reason = Some(ELSEWHERE.to_owned());
        let mut changes = crate::service::write::executor::fail_origin(
            intent.origin.clone(),
            intent.write.record_id(),
            &fault.clone().with_unknown_outcome(),
        );
        changes.push(Mutation::Intent(intent));
        match self.0.store.commit(changes).await.or_not_applied() {
            Ok(()) => fault,
            Err(lost) => connection.tag_connection(doubt_at(lost, resource)),
        }
    }
}

/// What an earlier attempt may have done is not forgotten because a later one was refused.
pub(in crate::service) fn keep_unknown_unless_proved(fault: Error, resource: &str) -> Error {
    if fault.proof || fault.outcome == Outcome::Unknown {
        return fault;
    }
    fault.with_unknown_outcome().with_resource(resource)
}

/// The fault of a row that was not sent because an earlier write about the same is not settled: nobody would tell the row
/// later what became of the other's write, so it says what is true of itself.
pub(in crate::service) fn blocked_by_unknown_write(connection: &Connection, fault: Error) -> Error {
    if fault.outcome != Outcome::Unknown {
        return fault;
    }
    let detail = format!("An earlier write about this is not settled: {}", fault.detail);
    let unsettled = Error::new(Code::SubjectUnsettled, detail).with_retry_after(retry_after(&fault));
    connection.tag_connection(Error { resource: fault.resource, ..unsettled })
}

/// When it is worth asking again after this end of settling: a try that ended as unknown as before is followed by another in
/// the background. `None` where only a person can settle it.
pub(in crate::service) fn retry_after(fault: &Error) -> Option<Duration> {
    fault.retry_after.or_else(|| (fault.outcome == Outcome::Unknown).then_some(MIN_BACKOFF))
}

/// Adds to an operator's word that a write was not done what is on record about it, so that the reason is kept.
pub(in crate::service) fn with_reason(row: RowResult<VendorReply>, problem: Option<&Error>) -> RowResult<VendorReply> {
    row.map_err(|said| match problem {
        Some(problem) => Error {
            outcome: said.outcome,
            detail: format!("{} Before that: {}", said.detail, problem.detail),
            resource: None,
            retry_after: None,
            ..problem.clone()
        },
        None => said,
    })
}

/// The row an operator's word stands for.
pub(in crate::service) fn manual_resolution(outcome: Outcome) -> Result<RowResult<VendorReply>, Error> {
    match outcome {
        Outcome::Applied => {
            let warning = Warning::new(WarningCode::SettledByHand, "An operator said that the vendor has done it.");
            Ok(Ok(WriteSuccess { value: VendorReply::Nothing, warnings: vec![warning] }))
        }
        Outcome::NotApplied => Ok(Err(Error::new(Code::SubjectUnsettled, "An operator said that it was not done."))),
        Outcome::Unknown => {
            Err(Error::from_fields(vec![FieldError::invalid("/outcome", "must be applied or not_applied")]))
        }
    }
}
