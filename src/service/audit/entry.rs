//! The audit entries that are committed with the outcome they report.

use jiff::Timestamp;

use crate::domain::audit::{AuditEvent, Entry};
use crate::domain::intent::Intent;
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::RowResult;
use crate::store::Mutation;

/// Facts about a write's end that an audit entry records.
pub(in crate::service) struct AuditFacts {
    pub(in crate::service) object: Option<String>,
    pub(in crate::service) connection: Option<String>,
    pub(in crate::service) outcome: Outcome,
}

impl AuditFacts {
    /// Returns the facts about a record; `None` for an enrolment, whose operation has an entry of its own.
    pub(in crate::service) fn of_record(record: &Record) -> Option<Self> {
        let (connection, outcome) = match record {
            Record::Candidate(candidate) => (&candidate.connection, candidate.outcome),
            Record::Assignment(assignment) => (&assignment.connection, assignment.outcome),
            Record::Enrolment(_) => return None,
        };
        Some(Self { object: Some(record.path()), connection: Some(connection.clone()), outcome })
    }

    /// Completes the entry of the request that they are about.
    pub(in crate::service) fn complete(self, entry: Entry, time: Timestamp) -> Entry {
        let Self { object, connection, outcome } = self;
        Entry { time, object, connection, outcome: Some(outcome), ..entry }
    }
}

/// Builds the entry of a write whose unknown outcome this result resolves; `None` if it was not unknown, or still is.
pub(in crate::service) fn reconciled_entry(
    time: Timestamp,
    intent: &Intent,
    result: &RowResult<VendorReply>,
) -> Option<Mutation> {
    // Only a write whose earlier attempt ended as unknown has a reason.
    intent.reason.as_ref()?;
    let (outcome, code) = match result {
        Ok(_) => (Outcome::Applied, None),
        Err(error) if error.outcome == Outcome::Unknown => return None,
        Err(error) => (error.outcome, Some(error.code.as_str())),
    };
    Some(Mutation::Audit(Entry {
        time,
        tenant: intent.tenant.clone(),
        client: None,
        event: AuditEvent::Settled,
        action: intent.write.kind().as_str(),
        object: Some(intent.write.record().path()),
        connection: Some(intent.connection.clone()),
        status: None,
        outcome: Some(outcome),
        code,
        replayed: false,
        counts: None,
        request_id: None,
        exchange: None,
    }))
}
