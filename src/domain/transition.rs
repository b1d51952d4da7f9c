//! What the vendor's response to a write makes of its record: pure functions, without store or clock.
//!
//! | Result of the call | Candidate | Assignment |
//! |---|---|---|
//! | applied | `registered`, or erased by a removal | `assigned`, or `cancelled` by a withdrawal |
//! | `unknown` | `unknown`; the intent stays open | `unknown`; the intent stays open |
//! | `not_applied`, of the first write | `failed`, without its identities | `failed` |
//! | `not_applied`, of a later write | `registered`, as before | `assigned`, as before |

use jiff::Timestamp;

use super::assignment::{Assignment, AssignmentState};
use super::candidate::{Candidate, CandidateState, Identity};
use super::error::Error;
use super::intent::{Intent, StoredReply, Write};
use super::operation::{ItemOutcome, ItemStatus};
use super::outcome::{Outcome, Warning, WarningCode};
use super::program::EnrolmentCounts;
use super::record::Record;
use super::vendor::{Booked, Registered, RowResult, Update, Vendor, WriteSuccess};
use super::vendor_error::VendorError;

/// The vendor's reply to a write of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum VendorReply {
    /// A reply to a registration or an update of a person.
    Registered(Registered),
    /// A reply to a booking.
    Booked(Booked),
    /// A reply to a change of a program's employees.
    Enrolled(EnrolmentCounts),
    /// A confirmation without data.
    Nothing,
}

/// What a write's result makes of its record.
#[derive(Debug)]
pub struct Transition {
    /// The record afterwards.
    pub record: Record,
    /// Whether the record is erased with the write.
    pub erased: bool,
    /// The identities that the candidate holds afterwards; `None` if they stay as they are.
    pub identities: Option<Vec<Identity>>,
    /// The result: applied, or an error whose `outcome` states what is known.
    pub result: Result<AppliedWrite, Error>,
}

/// The results of an applied write, for its caller, row and idempotency key.
#[derive(Debug, Clone)]
pub struct AppliedWrite {
    /// Whether the write created what it was to create; otherwise it existed or was changed.
    pub created: bool,
    /// The outcome of the bulk row, if the write comes from one.
    pub row: ItemOutcome,
    /// The reply for retries under the write's idempotency key; `None` for a write that has none.
    pub reply: Option<StoredReply>,
}

impl AppliedWrite {
    fn new(created: bool, reply: Option<StoredReply>) -> Self {
        let status = if created { ItemStatus::Created } else { ItemStatus::Existing };
        Self { created, row: ItemOutcome::of(status), reply }
    }
}

impl Record {
    /// Applies the result of the intent's write to the record.
    #[must_use]
    pub fn conclude(
        self,
        intent: &Intent,
        result: RowResult<VendorReply>,
        vendor: &dyn Vendor,
        now: Timestamp,
    ) -> Transition {
        match self {
            Self::Candidate(candidate) => conclude_candidate(candidate, &intent.write, result, vendor, now),
            Self::Assignment(assignment) => conclude_assignment(assignment, intent, result, now),
            Self::Enrolment(_) => Transition {
                record: self,
                erased: false,
                identities: None,
                result: result.map(enrolled).map_err(|error| *error.error),
            },
        }
    }
}

