//! Settling: finding out what became of a write whose answer never came, in the way the vendor's adapter declares.
//!
//! A write is settled by whoever needs its subject next, and by the background (`runner`) with growing pauses. Nothing is ever
//! sent again without the intent saying so first, and never while an earlier attempt may still take effect.

use std::time::Duration;

use super::connections::Connection;
use super::journal::{Done, FIRST_PAUSE, assignment_path, candidate_path, cut_rest_short, own_password, sent_password};
use super::{BeforeSending as _, Gateway, doubt_at};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::capability::Repeat;
use crate::domain::journal::Intent;
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::vendor::{Applied, Attempt, Call, Row};
use crate::secret::Secret;
use crate::store::Change;

/// Why a write is left to a person whose connection leads to another account or address now.
pub(super) const ELSEWHERE: &str = "It was sent to another account or address than its connection leads to now, so \
                                    nothing here tells what became of it. Settle it by hand, or point the connection \
                                    back and repeat the request.";

/// A candidate whose open write was settled.
pub(super) struct SettledCandidate {
    /// The record as it is now.
    pub(super) candidate: Candidate,
    /// The password that was sent with a registration that was settled as applied.
    pub(super) password: Option<Secret>,
    /// The password the gateway made up at a registration that was settled as applied, to be told now.
    pub(super) initial_password: Option<Secret>,
}

impl Gateway {
    /// Settles the candidate's open write, if it has one; the caller holds its turn. Afterwards it is registered or failed,
    /// or gone (`None`) where the open write was to hide it.
    ///
    /// # Errors
    /// `subject_unsettled` while it is too early or nothing may be sent again; otherwise the fault that left it unknown.
    pub(super) async fn settled_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        call: &Call,
    ) -> Result<Option<SettledCandidate>, Fault> {
        if candidate.state.ended() {
            return Ok(Some(SettledCandidate { candidate, password: None, initial_password: None }));
        }
        let resource = candidate_path(&candidate.id);
        let intent = self.open_intent(candidate.id.as_str(), &resource).await?;
        let (sent, own_password) = (sent_password(&intent.write).cloned(), own_password(&intent.write).cloned());
        let (intent, row) = self.attempt_again(connection, intent, &resource, call).await?;
        let (candidate, end) = self.concluded_candidate(connection, candidate, intent, row).await?;
        let (password, initial_password) = match end {
            Ok(()) => (sent, own_password),
            Err(fault) if fault.outcome == Outcome::Unknown => return Err(fault),
            Err(_) => (None, None),
        };
        Ok(candidate.map(|candidate| SettledCandidate { candidate, password, initial_password }))
    }

    /// Settles the assignment's open write, if it has one; the caller holds its subject's turn.
    ///
    /// # Errors
    /// As [`Gateway::settled_candidate`].
    pub(super) async fn settled_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        call: &Call,
    ) -> Result<Assignment, Fault> {
        if assignment.state.ended() {
            return Ok(assignment);
        }
        let resource = assignment_path(&assignment.id);
        let intent = self.open_intent(assignment.id.as_str(), &resource).await?;
        let (intent, row) = self.attempt_again(connection, intent, &resource, call).await?;
        let (assignment, end) = self.concluded_assignment(connection, assignment, intent, row).await?;
        match end {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            Ok(()) | Err(_) => Ok(assignment),
        }
    }

    /// What is to be said of a record whose last write is unknown: why it is, and since when.
    pub(super) async fn unsettled(&self, record: &str) -> Result<Option<Warning>, Fault> {
        let intent = self.0.store.intent(record).await.before_sending()?;
        Ok(intent.map(|intent| {
            let reason = intent.reason.unwrap_or_else(|| "It is being sent.".to_owned());
            let next = match intent.due {
                Some(_) => "The gateway settles it by itself.",
                None => "Only a person can settle it.",
            };
            Warning::new(WarningCode::Unsettled, format!("Unknown since {}. {reason} {next}", intent.opened))
        }))
    }

    async fn open_intent(&self, record: &str, resource: &str) -> Result<Intent, Fault> {
        let intent = self.0.store.intent(record).await.before_sending()?;
        intent.ok_or_else(|| {
            Fault::new(Code::SubjectUnsettled, "An earlier write has to be settled by hand.").at(resource)
        })
    }

    /// Sends the write again in its harmless form, if that is allowed and not too early.
    pub(super) async fn attempt_again(
        &self,
        connection: &Connection,
        mut intent: Intent,
        resource: &str,
        call: &Call,
    ) -> Result<(Intent, Row<Done>), Fault> {
        let now = self.now();
        if intent.under_way {
            let detail = "An earlier write about this is being sent by another instance.";
            let wait = Some(Duration::from_secs(1));
            return Err(connection.own(Fault::new(Code::SubjectUnsettled, detail).after(wait).at(resource)));
        }
        if connection.is_elsewhere(&intent) {
            return Err(self.left_to_a_person(connection, intent, resource).await);
        }
        if let Some(left) = self.0.graces.left(&intent, connection.settle_grace()) {
            let detail = "An earlier write was sent and not answered; the vendor may still be at work on it.";
            let wait = Some(left.max(Duration::from_secs(1)));
            return Err(connection.own(Fault::new(Code::SubjectUnsettled, detail).after(wait).at(resource)));
        }
        if connection.repeat_of(&intent) == Repeat::Never {
            let detail = "An earlier write was sent and not answered, and sending it again could do it twice. Settle it by hand.";
            return Err(connection.own(Fault::new(Code::SubjectUnsettled, detail).at(resource)));
        }
        cut_rest_short(&mut intent, now);
        intent.attempts += 1;
        intent.started = now;
        intent.under_way = true;
        intent.lingering = true;
        intent.settle_from = connection.settle_from(now);
        // In doubt, it is found by the search for orphans: an earlier attempt may have done it.
        let committed = self.0.store.commit(vec![Change::Intent(intent.clone())]).await.before_sending();
        committed.map_err(|fault| connection.own(doubt_at(fault, resource)))?;
        let call = Call { attempt: Attempt::Settling, ..call.clone() };
        let row = self.send_one(connection, &intent.write, &call).await;
        Ok((intent, row.map_err(|fault| unless_proved(fault, resource))))
    }

    /// Writes down that only a person can settle the write, since it went elsewhere, and tells the key and the row it came
    /// from.
    async fn left_to_a_person(&self, connection: &Connection, mut intent: Intent, resource: &str) -> Fault {
        let fault = connection.own(Fault::new(Code::SubjectUnsettled, ELSEWHERE).at(resource));
        if intent.due.is_none() {
            return fault;
        }
        intent.due = None;
        intent.reason = Some(ELSEWHERE.to_owned());
        let mut changes =
            super::journal::told_fault(intent.origin.clone(), intent.write.record(), &fault.clone().unproved());
        changes.push(Change::Intent(intent));
        match self.0.store.commit(changes).await.before_sending() {
            Ok(()) => fault,
            Err(lost) => connection.own(doubt_at(lost, resource)),
        }
    }
}

