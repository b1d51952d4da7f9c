//! Sending journalled writes and writing down how they ended: the one place where an outcome becomes part of a record.
//!
//! Whoever calls it holds the record's turn, and the intent is in the store before [`Gateway::send`] is called.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::capability::{RetrySafety, WriteKind};
use crate::domain::error::{Code, Error};
use crate::domain::intent::{Intent, StoredReply, Write, WriteOrigin};
use crate::domain::operation::{ItemOutcome, ItemStatus};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::{Booked, CallContext, Registered, Registration, RowResult, Update, WriteSuccess};
use crate::secret::Secret;
use crate::service::audit::AuditFacts;
use crate::service::connections::Connection;
use crate::service::{Gateway, RequestContext, store_lost};
use crate::store::{Mutation, SubjectHash};

/// The background's first pause between two attempts at the same write.
pub(in crate::service) const MIN_BACKOFF: Duration = Duration::from_secs(5);
/// Its longest.
pub(in crate::service) const MAX_BACKOFF: Duration = Duration::from_mins(10);
/// What is still unknown after the background has rested for so long between its attempts is left to a person. Time in which
/// nothing was tried does not count, whatever the clocks say.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// What a vendor answered, whatever the write was.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::service) enum VendorReply {
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
pub(in crate::service) fn candidate_path(id: &impl std::fmt::Display) -> String {
    format!("/candidates/{id}")
}

/// Where the settled state of an assignment appears.
pub(in crate::service) fn assignment_path(id: &impl std::fmt::Display) -> String {
    format!("/assignments/{id}")
}

/// Where an operation's progress appears.
pub(in crate::service) fn operation_path(id: &impl std::fmt::Display) -> String {
    format!("/operations/{id}")
}

impl Gateway {
    /// An intent for a write about this subject that is about to be sent for the first time.
    pub(in crate::service) fn intent(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        subject: &str,
        write: Write,
    ) -> Intent {
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
    pub(in crate::service) async fn send(
        &self,
        connection: &Connection,
        writes: &[Write],
        call: &CallContext,
    ) -> Vec<RowResult<VendorReply>> {
        let refusal = connection.refusal(writes, call.purpose);
        let sent = refusal.is_none();
        let mut rows = if let Some(fault) = refusal {
            vec![Err(fault); writes.len()]
        } else {
            let rows = call_vendor(connection, writes, call).await;
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
            let fault = Error::unknown(Code::Internal, "The adapter lost track of the rows.");
            rows = writes.iter().map(|_| Err(fault.clone())).collect();
        }
        let now = self.0.environment.now();
        for (row, write) in rows.iter_mut().zip(writes) {
            if sent {
                connection.note(row.as_ref().map(|_| ()), now);
            }
            if let Err(fault) = row {
                *fault =
                    Error { exchange: Some(call.exchange.id().clone()), ..connection.tag_connection(fault.clone()) };
                if fault.outcome == Outcome::Unknown && fault.resource.is_none() {
                    fault.resource = Some(resource_path(write));
                }
            }
        }
        if let Some(write) = writes.first() {
            self.count_rows(connection, write.kind(), &rows);
        }
        rows
    }

    /// Sends one write in a call of its own.
    pub(in crate::service) async fn send_one(
        &self,
        connection: &Connection,
        write: &Write,
        call: &CallContext,
    ) -> RowResult<VendorReply> {
        let mut rows = self.send(connection, std::slice::from_ref(write), call).await;
        rows.pop().unwrap_or_else(|| Err(Error::unknown(Code::Internal, "The adapter gave no answer.")))
    }

    /// Writes down how writes ended. If the store is away that is done when it is back; until then the intent says that the
    /// write is under way, so nobody sends it again.
    pub(in crate::service) async fn commit_outcome(&self, changes: Vec<Mutation>, resource: &str) -> Result<(), Error> {
        let kept = self.0.store.commit(changes.clone()).await;
        kept.map_err(|error| {
            self.0.pending.push(changes);
            store_lost(&error, resource)
        })
    }

    /// As [`Self::kept`], with the line about the answer that tells of it, where there is one to be written.
    pub(in crate::service) async fn commit_outcome_with_audit(
        &self,
        changes: Vec<Mutation>,
        resource: &str,
        (caller, told): (&RequestContext, Option<AuditFacts>),
    ) -> Result<(), Error> {
        let Some((line, entry)) = caller.line.as_ref().zip(told.and_then(|told| self.response_entry(caller, told)))
        else {
            return self.commit_outcome(changes, resource).await;
        };
        let all = changes.iter().cloned().chain([Mutation::Audit(entry.clone())]).collect();
        self.0.store.commit(all).await.map_err(|error| {
            // What will be answered is another thing now.
            line.restore(entry);
            self.0.pending.push(changes);
            store_lost(&error, resource)
        })
    }

    /// Notes in the intent how its attempt ended. One that ended with a complete answer may be settled at once; any other not
    /// before its grace is over, since the vendor may still be at work. The grace counts from the attempt's end.
    pub(in crate::service) fn schedule_reconciliation(
        &self,
        intent: &mut Intent,
        connection: &Connection,
        fault: &Error,
    ) {
        let now = self.now();
        intent.reason = Some(fault.to_string());
        intent.lingering = fault.lingering;
        let settle_from = if fault.lingering { connection.settle_from(now) } else { now };
        if fault.lingering {
            self.0.graces.begin(intent);
        }
        schedule_next_attempt(intent, connection.repeat_of(intent), settle_from, now);
    }

    /// Forgets the grace of a write that is not unknown any more.
    pub(in crate::service) fn end_grace(&self, intent: &Intent, row: &RowResult<VendorReply>) {
        if !row.as_ref().is_err_and(|fault| fault.outcome == Outcome::Unknown) {
            self.0.graces.end(intent.write.record_id());
        }
    }

    /// Writes down how a candidate's write ended.
    ///
    /// # Errors
    /// The row's fault; `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(in crate::service) async fn conclude_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> Result<Candidate, Error> {
        let resource = candidate_path(&candidate.id);
        let (changes, result) = self.candidate_conclusion(connection, candidate, intent, row);
        self.commit_outcome(changes, &resource).await?;
        result
    }

