//! Sending journalled writes and writing down how they ended: the one place where an outcome becomes part of a record.
//!
//! Whoever calls it holds the record's turn, and the intent is in the store before [`Gateway::send`] is called.

use jiff::Timestamp;

use super::connections::Connection;
use super::{Gateway, store_lost};
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::capability::Operation;
use crate::domain::journal::{Intent, Write};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::problem::{Code, Fault};
use crate::domain::vendor::{Applied, Booked, Call, Registered, Row, Update};
use crate::store::Change;

/// What a vendor answered, whatever the write was.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Done {
    /// A person is registered or changed.
    Registered(Registered),
    /// A candidate is booked.
    Booked(Booked),
    /// Nothing but that it is done.
    Nothing,
}

/// Where the settled state of a candidate appears.
pub(super) fn candidate_path(id: &impl std::fmt::Display) -> String {
    format!("/candidates/{id}")
}

/// Where the settled state of an assignment appears.
pub(super) fn assignment_path(id: &impl std::fmt::Display) -> String {
    format!("/assignments/{id}")
}

impl Gateway {
    /// An intent for a write that is about to be sent for the first time.
    pub(super) fn intent(&self, tenant: &str, connection: &Connection, write: Write) -> Intent {
        let started = self.0.environment.now();
        Intent {
            tenant: tenant.to_owned(),
            connection: connection.name.clone(),
            write,
            started,
            attempts: 1,
            settle_from: connection.settle_from(started),
            reason: None,
        }
    }

    /// Sends writes of one kind in one vendor call: one result a row, in order.
    pub(super) async fn send(&self, connection: &Connection, writes: &[Write], call: &Call) -> Vec<Row<Done>> {
        let mut rows = deliver(connection, writes, call).await;
        if rows.len() != writes.len() {
            // Only a defect of an adapter leads here; whatever it did is not known for any row.
            tracing::error!(
                connection = connection.name,
                rows = rows.len(),
                "an adapter answered a wrong number of rows"
            );
            let fault = Fault::unknown(Code::Internal, "The adapter lost track of the rows.");
            rows = writes.iter().map(|_| Err(fault.clone())).collect();
        }
        let now = self.0.environment.now();
        for (row, write) in rows.iter_mut().zip(writes) {
            connection.note(row.as_ref().map(|_| ()), now);
            if let Err(fault) = row {
                *fault = connection.own(fault.clone());
                if fault.outcome == Outcome::Unknown && fault.resource.is_none() {
                    fault.resource = Some(path(write));
                }
            }
        }
        rows
    }

    /// Sends one write in a call of its own.
    pub(super) async fn send_one(&self, connection: &Connection, write: &Write, call: &Call) -> Row<Done> {
        let mut rows = self.send(connection, std::slice::from_ref(write), call).await;
        rows.pop().unwrap_or_else(|| Err(Fault::unknown(Code::Internal, "The adapter gave no answer.")))
    }

    /// Writes down how a candidate's write ended.
    ///
    /// # Errors
    /// The row's fault; `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(super) async fn conclude_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: Row<Done>,
    ) -> Result<Candidate, Fault> {
        let resource = candidate_path(&candidate.id);
        let (changes, result) = self.candidate_after(connection, candidate, intent, row);
        self.0.store.commit(changes).await.map_err(|error| store_lost(&error, &resource))?;
        result
    }

    /// The changes that write down how a candidate's write ended, and the answer.
    pub(super) fn candidate_after(
        &self,
        connection: &Connection,
        mut candidate: Candidate,
        mut intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Candidate, Fault>) {
        candidate.last_modified = self.0.environment.now();
        let settled = Change::Settled(candidate.id.to_string());
        match row {
            Ok(Applied { value, warnings }) => {
                let mut changes = vec![settled];
                if let Write::Update(update) = &intent.write {
                    candidate.warnings = planned_warnings(connection, update);
                }
                candidate.warnings.extend(warnings);
                candidate.state = CandidateState::Registered;
                candidate.outcome = Outcome::Applied;
                if let Done::Registered(Registered { vendor_ref, private }) = value {
                    candidate.vendor_ref.extend(vendor_ref);
                    candidate.private.extend(private);
                }
                if let Write::Update(update) = intent.write {
                    candidate.person = update.candidate.person;
                    let identities = Identity::of(&candidate.person, connection.descriptor().by_email);
                    changes.push(Change::Identities(candidate.id.clone(), identities));
                    changes.push(Change::Candidate(candidate.clone()));
                } else if matches!(intent.write, Write::Hide(_)) {
                    changes.push(Change::EraseCandidate(candidate.id.clone()));
                } else {
                    changes.push(Change::Candidate(candidate.clone()));
                }
                (changes, Ok(candidate))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                candidate.state = CandidateState::Unknown;
                candidate.outcome = Outcome::Unknown;
                let now = candidate.last_modified;
                note_end(&mut intent, &fault, now, connection.settle_from(now));
                (vec![Change::Candidate(candidate), Change::Intent(intent)], Err(fault))
            }
            Err(fault) => {
                let mut changes = vec![settled];
                if intent.write.operation() == Operation::CandidatesCreate {
                    candidate.state = CandidateState::Failed;
                    candidate.outcome = Outcome::NotApplied;
                    // The next request for this person starts afresh.
                    changes.push(Change::Identities(candidate.id.clone(), Vec::new()));
                } else {
                    candidate.state = CandidateState::Registered;
                    candidate.outcome = Outcome::Applied;
                    let identities = Identity::of(&candidate.person, connection.descriptor().by_email);
                    changes.push(Change::Identities(candidate.id.clone(), identities));
                }
                changes.push(Change::Candidate(candidate));
                (changes, Err(fault))
            }
        }
    }

    /// Writes down how an assignment's write ended.
    ///
    /// # Errors
    /// The row's fault; `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(super) async fn conclude_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: Row<Done>,
    ) -> Result<Assignment, Fault> {
        let resource = assignment_path(&assignment.id);
        let (changes, result) = self.assignment_after(connection, assignment, intent, row);
        self.0.store.commit(changes).await.map_err(|error| store_lost(&error, &resource))?;
        result
    }

    /// The changes that write down how an assignment's write ended, and the answer.
    pub(super) fn assignment_after(
        &self,
        connection: &Connection,
        mut assignment: Assignment,
        mut intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Assignment, Fault>) {
        assignment.last_modified = self.0.environment.now();
        let settled = Change::Settled(assignment.id.to_string());
        match row {
            Ok(Applied { value, warnings }) => {
                assignment.warnings.extend(warnings);
                assignment.outcome = Outcome::Applied;
                if matches!(intent.write, Write::Cancel(_)) {
                    assignment.state = AssignmentState::Cancelled;
                    assignment.launch = None;
                } else {
                    assignment.state = AssignmentState::Assigned;
                }
                if let Done::Booked(Booked { vendor_ref, launch, already_there: _ }) = value {
                    assignment.vendor_ref.extend(vendor_ref);
                    assignment.launch = launch;
                }
                (vec![Change::Assignment(assignment.clone()), settled], Ok(assignment))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                assignment.state = AssignmentState::Unknown;
                assignment.outcome = Outcome::Unknown;
                let now = assignment.last_modified;
                note_end(&mut intent, &fault, now, connection.settle_from(now));
                (vec![Change::Assignment(assignment), Change::Intent(intent)], Err(fault))
            }
            Err(fault) => {
                if intent.write.operation() == Operation::AssignmentsCreate {
                    assignment.state = AssignmentState::Failed;
                    assignment.outcome = Outcome::NotApplied;
                } else {
                    assignment.state = AssignmentState::Assigned;
                    assignment.outcome = Outcome::Applied;
                }
                (vec![Change::Assignment(assignment), settled], Err(fault))
            }
        }
    }
}

