//! What a report is found by when a person, a booking or a registration becomes known.

use std::collections::BTreeSet;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::record::Record;
use crate::domain::results::MatchHints;
use crate::service::connections::Connection;
use crate::store::{Mutation, ReportHint};

/// Returns the hint of an identity; `None` for a sign-in name, by which no report names a person.
fn of_identity(identity: &Identity) -> Option<ReportHint> {
    match identity {
        Identity::ExternalId(id) => Some(ReportHint::ExternalId(id.identity().into_owned())),
        Identity::Email(email) => Some(ReportHint::Email(email.identity().into_owned())),
        Identity::UserName(_) => None,
    }
}

/// Returns the hints of a report.
pub(super) fn of_report(hints: &MatchHints) -> Vec<ReportHint> {
    let MatchHints { participant, external_id, email, test: _, center: _ } = hints;
    let participant = participant.clone().map(ReportHint::Participant);
    let external_id = external_id.clone().and_then(|id| of_identity(&Identity::ExternalId(id)));
    let email = email.clone().and_then(|email| of_identity(&Identity::Email(email)));
    [participant, external_id, email].into_iter().flatten().collect()
}

/// Returns the vendor's id of a booking's registration, if it is known.
pub(super) fn participant_of(assignment: &Assignment) -> Option<&str> {
    assignment.vendor_ref.get("id").and_then(serde_json::Value::as_str)
}

fn of_assignment(assignment: &Assignment) -> impl Iterator<Item = ReportHint> {
    let participant = participant_of(assignment).map(|id| ReportHint::Participant(id.to_owned()));
    let named = match &assignment.order.candidate {
        CandidateKey::Id(_) => None,
        CandidateKey::ExternalId(id) => of_identity(&Identity::ExternalId(id.clone())),
        CandidateKey::Email(email) => of_identity(&Identity::Email(email.clone())),
    };
    let identity = assignment.identity.as_ref().and_then(of_identity);
    [participant, named, identity].into_iter().flatten()
}

fn of_candidate(candidate: &Candidate) -> impl Iterator<Item = ReportHint> {
    let external_id = candidate.person.external_id.clone().map(Identity::ExternalId);
    let email = candidate.person.email.clone().map(Identity::Email);
    [external_id, email].into_iter().flatten().filter_map(|identity| of_identity(&identity))
}

/// Builds the mutation that has the reports looked at again that this record may explain; `None` if it explains none. It
/// belongs into the transaction that makes the record known.
pub(in crate::service) fn recheck(connection: &Connection, record: &Record) -> Option<Mutation> {
    connection.report_source()?;
    let hints: BTreeSet<ReportHint> = match record {
        Record::Candidate(candidate) if candidate.state == CandidateState::Failed => return None,
        Record::Candidate(candidate) => of_candidate(candidate).collect(),
        Record::Assignment(assignment) if assignment.state == AssignmentState::Failed => return None,
        Record::Assignment(assignment) => of_assignment(assignment).collect(),
        Record::Enrolment(_) => return None,
    };
    (!hints.is_empty()).then(|| Mutation::RecheckReports(connection.name.clone(), hints.into_iter().collect()))
}