fn conclude_candidate(
    mut candidate: Box<Candidate>,
    write: &Write,
    result: RowResult<VendorReply>,
    vendor: &dyn Vendor,
    now: Timestamp,
) -> Transition {
    candidate.last_modified = now;
    let kinds = vendor.descriptor().identities;
    let (mut identities, mut erased) = (None, false);
    let result = match result {
        Ok(WriteSuccess { value, warnings }) => {
            if let Write::Update(update) = write {
                candidate.warnings.retain(|warning| warning.code == WarningCode::PasswordIgnored);
                candidate.warnings.extend(planned_warnings(vendor, update));
                candidate.person = update.candidate.person.clone();
                identities = Some(Identity::of(&candidate.person, kinds));
            }
            candidate.warnings.extend(warnings);
            candidate.state = CandidateState::Registered;
            candidate.outcome = Outcome::Applied;
            candidate.problem = None;
            if let VendorReply::Registered(Registered { vendor_ref, private }) = value {
                candidate.vendor_ref.extend(vendor_ref);
                candidate.private.extend(private);
            }
            erased = matches!(write, Write::Hide(_));
            let (created, initial_password) = (!matches!(write, Write::Update(_)), write.generated_password().cloned());
            let reply = if erased {
                StoredReply::Gone
            } else {
                let initial_password = initial_password.clone();
                StoredReply::Candidate { created, candidate: candidate.clone(), initial_password }
            };
            let applied = AppliedWrite::new(created, Some(reply));
            Ok(AppliedWrite { row: ItemOutcome { initial_password, ..applied.row }, ..applied })
        }
        Err(VendorError { error, .. }) => {
            candidate.problem = Some(error.clone());
            (candidate.state, candidate.outcome) = match (error.outcome, write) {
                (Outcome::Unknown, _) => (CandidateState::Unknown, Outcome::Unknown),
                (_, Write::Register(_)) => {
                    // The next request for this person creates a new record.
                    identities = Some(Vec::new());
                    (CandidateState::Failed, Outcome::NotApplied)
                }
                _ => {
                    identities = Some(Identity::of(&candidate.person, kinds));
                    (CandidateState::Registered, Outcome::Applied)
                }
            };
            Err(*error)
        }
    };
    Transition { record: Record::Candidate(candidate), erased, identities, result }
}

fn conclude_assignment(
    mut assignment: Box<Assignment>,
    intent: &Intent,
    result: RowResult<VendorReply>,
    now: Timestamp,
) -> Transition {
    assignment.last_modified = now;
    let result = match result {
        Ok(WriteSuccess { value, warnings }) => {
            assignment.warnings.extend(warnings);
            assignment.outcome = Outcome::Applied;
            assignment.problem = None;
            let mut existed = false;
            if let VendorReply::Booked(Booked { vendor_ref, launch, already_there }) = value {
                assignment.vendor_ref.extend(vendor_ref);
                assignment.launch = launch;
                existed = already_there;
            }
            // A booking that a resend finds was made by an earlier attempt of this write.
            let created = intent.attempts > 1 || !existed;
            let reply = if matches!(intent.write, Write::Cancel(_)) {
                assignment.state = AssignmentState::Cancelled;
                assignment.launch = None;
                StoredReply::Gone
            } else {
                assignment.state = AssignmentState::Assigned;
                StoredReply::Assignment { created, assignment: assignment.clone() }
            };
            Ok(AppliedWrite::new(created, Some(reply)))
        }
        Err(VendorError { error, .. }) => {
            assignment.problem = Some(error.clone());
            (assignment.state, assignment.outcome) = match (error.outcome, &intent.write) {
                (Outcome::Unknown, _) => (AssignmentState::Unknown, Outcome::Unknown),
                (_, Write::Assign(_)) => (AssignmentState::Failed, Outcome::NotApplied),
                _ => (AssignmentState::Assigned, Outcome::Applied),
            };
            Err(*error)
        }
    };
    Transition { record: Record::Assignment(assignment), erased: false, identities: None, result }
}

fn enrolled(success: WriteSuccess<VendorReply>) -> AppliedWrite {
    let WriteSuccess { value, mut warnings } = success;
    let counts = if let VendorReply::Enrolled(counts) = value {
        counts
    } else {
        let detail = "The call was settled manually; its changes are not counted.";
        warnings.push(Warning::new(WarningCode::CountsLowerBound, detail));
        EnrolmentCounts::default()
    };
    let applied = AppliedWrite::new(true, None);
    AppliedWrite { row: ItemOutcome { warnings, counts: Some(counts), ..applied.row }, ..applied }
}

/// Returns the warnings of an update that was applied. They replace the previous write's warnings only now, so a
/// rejected update leaves no trace.
fn planned_warnings(vendor: &dyn Vendor, update: &Update) -> Vec<Warning> {
    let planned = vendor.plan_update(update.candidate.clone(), update.touched.clone());
    planned.map_or_else(|_| Vec::new(), |planned| planned.warnings)
}

#[cfg(test)]
mod tests;