/// An attempt that ended with an answer or a reset may be settled at once; one that timed out not before its grace is
/// over, since the vendor may still be at work. The grace counts from the attempt's end: when the intent was written says
/// little of when it began, for it may have waited behind the other rows of a bulk and for the connection's pace.
fn note_end(intent: &mut Intent, fault: &Fault, now: Timestamp, after_grace: Timestamp) {
    intent.reason = Some(fault.to_string());
    intent.settle_from = if fault.lingering { after_grace } else { now };
}

/// What there is to remark about a change that was made. Until then the remarks of the write before stand, and a change
/// that was refused leaves no trace.
fn planned_warnings(connection: &Connection, update: &Update) -> Vec<Warning> {
    let planned = connection.vendor().plan_update(update.candidate.clone(), update.touched.clone());
    planned.map_or_else(|_| Vec::new(), |planned| planned.warnings)
}

fn path(write: &Write) -> String {
    match write {
        Write::Register(_) | Write::Update(_) | Write::Hide(_) => candidate_path(&write.record()),
        Write::Assign(_) | Write::Cancel(_) => assignment_path(&write.record()),
    }
}

async fn deliver(connection: &Connection, writes: &[Write], call: &Call) -> Vec<Row<Done>> {
    let vendor = connection.vendor();
    match writes {
        [Write::Update(update)] => vec![vendor.update(update, call).await.map(|applied| applied.map(Done::Registered))],
        [Write::Hide(candidate)] => {
            vec![vendor.hide(candidate, call).await.map(|applied| applied.map(|()| Done::Nothing))]
        }
        [Write::Cancel(cancellation)] => {
            vec![vendor.cancel(cancellation, call).await.map(|applied| applied.map(|()| Done::Nothing))]
        }
        [Write::Register(_), ..] => {
            let registrations: Vec<_> = writes
                .iter()
                .filter_map(
                    |write| if let Write::Register(registration) = write { Some(registration.clone()) } else { None },
                )
                .collect();
            let rows = vendor.register(&registrations, call).await;
            rows.into_iter().map(|row| row.map(|applied| applied.map(Done::Registered))).collect()
        }
        [Write::Assign(_), ..] => {
            let bookings: Vec<_> = writes
                .iter()
                .filter_map(|write| if let Write::Assign(booking) = write { Some(booking.clone()) } else { None })
                .collect();
            let rows = vendor.assign(&bookings, call).await;
            rows.into_iter().map(|row| row.map(|applied| applied.map(Done::Booked))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AssignmentId;
    use crate::domain::vendor::{Cancellation, VendorKey};

    #[test]
    fn the_grace_of_an_attempt_that_waited_long_counts_from_its_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let id = AssignmentId::parse(&format!("asg_{}", "0".repeat(32))).unwrap();
        let write = Write::Cancel(Cancellation { id, candidate: VendorKey("a".into()), assessment: "1".into() });
        let (tenant, connection) = (String::new(), String::new());
        let mut intent =
            Intent { tenant, connection, write, started: at(0), attempts: 1, settle_from: at(30), reason: None };
        let timed_out = Fault { lingering: true, ..Fault::unknown(Code::VendorTimeout, "x") };
        note_end(&mut intent, &timed_out, at(100), at(130));
        assert_eq!(intent.settle_from, at(130));
        note_end(&mut intent, &Fault::unknown(Code::VendorTimeout, "reset"), at(140), at(170));
        assert_eq!(intent.settle_from, at(140));
    }
}