/// What an earlier attempt may have done is not forgotten because a later one was refused.
pub(super) fn unless_proved(fault: Fault, resource: &str) -> Fault {
    if fault.proof || fault.outcome == Outcome::Unknown {
        return fault;
    }
    fault.unproved().at(resource)
}

/// The fault of a row that was not sent because an earlier write about the same is not settled: nobody would tell the row
/// later what became of the other's write, so it says what is true of itself.
pub(super) fn not_before_it_is_settled(connection: &Connection, fault: Fault) -> Fault {
    if fault.outcome != Outcome::Unknown {
        return fault;
    }
    let detail = format!("An earlier write about this is not settled: {}", fault.detail);
    let unsettled = Fault::new(Code::SubjectUnsettled, detail).after(when_to_ask_again(&fault));
    connection.own(Fault { resource: fault.resource, ..unsettled })
}

/// When it is worth asking again after this end of settling: a try that ended as unknown as before is followed by another in
/// the background. `None` where only a person can settle it.
pub(super) fn when_to_ask_again(fault: &Fault) -> Option<Duration> {
    fault.retry_after.or_else(|| (fault.outcome == Outcome::Unknown).then_some(FIRST_PAUSE))
}

/// Adds to an operator's word that a write was not done what is on record about it, so that the reason is kept.
pub(super) fn with_reason(row: Row<Done>, problem: Option<&Fault>) -> Row<Done> {
    row.map_err(|said| match problem {
        Some(problem) => Fault {
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
pub(super) fn by_hand(outcome: Outcome) -> Result<Row<Done>, Fault> {
    match outcome {
        Outcome::Applied => {
            let warning = Warning::new(WarningCode::SettledByHand, "An operator said that the vendor has done it.");
            Ok(Ok(Applied { value: Done::Nothing, warnings: vec![warning] }))
        }
        Outcome::NotApplied => Ok(Err(Fault::new(Code::SubjectUnsettled, "An operator said that it was not done."))),
        Outcome::Unknown => {
            Err(Fault::of_fields(vec![FieldFault::invalid("/outcome", "must be applied or not_applied")]))
        }
    }
}
