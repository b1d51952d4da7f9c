//! Sends committed intents and commits their outcomes: the only place where a vendor's
//! response becomes part of a record.
//!
//! The caller holds the subject's lock, and has committed the intent before it calls [`Gateway::send`].

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
use crate::service::{Gateway, RequestContext, outcome_not_stored_error};
use crate::store::{Mutation, SubjectHash};

/// Initial back-off between two background attempts at the same write.
pub(in crate::service) const MIN_BACKOFF: Duration = Duration::from_secs(5);
/// Maximum back-off between two background attempts.
pub(in crate::service) const MAX_BACKOFF: Duration = Duration::from_mins(10);
/// Total back-off after which background reconciliation gives up and leaves the write to a person. Time in which no
/// attempts were made, such as downtime, does not count, whatever the clocks say.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// Vendor reply to a write of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::service) enum VendorReply {
    /// Reply to a registration or an update of a person.
    Registered(Registered),
    /// Reply to a booking.
    Booked(Booked),
    /// Reply to a change of a program's employees.
    Enrolled(EnrolmentCounts),
    /// Bare confirmation without data.
    Nothing,
}

/// Returns the path at which a candidate's outcome appears.
pub(in crate::service) fn candidate_path(id: &impl std::fmt::Display) -> String {
    format!("/candidates/{id}")
}

/// Returns the path at which an assignment's outcome appears.
pub(in crate::service) fn assignment_path(id: &impl std::fmt::Display) -> String {
    format!("/assignments/{id}")
}

/// Returns the path at which an operation's progress appears.
pub(in crate::service) fn operation_path(id: &impl std::fmt::Display) -> String {
    format!("/operations/{id}")
}

