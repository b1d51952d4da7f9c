//! Settling: finding out what became of a write whose answer never came, in the way the vendor's adapter declares.
//!
//! A write is settled by whoever needs its subject next, and by the background runner with growing pauses. Nothing is ever
//! sent again without the intent saying so first, and never while an earlier attempt may still take effect.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::connections::{Connection, wait_until};
use super::journal::{Done, assignment_path, candidate_path};
use super::{BeforeSending as _, Gateway};
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState};
use crate::domain::capability::Repeat;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::{Intent, Write};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::vendor::{Applied, Attempt, Call, Row};
use crate::secret::Secret;
use crate::store::Change;

/// How often the runner looks for open writes.
const ROUND: Duration = Duration::from_secs(1);
/// The runner's first and longest pause between two attempts at the same write.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(10));

/// A candidate whose open write was settled.
pub(super) struct SettledCandidate {
    /// The record as it is now.
    pub(super) candidate: Candidate,
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
        if matches!(candidate.state, CandidateState::Registered | CandidateState::Failed) {
            return Ok(Some(SettledCandidate { candidate, initial_password: None }));
        }
        let resource = candidate_path(&candidate.id);
        let intent = self.open_intent(candidate.id.as_str(), &resource).await?;
        let own_password = match &intent.write {
            Write::Register(registration) if registration.own_password => registration.password.clone(),
            _ => None,
        };
        let (intent, row) = self.attempt_again(connection, intent, &resource, call).await?;
        let (tenant, id) = (candidate.tenant.clone(), candidate.id.clone());
        let initial_password = match self.conclude_candidate(connection, candidate, intent, row).await {
            Ok(_) => own_password,
            Err(fault) if fault.outcome == Outcome::Unknown => return Err(fault),
            Err(_) => None,
        };
        let candidate = self.0.store.candidate(&tenant, &id).await.before_sending()?;
        Ok(candidate.map(|candidate| SettledCandidate { candidate, initial_password }))
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
        if !matches!(assignment.state, AssignmentState::Pending | AssignmentState::Unknown) {
            return Ok(assignment);
        }
        let resource = assignment_path(&assignment.id);
        let intent = self.open_intent(assignment.id.as_str(), &resource).await?;
        let (intent, row) = self.attempt_again(connection, intent, &resource, call).await?;
        match self.conclude_assignment(connection, assignment.clone(), intent, row).await {
            Err(fault) if fault.outcome == Outcome::NotApplied => {
                let now = self.0.store.assignment(&assignment.tenant, &assignment.id).await.before_sending()?;
                Ok(now.unwrap_or(assignment))
            }
            end => end,
        }
    }

    async fn open_intent(&self, record: &str, resource: &str) -> Result<Intent, Fault> {
        let intent = self.0.store.intent(record).await.before_sending()?;
        intent.ok_or_else(|| {
            Fault::new(Code::SubjectUnsettled, "An earlier write has to be settled by hand.").at(resource)
        })
    }

    /// Sends the write again in its harmless form, if that is allowed and not too early.
    async fn attempt_again(
        &self,
        connection: &Connection,
        mut intent: Intent,
        resource: &str,
        call: &Call,
    ) -> Result<(Intent, Row<Done>), Fault> {
        let now = self.0.environment.now();
        if now < intent.settle_from {
            let detail = "An earlier write was sent and not answered; the vendor may still be at work on it.";
            let wait = Some(wait_until(now, intent.settle_from));
            return Err(connection.own(Fault::new(Code::SubjectUnsettled, detail).after(wait).at(resource)));
        }
        if intent.write.repeat(connection.vendor()) == Repeat::Never {
            let detail = "An earlier write was sent and not answered, and sending it again could do it twice. Settle it by hand.";
            return Err(connection.own(Fault::new(Code::SubjectUnsettled, detail).at(resource)));
        }
        intent.attempts += 1;
        intent.started = now;
        intent.settle_from = connection.settle_from(now);
        self.0.store.commit(vec![Change::Intent(intent.clone())]).await.before_sending()?;
        let call = Call { attempt: Attempt::Settling, ..call.clone() };
        let row = self.send_one(connection, &intent.write, &call).await;
        Ok((intent, row.map_err(|fault| unless_proved(fault, resource))))
    }

    /// Goes on with what an earlier process left open: what was under way becomes `unknown`, and a task settles it in the
    /// background from then on.
    pub(super) async fn recover(&self) -> Result<(), Fault> {
        let open = self.0.store.intents().await.before_sending()?;
        let mut changes = Vec::new();
        for intent in &open {
            if let Some(unknown) = self.abandoned(intent).await? {
                changes.push(unknown);
                changes.extend(self.with_grace(intent).map(Change::Intent));
            }
        }
        if !changes.is_empty() {
            tracing::info!(open = open.len(), "writes left open by an earlier process are unknown until settled");
            self.0.store.commit(changes).await.before_sending()?;
        }
        // The runner holds the gateway weakly: it ends with it.
        let gateway = std::sync::Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut due = HashMap::new();
            loop {
                tokio::time::sleep(ROUND).await;
                let Some(inner) = gateway.upgrade() else { return };
                Gateway(inner).settle_due(&mut due).await;
            }
        });
        Ok(())
    }

    /// The intent of an attempt that was cut off, its grace counted from now: it may have begun long after the intent was
    /// written. `None` where the connection is not configured any more.
    fn with_grace(&self, intent: &Intent) -> Option<Intent> {
        let connection = self.0.connections.get(&intent.connection)?;
        Some(Intent { settle_from: connection.settle_from(self.0.environment.now()), ..intent.clone() })
    }

    /// The record of a write that was under way when its process ended, as unknown.
    async fn abandoned(&self, intent: &Intent) -> Result<Option<Change>, Fault> {
        let record = intent.write.record();
        if let Ok(id) = CandidateId::parse(record) {
            let candidate = self.0.store.candidate(&intent.tenant, &id).await.before_sending()?;
            let pending = candidate.filter(|candidate| candidate.state == CandidateState::Pending);
            let unknown =
                |candidate| Candidate { state: CandidateState::Unknown, outcome: Outcome::Unknown, ..candidate };
            return Ok(pending.map(unknown).map(Change::Candidate));
        }
        let Ok(id) = AssignmentId::parse(record) else { return Ok(None) };
        let assignment = self.0.store.assignment(&intent.tenant, &id).await.before_sending()?;
        let pending = assignment.filter(|assignment| assignment.state == AssignmentState::Pending);
        let unknown =
            |assignment| Assignment { state: AssignmentState::Unknown, outcome: Outcome::Unknown, ..assignment };
        Ok(pending.map(unknown).map(Change::Assignment))
    }

    /// One round of the runner over every open write nobody is working on.
    async fn settle_due(&self, due: &mut HashMap<String, (Timestamp, Duration)>) {
        if self.refuse_when_draining().is_err() {
            return;
        }
        let open = match self.0.store.intents().await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "the runner cannot read the open writes");
                return;
            }
        };
        due.retain(|record, _| open.iter().any(|intent| intent.write.record() == record));
        for intent in open {
            let now = self.0.environment.now();
            let record = intent.write.record().to_owned();
            let (next, pause) = due.get(&record).copied().unwrap_or((intent.settle_from, PAUSES.0));
            if now < intent.settle_from || now < next {
                continue;
            }
            let later = now.saturating_add(pause).unwrap_or(now);
            due.insert(record.clone(), (later, (pause * 2).min(PAUSES.1)));
            if let Err(fault) = self.settle_in_background(&intent).await {
                tracing::warn!(
                    record,
                    connection = intent.connection,
                    code = fault.code.as_str(),
                    "a write stays unknown"
                );
            }
        }
    }

    async fn settle_in_background(&self, intent: &Intent) -> Result<(), Fault> {
        let connection = self.connection_of(&intent.connection)?;
        if intent.write.repeat(connection.vendor()) == Repeat::Never {
            return Ok(());
        }
        let record = intent.write.record();
        let call = Call { attempt: Attempt::Settling, request_id: format!("settle-{record}"), traceparent: None };
        if let Ok(id) = CandidateId::parse(record) {
            // Somebody who holds the turn is settling it already.
            let Some(_turn) = self.0.subjects.try_turn(record) else { return Ok(()) };
            if let Some(candidate) = self.0.store.candidate(&intent.tenant, &id).await.before_sending()? {
                self.settled_candidate(connection, candidate, &call).await?;
            }
        } else if let Ok(id) = AssignmentId::parse(record)
            && let Some(assignment) = self.0.store.assignment(&intent.tenant, &id).await.before_sending()?
        {
            let Some(_turn) = self.0.subjects.try_turn(&assignment.turn()) else { return Ok(()) };
            // Read again: it may have been settled before the turn was ours.
            if let Some(assignment) = self.0.store.assignment(&intent.tenant, &id).await.before_sending()? {
                self.settled_assignment(connection, assignment, &call).await?;
            }
        }
        Ok(())
    }
}

/// What an earlier attempt may have done is not forgotten because a later one was refused.
fn unless_proved(fault: Fault, resource: &str) -> Fault {
    if fault.proof || fault.outcome == Outcome::Unknown {
        return fault;
    }
    fault.unproved().at(resource)
}

/// The row an operator's word stands for.
pub(super) fn by_hand(outcome: Outcome) -> Result<Row<Done>, Fault> {
    match outcome {
        Outcome::Applied => {
            let warning = Warning::new("settled_by_hand", "An operator said that the vendor has done it.");
            Ok(Ok(Applied { value: Done::Nothing, warnings: vec![warning] }))
        }
        Outcome::NotApplied => Ok(Err(Fault::new(Code::SubjectUnsettled, "An operator said that it was not done."))),
        Outcome::Unknown => {
            Err(Fault::of_fields(vec![FieldFault::invalid("/outcome", "must be applied or not_applied")]))
        }
    }
}
