//! Sending journalled writes and writing down how they ended: the one place where an outcome becomes part of a record.
//!
//! Whoever calls it holds the record's turn, and the intent is in the store before [`Gateway::send`] is called.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::audit::Told;
use super::connections::Connection;
use super::{Caller, Gateway, store_lost};
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::capability::{Operation, Repeat};
use crate::domain::journal::{Answer, Intent, Origin, Write};
use crate::domain::operation::{ItemEnd, ItemResult};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::problem::{Code, Fault};
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::{Applied, Booked, Call, Registered, Registration, Row, Update};
use crate::secret::Secret;
use crate::store::{Change, Subject};

/// The background's first pause between two attempts at the same write.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Its longest.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// What is still unknown after the background has rested for so long between its attempts is left to a person. Time in which
/// nothing was tried does not count, whatever the clocks say.
const GIVEN_UP: Duration = Duration::from_hours(24);

/// What a vendor answered, whatever the write was.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Done {
    /// A person is registered or changed.
    Registered(Registered),
    /// A candidate is booked.
    Booked(Booked),
    /// A program's employees are changed.
    Enrolled(EnrolmentCounts),
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

/// Where an operation's progress appears.
pub(super) fn operation_path(id: &impl std::fmt::Display) -> String {
    format!("/operations/{id}")
}

impl Gateway {
    /// An intent for a write about this subject that is about to be sent for the first time.
    pub(super) fn intent(&self, caller: &Caller, connection: &Connection, subject: &str, write: Write) -> Intent {
        let started = self.now();
        let settle_from = connection.settle_from(started);
        Intent {
            tenant: caller.tenant.clone(),
            connection: connection.name.clone(),
            destination: Some(connection.destination()),
            write,
            subject: subject.to_owned(),
            origin: caller.origin.clone(),
            opened: started,
            started,
            attempts: 1,
            under_way: true,
            lingering: true,
            settle_from,
            rested: Duration::ZERO,
            due: Some(settle_from),
            reason: None,
        }
    }

