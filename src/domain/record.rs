//! The records that writes are about: a candidate, an assignment, or one vendor call of an enrolment, which has no record
//! but its row.

use std::fmt;

use super::assignment::{Assignment, AssignmentState};
use super::candidate::{Candidate, CandidateState};
use super::error::{Code, Error};
use super::ids::{AssignmentId, CandidateId, EnrolmentId, OperationId, WebhookId};
use super::outcome::Outcome;

/// Identifies what a write is about. It is also the key of the write's intent: a record has at most one open write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RecordId {
    /// A candidate.
    Candidate(CandidateId),
    /// An assignment.
    Assignment(AssignmentId),
    /// One vendor call of an operation that changes a program's employees.
    Enrolment(EnrolmentId),
    /// An operation, to which the key of the request that created it leads.
    Operation(OperationId),
    /// A webhook, to which the key of the request that created it leads.
    Webhook(WebhookId),
}

impl RecordId {
    /// Parses the form in which the store keeps the id; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let candidate = CandidateId::parse(text).map(Self::Candidate);
        let assignment = || AssignmentId::parse(text).map(Self::Assignment);
        let enrolment = || EnrolmentId::parse(text).map(Self::Enrolment);
        let operation = || OperationId::parse(text).map(Self::Operation);
        let webhook = || WebhookId::parse(text).map(Self::Webhook);
        candidate
            .or_else(|_| assignment())
            .or_else(|_| enrolment())
            .or_else(|_| operation())
            .or_else(|_| webhook())
            .ok()
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Candidate(id) => id.as_str(),
            Self::Assignment(id) => id.as_str(),
            Self::Enrolment(id) => id.as_str(),
            Self::Operation(id) => id.as_str(),
            Self::Webhook(id) => id.as_str(),
        }
    }

    /// Returns the path at which the outcome of a write about the record appears.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Candidate(id) => id.path(),
            Self::Assignment(id) => id.path(),
            Self::Enrolment(id) => id.path(),
            Self::Operation(id) => id.path(),
            Self::Webhook(id) => id.path(),
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that a write changes.
#[derive(Debug, Clone)]
pub enum Record {
    /// A candidate.
    Candidate(Box<Candidate>),
    /// An assignment.
    Assignment(Box<Assignment>),
    /// A vendor call of an enrolment, which has no record but its row.
    Enrolment(EnrolmentId),
}

impl Record {
    /// Returns the record's id.
    #[must_use]
    pub fn id(&self) -> RecordId {
        match self {
            Self::Candidate(candidate) => RecordId::Candidate(candidate.id.clone()),
            Self::Assignment(assignment) => RecordId::Assignment(assignment.id.clone()),
            Self::Enrolment(call) => RecordId::Enrolment(call.clone()),
        }
    }

    /// Returns the path at which the outcome of a write about the record appears.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Candidate(candidate) => candidate.id.path(),
            Self::Assignment(assignment) => assignment.id.path(),
            Self::Enrolment(call) => call.path(),
        }
    }

    /// Returns whether the record has no open write; `false` for an enrolment, of which only its intent tells.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Candidate(candidate) => candidate.state.is_terminal(),
            Self::Assignment(assignment) => assignment.state.is_terminal(),
            Self::Enrolment(_) => false,
        }
    }

    /// Returns the outcome of the record's last write; `None` for an enrolment, whose row has it.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Candidate(candidate) => Some(candidate.outcome),
            Self::Assignment(assignment) => Some(assignment.outcome),
            Self::Enrolment(_) => None,
        }
    }

    /// Marks a pending record unknown, for this reason; `None` if the record is not pending.
    #[must_use]
    pub fn into_unknown(self, reason: Error) -> Option<Self> {
        let (outcome, problem) = (Outcome::Unknown, Some(Box::new(reason)));
        match self {
            Self::Candidate(candidate) if candidate.state == CandidateState::Pending => {
                Some(Candidate { state: CandidateState::Unknown, outcome, problem, ..*candidate }.into())
            }
            Self::Assignment(assignment) if assignment.state == AssignmentState::Pending => {
                Some(Assignment { state: AssignmentState::Unknown, outcome, problem, ..*assignment }.into())
            }
            _ => None,
        }
    }
}

impl From<Candidate> for Record {
    fn from(candidate: Candidate) -> Self {
        Self::Candidate(Box::new(candidate))
    }
}

impl From<Assignment> for Record {
    fn from(assignment: Assignment) -> Self {
        Self::Assignment(Box::new(assignment))
    }
}

impl TryFrom<Record> for Candidate {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self, Error> {
        if let Record::Candidate(candidate) = record { Ok(*candidate) } else { Err(wrong_kind(&record)) }
    }
}

impl TryFrom<Record> for Assignment {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self, Error> {
        if let Record::Assignment(assignment) = record { Ok(*assignment) } else { Err(wrong_kind(&record)) }
    }
}

/// Builds the error of a write whose record is of another kind than its intent; only a defect leads here.
fn wrong_kind(record: &Record) -> Error {
    Error::unknown(Code::Internal, "The write's record is of another kind.").with_resource(record.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_from_their_stored_form() {
        let digits = "0".repeat(32);
        for text in ["cand_", "asg_", "op_"].map(|prefix| format!("{prefix}{digits}")) {
            assert_eq!(RecordId::parse(&text).unwrap().to_string(), text);
        }
        let call = format!("op_{digits}/17");
        let id = RecordId::parse(&call).unwrap();
        assert_eq!((id.to_string(), id.path()), (call, format!("/operations/op_{digits}")));
        for odd in ["", "op_1/2", "cand_/1", &format!("op_{digits}/x"), &format!("exc_{digits}")] {
            assert_eq!(RecordId::parse(odd), None, "{odd}");
        }
    }
}