    /// Writes down how a candidate's write ended; gives back the record as it is then (`None` once it is erased), and the end.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(in crate::service) async fn concluded_candidate(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> Result<(Option<Candidate>, Result<(), Error>), Error> {
        let resource = candidate_path(&candidate.id);
        let (changes, result) = self.candidate_conclusion(connection, candidate, intent, row);
        let record = changes.iter().find_map(|change| match change {
            Mutation::Candidate(candidate) => Some(candidate.clone()),
            _ => None,
        });
        self.commit_outcome(changes, &resource).await?;
        Ok((record, result.map(|_| ())))
    }

    /// The changes that write down how a candidate's write ended, and the answer.
    pub(in crate::service) fn candidate_conclusion(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Candidate, Error>) {
        let (held, line) = (attempt_held(&intent), self.reconciled_entry(&intent, &row));
        self.end_grace(&intent, &row);
        let (changes, result) = self.candidate_changes(connection, candidate, intent, row);
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }

    fn candidate_changes(
        &self,
        connection: &Connection,
        mut candidate: Candidate,
        mut intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Candidate, Error>) {
        candidate.last_modified = self.0.environment.now();
        let (settled, origin) = (Mutation::Settled(candidate.id.to_string()), intent.origin.clone());
        match row {
            Ok(WriteSuccess { value, warnings }) => {
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
                if let VendorReply::Registered(Registered { vendor_ref, private }) = value {
                    candidate.vendor_ref.extend(vendor_ref);
                    candidate.private.extend(private);
                }
                if let Write::Update(update) = intent.write {
                    candidate.person = update.candidate.person;
                    let identities = Identity::of(&candidate.person, connection.descriptor().identities);
                    changes.push(Mutation::Identities(candidate.id.clone(), identities));
                    changes.push(Mutation::Candidate(candidate.clone()));
                } else if matches!(intent.write, Write::Hide(_)) {
                    changes.push(Mutation::EraseCandidate(candidate.id.clone()));
                    changes.extend(complete_origin(
                        origin,
                        candidate.id.as_str(),
                        ItemOutcome::of(ItemStatus::Created),
                        StoredReply::Gone,
                    ));
                    return (changes, Ok(candidate));
                } else {
                    changes.push(Mutation::Candidate(candidate.clone()));
                }
                let result = if created { ItemStatus::Created } else { ItemStatus::Existing };
                let end = ItemOutcome { initial_password: initial_password.clone(), ..ItemOutcome::of(result) };
                let answer =
                    StoredReply::Candidate { created, candidate: Box::new(candidate.clone()), initial_password };
                changes.extend(complete_origin(origin, candidate.id.as_str(), end, answer));
                (changes, Ok(candidate))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                candidate.problem = Some(Box::new(fault.clone()));
                candidate.state = CandidateState::Unknown;
                candidate.outcome = Outcome::Unknown;
                self.schedule_reconciliation(&mut intent, connection, &fault);
                let mut changes = fail_origin(origin, candidate.id.as_str(), &fault);
                changes.extend([Mutation::Candidate(candidate), Mutation::Intent(intent)]);
                (changes, Err(fault))
            }
            Err(fault) => {
                candidate.problem = Some(Box::new(fault.clone()));
                let mut changes = vec![settled];
                changes.extend(fail_origin(origin, candidate.id.as_str(), &fault));
                if intent.write.kind() == WriteKind::CandidatesCreate {
                    candidate.state = CandidateState::Failed;
                    candidate.outcome = Outcome::NotApplied;
                    // The next request for this person starts afresh.
                    changes.push(Mutation::Identities(candidate.id.clone(), Vec::new()));
                } else {
                    candidate.state = CandidateState::Registered;
                    candidate.outcome = Outcome::Applied;
                    let identities = Identity::of(&candidate.person, connection.descriptor().identities);
                    changes.push(Mutation::Identities(candidate.id.clone(), identities));
                }
                changes.push(Mutation::Candidate(candidate));
                (changes, Err(fault))
            }
        }
    }

    /// Writes down how an assignment's write ended.
    ///
    /// # Errors
    /// The row's fault; `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(in crate::service) async fn conclude_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> Result<Assignment, Error> {
        let resource = assignment_path(&assignment.id);
        let (changes, result) = self.assignment_conclusion(connection, assignment, intent, row);
        self.commit_outcome(changes, &resource).await?;
        result
    }

    /// Writes down how an assignment's write ended; gives back the record as it is then, and the end.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` when it could not be kept.
    pub(in crate::service) async fn concluded_assignment(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> Result<(Assignment, Result<(), Error>), Error> {
        let resource = assignment_path(&assignment.id);
        let (changes, result) = self.assignment_conclusion(connection, assignment.clone(), intent, row);
        let record = changes.iter().find_map(|change| match change {
            Mutation::Assignment(assignment) => Some(assignment.clone()),
            _ => None,
        });
        self.commit_outcome(changes, &resource).await?;
        Ok((record.unwrap_or(assignment), result.map(|_| ())))
    }

    /// The changes that write down how an assignment's write ended, and the answer.
    pub(in crate::service) fn assignment_conclusion(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Assignment, Error>) {
        let (held, line) = (attempt_held(&intent), self.reconciled_entry(&intent, &row));
        self.end_grace(&intent, &row);
        let (changes, result) = self.assignment_changes(connection, assignment, intent, row);
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }

    fn assignment_changes(
        &self,
        connection: &Connection,
        mut assignment: Assignment,
        mut intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Assignment, Error>) {
        assignment.last_modified = self.0.environment.now();
        let (settled, origin) = (Mutation::Settled(assignment.id.to_string()), intent.origin.clone());
        match row {
            Ok(WriteSuccess { value, warnings }) => {
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
                if let VendorReply::Booked(Booked { vendor_ref, launch, already_there: _ }) = value {
                    assignment.vendor_ref.extend(vendor_ref);
                    assignment.launch = launch;
                }
                let result = if created { ItemStatus::Created } else { ItemStatus::Existing };
                let answer = match &intent.write {
                    Write::Cancel(_) => StoredReply::Gone,
                    _ => StoredReply::Assignment { created, assignment: Box::new(assignment.clone()) },
                };
                let mut changes = complete_origin(origin, assignment.id.as_str(), ItemOutcome::of(result), answer);
                changes.extend([Mutation::Assignment(assignment.clone()), settled]);
                (changes, Ok(assignment))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                assignment.problem = Some(Box::new(fault.clone()));
                assignment.state = AssignmentState::Unknown;
                assignment.outcome = Outcome::Unknown;
                self.schedule_reconciliation(&mut intent, connection, &fault);
                let mut changes = fail_origin(origin, assignment.id.as_str(), &fault);
                changes.extend([Mutation::Assignment(assignment), Mutation::Intent(intent)]);
                (changes, Err(fault))
            }
            Err(fault) => {
                assignment.problem = Some(Box::new(fault.clone()));
                let mut changes = fail_origin(origin, assignment.id.as_str(), &fault);
                if intent.write.kind() == WriteKind::AssignmentsCreate {
                    assignment.state = AssignmentState::Failed;
                    assignment.outcome = Outcome::NotApplied;
                } else {
                    assignment.state = AssignmentState::Assigned;
                    assignment.outcome = Outcome::Applied;
                }
                changes.extend([Mutation::Assignment(assignment), settled]);
                (changes, Err(fault))
            }
        }
    }
}