    /// Sends writes of one kind in one vendor call: one result a row, in order.
    pub(super) async fn send(&self, connection: &Connection, writes: &[Write], call: &Call) -> Vec<Row<Done>> {
        let refusal = connection.refusal(writes, call.attempt);
        let sent = refusal.is_none();
        let mut rows = if let Some(fault) = refusal {
            vec![Err(fault); writes.len()]
        } else {
            let rows = deliver(connection, writes, call).await;
            connection.note_seats(rows.iter().filter_map(|row| row.as_ref().err()));
            rows
        };
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
            if sent {
                connection.note(row.as_ref().map(|_| ()), now);
            }
            if let Err(fault) = row {
                *fault = Fault { exchange: Some(call.exchange.id().clone()), ..connection.own(fault.clone()) };
                if fault.outcome == Outcome::Unknown && fault.resource.is_none() {
                    fault.resource = Some(resource_of(write));
                }
            }
        }
        if let Some(write) = writes.first() {
            self.count_rows(connection, write.operation(), &rows);
        }
        rows
    }

    /// Sends one write in a call of its own.
    pub(super) async fn send_one(&self, connection: &Connection, write: &Write, call: &Call) -> Row<Done> {
        let mut rows = self.send(connection, std::slice::from_ref(write), call).await;
        rows.pop().unwrap_or_else(|| Err(Fault::unknown(Code::Internal, "The adapter gave no answer.")))
    }

    /// Writes down how writes ended. If the store is away that is done when it is back; until then the intent says that the
    /// write is under way, so nobody sends it again.
    pub(super) async fn kept(&self, changes: Vec<Change>, resource: &str) -> Result<(), Fault> {
        let kept = self.0.store.commit(changes.clone()).await;
        kept.map_err(|error| {
            self.0.pending.push(changes);
            store_lost(&error, resource)
        })
    }

    /// As [`Self::kept`], with the line about the answer that tells of it, where there is one to be written.
    pub(super) async fn kept_and_told(
        &self,
        changes: Vec<Change>,
        resource: &str,
        (caller, told): (&Caller, Option<Told>),
    ) -> Result<(), Fault> {
        let Some((line, entry)) = caller.line.as_ref().zip(told.and_then(|told| self.line_of_answer(caller, told)))
        else {
            return self.kept(changes, resource).await;
        };
        let all = changes.iter().cloned().chain([Change::Audit(entry.clone())]).collect();
        self.0.store.commit(all).await.map_err(|error| {
            // What will be answered is another thing now.
            line.give_back(entry);
            self.0.pending.push(changes);
            store_lost(&error, resource)
        })
    }

    /// Notes in the intent how its attempt ended. One that ended with a complete answer may be settled at once; any other not
    /// before its grace is over, since the vendor may still be at work. The grace counts from the attempt's end.
    pub(super) fn note_attempt_end(&self, intent: &mut Intent, connection: &Connection, fault: &Fault) {
        let now = self.now();
        intent.reason = Some(fault.to_string());
        intent.lingering = fault.lingering;
        let settle_from = if fault.lingering { connection.settle_from(now) } else { now };
        if fault.lingering {
            self.0.graces.begin(intent);
        }
        rest(intent, connection.repeat_of(intent), settle_from, now);
    }

    /// Forgets the grace of a write that is not unknown any more.
    pub(super) fn end_grace(&self, intent: &Intent, row: &Row<Done>) {
        if !row.as_ref().is_err_and(|fault| fault.outcome == Outcome::Unknown) {
            self.0.graces.end(intent.write.record());
        }
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
        self.kept(changes, &resource).await?;
        result
    }

    /// Writes down how a candidate's write ended; gives back the record as it is then (`None` once it is erased), and the end.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(super) async fn concluded_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: Row<Done>,
    ) -> Result<(Option<Candidate>, Result<(), Fault>), Fault> {
        let resource = candidate_path(&candidate.id);
        let (changes, result) = self.candidate_after(connection, candidate, intent, row);
        let record = changes.iter().find_map(|change| match change {
            Change::Candidate(candidate) => Some(candidate.clone()),
            _ => None,
        });
        self.kept(changes, &resource).await?;
        Ok((record, result.map(|_| ())))
    }

    /// The changes that write down how a candidate's write ended, and the answer.
    pub(super) fn candidate_after(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Candidate, Fault>) {
        let (held, line) = (attempt_held(&intent), self.settled_line(&intent, &row));
        self.end_grace(&intent, &row);
        let (changes, result) = self.candidate_changes(connection, candidate, intent, row);
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }

    fn candidate_changes(
        &self,
        connection: &Connection,
        mut candidate: Candidate,
        mut intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Candidate, Fault>) {
        candidate.last_modified = self.0.environment.now();
        let (settled, origin) = (Change::Settled(candidate.id.to_string()), intent.origin.clone());
        match row {
            Ok(Applied { value, warnings }) => {
                let mut changes = vec![settled];
                let initial_password = own_password(&intent.write).cloned();
                let created = matches!(intent.write, Write::Register(_));
                if let Write::Update(update) = &intent.write {
                    candidate.warnings.retain(|warning| warning.code == WarningCode::PasswordIgnored);
                    candidate.warnings.extend(planned_warnings(connection, update));
                }
                candidate.warnings.extend(warnings);
                candidate.state = CandidateState::Registered;
                candidate.outcome = Outcome::Applied;
                candidate.problem = None;
                if let Done::Registered(Registered { vendor_ref, private }) = value {
                    candidate.vendor_ref.extend(vendor_ref);
                    candidate.private.extend(private);
                }
                if let Write::Update(update) = intent.write {
                    candidate.person = update.candidate.person;
                    let identities = Identity::of(&candidate.person, connection.descriptor().identities);
                    changes.push(Change::Identities(candidate.id.clone(), identities));
                    changes.push(Change::Candidate(candidate.clone()));
                } else if matches!(intent.write, Write::Hide(_)) {
                    changes.push(Change::EraseCandidate(candidate.id.clone()));
                    changes.extend(told(origin, candidate.id.as_str(), ItemEnd::of(ItemResult::Created), Answer::Gone));
                    return (changes, Ok(candidate));
                } else {
                    changes.push(Change::Candidate(candidate.clone()));
                }
                let result = if created { ItemResult::Created } else { ItemResult::Existing };
                let end = ItemEnd { initial_password: initial_password.clone(), ..ItemEnd::of(result) };
                let answer = Answer::Candidate { created, candidate: Box::new(candidate.clone()), initial_password };
                changes.extend(told(origin, candidate.id.as_str(), end, answer));
                (changes, Ok(candidate))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                candidate.problem = Some(Box::new(fault.clone()));
                candidate.state = CandidateState::Unknown;
                candidate.outcome = Outcome::Unknown;
                self.note_attempt_end(&mut intent, connection, &fault);
                let mut changes = told_fault(origin, candidate.id.as_str(), &fault);
                changes.extend([Change::Candidate(candidate), Change::Intent(intent)]);
                (changes, Err(fault))
            }
            Err(fault) => {
                candidate.problem = Some(Box::new(fault.clone()));
                let mut changes = vec![settled];
                changes.extend(told_fault(origin, candidate.id.as_str(), &fault));
                if intent.write.operation() == Operation::CandidatesCreate {
                    candidate.state = CandidateState::Failed;
                    candidate.outcome = Outcome::NotApplied;
                    // The next request for this person starts afresh.
                    changes.push(Change::Identities(candidate.id.clone(), Vec::new()));
                } else {
                    candidate.state = CandidateState::Registered;
                    candidate.outcome = Outcome::Applied;
                    let identities = Identity::of(&candidate.person, connection.descriptor().identities);
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
        self.kept(changes, &resource).await?;
        result
    }

    /// Writes down how an assignment's write ended; gives back the record as it is then, and the end.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(super) async fn concluded_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: Row<Done>,
    ) -> Result<(Assignment, Result<(), Fault>), Fault> {
        let resource = assignment_path(&assignment.id);
        let (changes, result) = self.assignment_after(connection, assignment.clone(), intent, row);
        let record = changes.iter().find_map(|change| match change {
            Change::Assignment(assignment) => Some(assignment.clone()),
            _ => None,
        });
        self.kept(changes, &resource).await?;
        Ok((record.unwrap_or(assignment), result.map(|_| ())))
    }

    /// The changes that write down how an assignment's write ended, and the answer.
    pub(super) fn assignment_after(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Assignment, Fault>) {
        let (held, line) = (attempt_held(&intent), self.settled_line(&intent, &row));
        self.end_grace(&intent, &row);
        let (changes, result) = self.assignment_changes(connection, assignment, intent, row);
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }

    fn assignment_changes(
        &self,
        connection: &Connection,
        mut assignment: Assignment,
        mut intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Assignment, Fault>) {
        assignment.last_modified = self.0.environment.now();
        let (settled, origin) = (Change::Settled(assignment.id.to_string()), intent.origin.clone());
        match row {
            Ok(Applied { value, warnings }) => {
                // A repeat finds what the first attempt made.
                let created = intent.attempts > 1 || !already_there(&value);
                assignment.warnings.extend(warnings);
                assignment.outcome = Outcome::Applied;
                assignment.problem = None;
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
                let result = if created { ItemResult::Created } else { ItemResult::Existing };
                let answer = match &intent.write {
                    Write::Cancel(_) => Answer::Gone,
                    _ => Answer::Assignment { created, assignment: Box::new(assignment.clone()) },
                };
                let mut changes = told(origin, assignment.id.as_str(), ItemEnd::of(result), answer);
                changes.extend([Change::Assignment(assignment.clone()), settled]);
                (changes, Ok(assignment))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                assignment.problem = Some(Box::new(fault.clone()));
                assignment.state = AssignmentState::Unknown;
                assignment.outcome = Outcome::Unknown;
                self.note_attempt_end(&mut intent, connection, &fault);
                let mut changes = told_fault(origin, assignment.id.as_str(), &fault);
                changes.extend([Change::Assignment(assignment), Change::Intent(intent)]);
                (changes, Err(fault))
            }
            Err(fault) => {
                assignment.problem = Some(Box::new(fault.clone()));
                let mut changes = told_fault(origin, assignment.id.as_str(), &fault);
                if intent.write.operation() == Operation::AssignmentsCreate {
                    assignment.state = AssignmentState::Failed;
                    assignment.outcome = Outcome::NotApplied;
                } else {
                    assignment.state = AssignmentState::Assigned;
                    assignment.outcome = Outcome::Applied;
                }
                changes.extend([Change::Assignment(assignment), settled]);
                (changes, Err(fault))
            }
        }
    }
}

/// Holds what concludes an attempt to that attempt; an intent that is at rest is concluded by hand.
pub(super) fn attempt_held(intent: &Intent) -> Option<Change> {
    intent.under_way.then(|| Change::AttemptHeld(intent.write.record().to_owned(), intent.started))
}

/// Whether the vendor said that the booking was there before.
pub(super) const fn already_there(done: &Done) -> bool {
    matches!(done, Done::Booked(Booked { already_there: true, .. }))
}

/// Returns the password that the write sets, if it sets one.
pub(super) const fn sent_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// The password the gateway made up for the person, if the write carries one.
pub(super) const fn own_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { own_password: true, password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// What ties an intent to the key and the row it comes from: written in one transaction with it. The row is then about
/// these.
pub(super) fn bound(intent: &Intent, subjects: &[Subject]) -> Vec<Change> {
    let (record, Origin { key, item }) = (intent.write.record().to_owned(), intent.origin.clone());
    let key = key.map(|key| Change::KeyBound(key, record.clone()));
    let item = item.map(|item| Change::ItemClaimed(item, record.clone(), subjects.to_vec()));
    key.into_iter().chain(item).collect()
}

/// Tells the key and the row a write came from that it is done.
fn told(origin: Origin, record: &str, end: ItemEnd, answer: Answer) -> Vec<Change> {
    let key = origin.key.map(|key| Change::KeyAnswered(key, answer));
    let item = origin.item.map(|item| Change::ItemEnded(item, Some(record.to_owned()), end));
    key.into_iter().chain(item).collect()
}

/// Tells the key and the row a write came from that it failed, or that it is not known.
pub(super) fn told_fault(origin: Origin, record: &str, fault: &Fault) -> Vec<Change> {
    let key = origin.key.map(|key| match fault.outcome {
        Outcome::Unknown => Change::KeyOpen(key),
        Outcome::Applied | Outcome::NotApplied => Change::KeyFreed(key),
    });
    let end = || ItemEnd::failed(fault.clone());
    let item = origin.item.map(|item| Change::ItemEnded(item, Some(record.to_owned()), end()));
    key.into_iter().chain(item).collect()
}

/// No task is sending the write any more: schedules the background's next attempt, with growing pauses. `settle_from` is
/// when the grace of the last attempt is over.
pub(super) fn rest(intent: &mut Intent, repeat: Repeat, settle_from: Timestamp, now: Timestamp) {
    intent.under_way = false;
    intent.settle_from = settle_from;
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(intent.attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(LONGEST_PAUSE);
    if intent.rested >= GIVEN_UP || repeat == Repeat::Never {
        intent.due = None;
        return;
    }
    intent.rested = intent.rested.saturating_add(pause);
    let rested = SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok());
    intent.due = Some(settle_from.max(rested.unwrap_or(now)));
}

/// Takes back what is left of the pause that a request does not wait for.
pub(super) fn cut_rest_short(intent: &mut Intent, now: Timestamp) {
    let left = intent.due.and_then(|due| Duration::try_from(due.duration_since(now)).ok()).unwrap_or_default();
    intent.rested = intent.rested.saturating_sub(left.min(LONGEST_PAUSE));
}

/// What there is to remark about a change that was made. Until then the remarks of the write before stand, and a change
/// that was refused leaves no trace.
fn planned_warnings(connection: &Connection, update: &Update) -> Vec<Warning> {
    let planned = connection.vendor().plan_update(update.candidate.clone(), update.touched.clone());
    planned.map_or_else(|_| Vec::new(), |planned| planned.warnings)
}

/// Where the settled state of a write appears.
pub(super) fn resource_of(write: &Write) -> String {
    match write {
        Write::Register(_) | Write::Update(_) | Write::Hide(_) => candidate_path(&write.record()),
        Write::Assign(_) | Write::Cancel(_) => assignment_path(&write.record()),
        Write::Enrol(enrolment) => {
            let operation = enrolment.id.split('/').next().unwrap_or_default();
            operation_path(&operation)
        }
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
        [Write::Enrol(enrolment)] => {
            let row = vendor.enrol(&enrolment.call, call).await;
            vec![row.map(|applied| applied.map(Done::Enrolled))]
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn intent() -> Intent {
        let id = AssignmentId::parse(&format!("asg_{}", "0".repeat(32))).unwrap();
        Intent {
            tenant: String::new(),
            connection: String::new(),
            destination: None,
            write: Write::Cancel(Cancellation { id, candidate: VendorKey("a".into()), assessment: "1".into() }),
            subject: String::new(),
            origin: Origin::default(),
            opened: at(0),
            started: at(0),
            attempts: 1,
            under_way: true,
            lingering: true,
            settle_from: at(30),
            rested: Duration::ZERO,
            due: None,
            reason: None,
        }
    }

    #[test]
    fn the_background_waits_for_the_grace_and_longer_each_time() {
        let mut intent = intent();
        rest(&mut intent, Repeat::Harmless, at(130), at(100));
        assert_eq!((intent.under_way, intent.settle_from, intent.due), (false, at(130), Some(at(130))));
        for (attempts, pause) in [(1, 5), (2, 10), (3, 20), (30, 600), (u32::MAX, 600)] {
            intent.attempts = attempts;
            intent.rested = Duration::ZERO;
            rest(&mut intent, Repeat::Harmless, at(100), at(100));
            assert_eq!((intent.settle_from, intent.due), (at(100), Some(at(100 + pause))));
        }
    }

    #[test]
    fn what_may_not_be_repeated_or_is_too_old_is_left_to_a_person() {
        let mut intent = intent();
        rest(&mut intent, Repeat::Never, at(100), at(100));
        assert_eq!(intent.due, None);
        // However long nothing was tried, it is tried.
        let year = 365 * 24 * 3600;
        rest(&mut intent, Repeat::Harmless, at(year), at(year));
        assert!(intent.due.is_some());
        let (mut now, mut attempts) = (at(0), 0);
        while let Some(due) = intent.due {
            (intent.attempts, now, attempts) = (intent.attempts + 1, due, attempts + 1);
            rest(&mut intent, Repeat::Harmless, now, now);
        }
        assert_eq!((attempts, now.duration_since(at(year)).as_hours()), (150, 24));
    }

    #[test]
    fn what_requests_try_in_between_does_not_count_as_rest() {
        let mut intent = intent();
        for second in 0..10_000 {
            cut_rest_short(&mut intent, at(second));
            rest(&mut intent, Repeat::Harmless, at(second), at(second));
            intent.attempts += 1;
        }
        assert!(intent.due.is_some() && intent.rested < Duration::from_secs(11_000), "{:?}", intent.rested);
    }
}