impl Gateway {
    /// Builds the intent of a first attempt at a write about this subject.
    pub(in crate::service) fn intent(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        subject: &str,
        write: Write,
    ) -> Intent {
        let started = self.now();
        let settle_from = connection.reconcile_from(started);
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

    /// Sends writes of one kind in one vendor call and returns one result per row, in order.
    pub(in crate::service) async fn send(
        &self,
        connection: &Connection,
        writes: &[Write],
        call: &CallContext,
    ) -> Vec<RowResult<VendorReply>> {
        let refusal = connection.seat_limit_error(writes, call.purpose);
        let sent = refusal.is_none();
        let mut rows = if let Some(fault) = refusal {
            vec![Err(fault); writes.len()]
        } else {
            let rows = call_vendor(connection, writes, call).await;
            connection.record_seat_limit(rows.iter().filter_map(|row| row.as_ref().err()));
            rows
        };
        if rows.len() != writes.len() {
            // Only a defective adapter gets here; the outcome of every row is unknown.
            tracing::error!(
                connection = connection.name,
                rows = rows.len(),
                "adapter returned the wrong number of rows"
            );
            let fault = Error::unknown(Code::Internal, "The adapter returned the wrong number of rows.");
            rows = writes.iter().map(|_| Err(fault.clone())).collect();
        }
        let now = self.0.system.now();
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

    /// Sends one write in its own vendor call.
    pub(in crate::service) async fn send_one(
        &self,
        connection: &Connection,
        write: &Write,
        call: &CallContext,
    ) -> RowResult<VendorReply> {
        let mut rows = self.send(connection, std::slice::from_ref(write), call).await;
        rows.pop().unwrap_or_else(|| Err(Error::unknown(Code::Internal, "The adapter returned no result.")))
    }

    /// Commits the outcomes of writes. If the store is unavailable, queues them until it is back; meanwhile the intents
    /// stay marked as in flight, so no task sends them again.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown`.
    pub(in crate::service) async fn commit_outcome(&self, changes: Vec<Mutation>, resource: &str) -> Result<(), Error> {
        let kept = self.0.store.commit(changes.clone()).await;
        kept.map_err(|error| {
            self.0.pending_outcomes.push(changes);
            outcome_not_stored_error(&error, resource)
        })
    }

    /// As [`Self::commit_outcome`], together with the audit entry of the response, if one is due.
    pub(in crate::service) async fn commit_outcome_with_audit(
        &self,
        changes: Vec<Mutation>,
        resource: &str,
        (caller, told): (&RequestContext, Option<AuditFacts>),
    ) -> Result<(), Error> {
        let Some((line, entry)) =
            caller.audit_entry.as_ref().zip(told.and_then(|told| self.response_entry(caller, told)))
        else {
            return self.commit_outcome(changes, resource).await;
        };
        let all = changes.iter().cloned().chain([Mutation::Audit(entry.clone())]).collect();
        self.0.store.commit(all).await.map_err(|error| {
            // The response will differ from what this entry records, so the HTTP layer writes its own.
            line.restore(entry);
            self.0.pending_outcomes.push(changes);
            outcome_not_stored_error(&error, resource)
        })
    }

    /// Schedules reconciliation of an attempt that ended as unknown. After a complete response it may start at once;
    /// otherwise only after the grace period, counted from the attempt's end, because the vendor may still be
    /// processing it.
    pub(in crate::service) fn schedule_reconciliation(
        &self,
        intent: &mut Intent,
        connection: &Connection,
        fault: &Error,
    ) {
        let now = self.now();
        intent.reason = Some(fault.to_string());
        intent.lingering = fault.lingering;
        let settle_from = if fault.lingering { connection.reconcile_from(now) } else { now };
        if fault.lingering {
            self.0.grace_periods.begin(intent);
        }
        schedule_next_attempt(intent, connection.retry_safety(intent), settle_from, now);
    }

    /// Ends the grace period of a write that is no longer unknown.
    pub(in crate::service) fn end_grace(&self, intent: &Intent, row: &RowResult<VendorReply>) {
        if !row.as_ref().is_err_and(|fault| fault.outcome == Outcome::Unknown) {
            self.0.grace_periods.end(intent.write.record_id());
        }
    }

    /// Commits the outcome of a candidate's write.
    ///
    /// # Errors
    /// The row's error; `store_unavailable` with outcome `unknown` if the outcome cannot be committed.
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

    /// Commits the outcome of a candidate's write; returns the updated record (`None` once erased) and the result.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` if the outcome cannot be committed.
    pub(in crate::service) async fn conclude_candidate_with_record(
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

    /// Builds the mutations that record the outcome of a candidate's write, and the result for the caller.
    pub(in crate::service) fn candidate_conclusion(
        &self,
        connection: &Connection,
        candidate: Candidate,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Candidate, Error>) {
        let (held, line) = (attempt_condition(&intent), self.reconciled_entry(&intent, &row));
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
        candidate.last_modified = self.0.system.now();
        let (settled, origin) = (Mutation::RemoveIntent(candidate.id.to_string()), intent.origin.clone());
        match row {
            Ok(WriteSuccess { value, warnings }) => {
                let mut changes = vec![settled];
                let initial_password = generated_password(&intent.write).cloned();
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
                    // Free the identities: the next request for this person creates a new record.
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

    /// Commits the outcome of an assignment's write.
    ///
    /// # Errors
    /// The row's error; `store_unavailable` with outcome `unknown` if the outcome cannot be committed.
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

    /// Commits the outcome of an assignment's write; returns the updated record and the result.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown` if the outcome cannot be committed.
    pub(in crate::service) async fn conclude_assignment_with_record(
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

    /// Builds the mutations that record the outcome of an assignment's write, and the result for the caller.
    pub(in crate::service) fn assignment_conclusion(
        &self,
        connection: &Connection,
        assignment: Assignment,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Assignment, Error>) {
        let (held, line) = (attempt_condition(&intent), self.reconciled_entry(&intent, &row));
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
        assignment.last_modified = self.0.system.now();
        let (settled, origin) = (Mutation::RemoveIntent(assignment.id.to_string()), intent.origin.clone());
        match row {
            Ok(WriteSuccess { value, warnings }) => {
                // A booking that a resend finds was made by an earlier attempt of this write.
                let created = intent.attempts > 1 || !is_existing_booking(&value);
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

/// Returns the condition that the conclusion applies only to this attempt; `None` for an intent that is not in flight,
/// which a person concludes.
pub(in crate::service) fn attempt_condition(intent: &Intent) -> Option<Mutation> {
    intent.under_way.then(|| Mutation::RequireAttempt(intent.write.record_id().to_owned(), intent.started))
}

/// Returns whether the vendor reported that the booking already existed.
pub(in crate::service) const fn is_existing_booking(done: &VendorReply) -> bool {
    matches!(done, VendorReply::Booked(Booked { already_there: true, .. }))
}

/// Returns the password that the write sets, if any.
pub(in crate::service) const fn sent_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// Returns the password the gateway generated for the person, if any.
pub(in crate::service) const fn generated_password(write: &Write) -> Option<&Secret> {
    match write {
        Write::Register(Registration { own_password: true, password: Some(password), .. }) => Some(password),
        _ => None,
    }
}

/// Builds the mutations that bind the intent to its idempotency key and bulk row; commit them together with the intent.
/// `subjects` are the row's subjects.
pub(in crate::service) fn bind_origin(intent: &Intent, subjects: &[SubjectHash]) -> Vec<Mutation> {
    let (record, WriteOrigin { key, item }) = (intent.write.record_id().to_owned(), intent.origin.clone());
    let key = key.map(|key| Mutation::BindKey(key, record.clone()));
    let item = item.map(|item| Mutation::ClaimItem(item, record.clone(), subjects.to_vec()));
    key.into_iter().chain(item).collect()
}

/// Builds the mutations that complete the idempotency key and bulk row of an applied write.
fn complete_origin(origin: WriteOrigin, record: &str, end: ItemOutcome, answer: StoredReply) -> Vec<Mutation> {
    let key = origin.key.map(|key| Mutation::CompleteKey(key, answer));
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), end));
    key.into_iter().chain(item).collect()
}

/// Builds the mutations that mark the idempotency key and bulk row of a failed or unknown write.
pub(in crate::service) fn fail_origin(origin: WriteOrigin, record: &str, fault: &Error) -> Vec<Mutation> {
    let key = origin.key.map(|key| match fault.outcome {
        Outcome::Unknown => Mutation::ReleaseKey(key),
        Outcome::Applied | Outcome::NotApplied => Mutation::FreeKey(key),
    });
    let end = || ItemOutcome::failed(fault.clone());
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), end()));
    key.into_iter().chain(item).collect()
}

/// Marks the write as no longer in flight and schedules the next background attempt with exponential back-off.
/// `settle_from` is the end of the last attempt's grace period.
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

/// Credits back the remaining back-off that a request skips by reconciling now.
pub(in crate::service) fn expedite_reconciliation(intent: &mut Intent, now: Timestamp) {
    let left = intent.due.and_then(|due| Duration::try_from(due.duration_since(now)).ok()).unwrap_or_default();
    intent.rested = intent.rested.saturating_sub(left.min(MAX_BACKOFF));
}

/// Returns the warnings of an update that was applied. They replace the previous write's warnings only now, so a
/// rejected update leaves no trace.
fn planned_warnings(connection: &Connection, update: &Update) -> Vec<Warning> {
    let planned = connection.vendor().plan_update(update.candidate.clone(), update.touched.clone());
    planned.map_or_else(|_| Vec::new(), |planned| planned.warnings)
}

/// Returns the path at which the outcome of a write appears.
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
    fn back_off_respects_the_grace_and_grows() {
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
    fn unsafe_or_exhausted_writes_are_left_to_a_person() {
        let mut intent = intent();
        schedule_next_attempt(&mut intent, RetrySafety::Unsafe, at(100), at(100));
        assert_eq!(intent.due, None);
        // Idle time does not count towards giving up.
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
    fn attempts_made_by_requests_do_not_count_as_back_off() {
        let mut intent = intent();
        for second in 0..10_000 {
            expedite_reconciliation(&mut intent, at(second));
            schedule_next_attempt(&mut intent, RetrySafety::Idempotent, at(second), at(second));
            intent.attempts += 1;
        }
        assert!(intent.due.is_some() && intent.rested < Duration::from_secs(11_000), "{:?}", intent.rested);
    }
}