/// Holds what concludes an attempt to that attempt; an intent that is at rest is concluded by hand.
pub(in crate::service) fn attempt_held(intent: &Intent) -> Option<Mutation> {
    intent.under_way.then(|| Mutation::AttemptHeld(intent.write.record_id().to_owned(), intent.started))
}

/// Whether the vendor said that the booking was there before.
pub(in crate::service) const fn already_there(done: &VendorReply) -> bool {
    matches!(done, VendorReply::Booked(Booked { already_there: true, .. }))
}

/// Returns the password that the write sets, if it sets one.
pub(in crate::service) const fn sent_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// The password the gateway made up for the person, if the write carries one.
pub(in crate::service) const fn own_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { own_password: true, password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// What ties an intent to the key and the row it comes from: written in one transaction with it. The row is then about
/// these.
pub(in crate::service) fn bind_origin(intent: &Intent, subjects: &[SubjectHash]) -> Vec<Mutation> {
    let (record, WriteOrigin { key, item }) = (intent.write.record_id().to_owned(), intent.origin.clone());
    let key = key.map(|key| Mutation::KeyBound(key, record.clone()));
    let item = item.map(|item| Mutation::ItemClaimed(item, record.clone(), subjects.to_vec()));
    key.into_iter().chain(item).collect()
}

/// Tells the key and the row a write came from that it is done.
fn complete_origin(origin: WriteOrigin, record: &str, end: ItemOutcome, answer: StoredReply) -> Vec<Mutation> {
    let key = origin.key.map(|key| Mutation::KeyAnswered(key, answer));
    let item = origin.item.map(|item| Mutation::ItemEnded(item, Some(record.to_owned()), end));
    key.into_iter().chain(item).collect()
}

/// Tells the key and the row a write came from that it failed, or that it is not known.
pub(in crate::service) fn fail_origin(origin: WriteOrigin, record: &str, fault: &Error) -> Vec<Mutation> {
    let key = origin.key.map(|key| match fault.outcome {
        Outcome::Unknown => Mutation::KeyOpen(key),
        Outcome::Applied | Outcome::NotApplied => Mutation::KeyFreed(key),
    });
    let end = || ItemOutcome::failed(fault.clone());
    let item = origin.item.map(|item| Mutation::ItemEnded(item, Some(record.to_owned()), end()));
    key.into_iter().chain(item).collect()
}

/// No task is sending the write any more: schedules the background's next attempt, with growing pauses. `settle_from` is
/// when the grace of the last attempt is over.
pub(in crate::service) fn schedule_next_attempt(
    intent: &mut Intent,
    repeat: RetrySafety,
    settle_from: Timestamp,
    now: Timestamp,
) {
    intent.under_way = false;
    intent.settle_from = settle_from;
    let doubled = MIN_BACKOFF.saturating_mul(1_u32.checked_shl(intent.attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(MAX_BACKOFF);
    if intent.rested >= GIVE_UP_AFTER || repeat == RetrySafety::Unsafe {
        intent.due = None;
        return;
    }
    intent.rested = intent.rested.saturating_add(pause);
    let rested = SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok());
    intent.due = Some(settle_from.max(rested.unwrap_or(now)));
}

/// Takes back what is left of the pause that a request does not wait for.
pub(in crate::service) fn expedite_reconciliation(intent: &mut Intent, now: Timestamp) {
    let left = intent.due.and_then(|due| Duration::try_from(due.duration_since(now)).ok()).unwrap_or_default();
    intent.rested = intent.rested.saturating_sub(left.min(MAX_BACKOFF));
}

/// What there is to remark about a change that was made. Until then the remarks of the write before stand, and a change
/// that was refused leaves no trace.
fn planned_warnings(connection: &Connection, update: &Update) -> Vec<Warning> {
    let planned = connection.vendor().plan_update(update.candidate.clone(), update.touched.clone());
    planned.map_or_else(|_| Vec::new(), |planned| planned.warnings)
}

/// Where the settled state of a write appears.
pub(in crate::service) fn resource_path(write: &Write) -> String {
    match write {
        Write::Register(_) | Write::Update(_) | Write::Hide(_) => candidate_path(&write.record_id()),
        Write::Assign(_) | Write::Cancel(_) => assignment_path(&write.record_id()),
        Write::Enrol(enrolment) => {
            let operation = enrolment.id.split('/').next().unwrap_or_default();
            operation_path(&operation)
        }
    }
}

async fn call_vendor(connection: &Connection, writes: &[Write], call: &CallContext) -> Vec<RowResult<VendorReply>> {
    let vendor = connection.vendor();
    match writes {
        [Write::Update(update)] => {
            vec![vendor.update(update, call).await.map(|applied| applied.map(VendorReply::Registered))]
        }
        [Write::Hide(candidate)] => {
            vec![vendor.hide(candidate, call).await.map(|applied| applied.map(|()| VendorReply::Nothing))]
        }
        [Write::Cancel(cancellation)] => {
            vec![vendor.cancel(cancellation, call).await.map(|applied| applied.map(|()| VendorReply::Nothing))]
        }
        [Write::Enrol(enrolment)] => {
            let row = vendor.enrol(&enrolment.call, call).await;
            vec![row.map(|applied| applied.map(VendorReply::Enrolled))]
        }
        [Write::Register(_), ..] => {
            let registrations: Vec<_> = writes
                .iter()
                .filter_map(
                    |write| if let Write::Register(registration) = write { Some(registration.clone()) } else { None },
                )
                .collect();
            let rows = vendor.register(&registrations, call).await;
            rows.into_iter().map(|row| row.map(|applied| applied.map(VendorReply::Registered))).collect()
        }
        [Write::Assign(_), ..] => {
            let bookings: Vec<_> = writes
                .iter()
                .filter_map(|write| if let Write::Assign(booking) = write { Some(booking.clone()) } else { None })
                .collect();
            let rows = vendor.assign(&bookings, call).await;
            rows.into_iter().map(|row| row.map(|applied| applied.map(VendorReply::Booked))).collect()
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
            origin: WriteOrigin::default(),
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
        schedule_next_attempt(&mut intent, RetrySafety::Idempotent, at(130), at(100));
        assert_eq!((intent.under_way, intent.settle_from, intent.due), (false, at(130), Some(at(130))));
        for (attempts, pause) in [(1, 5), (2, 10), (3, 20), (30, 600), (u32::MAX, 600)] {
            intent.attempts = attempts;
            intent.rested = Duration::ZERO;
            schedule_next_attempt(&mut intent, RetrySafety::Idempotent, at(100), at(100));
            assert_eq!((intent.settle_from, intent.due), (at(100), Some(at(100 + pause))));
        }
    }

    #[test]
    fn what_may_not_be_repeated_or_is_too_old_is_left_to_a_person() {
        let mut intent = intent();
        schedule_next_attempt(&mut intent, RetrySafety::Unsafe, at(100), at(100));
        assert_eq!(intent.due, None);
        // However long nothing was tried, it is tried.
        let year = 365 * 24 * 3600;
        schedule_next_attempt(&mut intent, RetrySafety::Idempotent, at(year), at(year));
        assert!(intent.due.is_some());
        let (mut now, mut attempts) = (at(0), 0);
        while let Some(due) = intent.due {
            (intent.attempts, now, attempts) = (intent.attempts + 1, due, attempts + 1);
            schedule_next_attempt(&mut intent, RetrySafety::Idempotent, now, now);
        }
        assert_eq!((attempts, now.duration_since(at(year)).as_hours()), (150, 24));
    }

    #[test]
    fn what_requests_try_in_between_does_not_count_as_rest() {
        let mut intent = intent();
        for second in 0..10_000 {
            expedite_reconciliation(&mut intent, at(second));
            schedule_next_attempt(&mut intent, RetrySafety::Idempotent, at(second), at(second));
            intent.attempts += 1;
        }
        assert!(intent.due.is_some() && intent.rested < Duration::from_secs(11_000), "{:?}", intent.rested);
    }
}
