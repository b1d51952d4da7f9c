//! Assignments: the mapping between the record and its row.

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::ids::CandidateId;
use crate::store::codec::{RecordCodec, SUBJECT, SealedRow, check_columns, connection_scope, micros, participant_of};
use crate::store::encryption::BlindIndex;
use crate::store::{ReportHint, StoreError};

pub(super) const ASSIGNMENTS: &str = "assignments";

/// A row of `assignments`.
pub(in crate::store) struct AssignmentRow {
    /// The record, needed if its person turns out to be erased.
    pub record: Assignment,
    pub id: String,
    pub tenant: String,
    pub connection: String,
    pub candidate_id: Option<String>,
    pub subject: BlindIndex,
    /// The person it is for, if no candidate is known.
    pub person: Option<BlindIndex>,
    /// The index value of its registration at the vendor; empty without one.
    pub participant: Vec<u8>,
    pub assessment_ref: String,
    pub assessment: String,
    pub state: &'static str,
    pub created: i64,
    pub sealed: Vec<u8>,
}

impl RecordCodec {
    pub(in crate::store) fn assignment_row(&self, assignment: Assignment) -> Result<AssignmentRow, StoreError> {
        let unlinked = assignment.identity.as_ref().filter(|_| assignment.candidate_id.is_none());
        Ok(AssignmentRow {
            person: unlinked.map(|identity| self.identity(&assignment.connection, identity).blind),
            participant: self.participant_index(&assignment),
            id: assignment.id.to_string(),
            tenant: assignment.tenant.clone(),
            connection: assignment.connection.clone(),
            candidate_id: assignment.candidate_id.as_ref().map(ToString::to_string),
            subject: self.keyring.blind_index(&connection_scope(&assignment.connection), SUBJECT, &assignment.subject),
            assessment_ref: assignment.assessment_ref.clone(),
            assessment: assignment.order.assessment.clone(),
            state: assignment_state(assignment.state),
            created: micros(assignment.created),
            sealed: self.seal(ASSIGNMENTS, assignment.id.as_str(), &assignment)?,
            record: assignment,
        })
    }

    /// Returns the index value of a booking's registration; empty without one.
    pub(in crate::store) fn participant_index(&self, assignment: &Assignment) -> Vec<u8> {
        let participant = participant_of(assignment).map(ReportHint::Participant);
        participant.map_or_else(Vec::new, |hint| self.hint_index(&assignment.connection, &hint).to_vec())
    }

    /// As [`Self::participant_index`], of a stored assignment. One that cannot be read is found by no registration.
    pub(in crate::store) fn indexed_participant(&self, row: &SealedRow) -> Result<Vec<u8>, StoreError> {
        match self.assignment(row) {
            Ok(assignment) => Ok(self.participant_index(&assignment)),
            Err(error @ StoreError::Unreadable(_)) => {
                tracing::error!(%error, "an assignment cannot be read; no report is matched with its registration");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the row without its person, who was erased as this candidate. Keeps the index value of its subject.
    pub(in crate::store) fn erased_row(
        &self,
        row: &AssignmentRow,
        id: &CandidateId,
    ) -> Result<AssignmentRow, StoreError> {
        let erased = self.assignment_row(row.record.clone().without_person(id))?;
        Ok(AssignmentRow { subject: row.subject, ..erased })
    }

    pub(in crate::store) fn assignment(&self, row: &SealedRow) -> Result<Assignment, StoreError> {
        let assignment: Assignment = self.open(ASSIGNMENTS, row)?;
        check_columns(row, assignment.id.as_str(), &assignment.tenant, &assignment.connection)?;
        Ok(assignment)
    }
}

/// Returns the value of a state in the `state` columns.
pub(in crate::store) const fn assignment_state(state: AssignmentState) -> &'static str {
    match state {
        AssignmentState::Assigned => "assigned",
        AssignmentState::Pending => "pending",
        AssignmentState::Cancelled => "cancelled",
        AssignmentState::Failed => "failed",
        AssignmentState::Unknown => "unknown",
    }
}
