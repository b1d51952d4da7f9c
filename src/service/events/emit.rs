//! Makes events. Only what is made here gets into an event, and all of it is ids, configured names, words and versions:
//! nothing of a person and nothing that a caller chose.
//!
//! An event is a mutation of the transaction that commits what it is about: it exists if and only if that was
//! committed.

use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::capability::WriteKind;
use crate::domain::error::Error;
use crate::domain::event::{ConnectionState, EventData, EventSubject, EventType, NewEvent, RowCounts, SettledBy};
use crate::domain::ids::{AssignmentId, EventId, WebhookId};
use crate::domain::operation::{Operation, Progress};
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::results::exam_result::ResultState;
use crate::domain::results::{Activity, ExamResult, ParkReason, Report, ReportState, ResultVersion};
use crate::domain::system::System;
use crate::domain::webhook::DisableReason;
use crate::service::Gateway;

/// What a result was before it got a version, as far as its events depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) struct EarlierVersion {
    activity: Activity,
    superseded: bool,
    published: bool,
}

impl From<&ExamResult> for EarlierVersion {
    fn from(result: &ExamResult) -> Self {
        let ResultState { activity, superseded, .. } = result.state;
        Self { activity, superseded, published: result.is_published() }
    }
}

/// Maker of the events of one moment.
#[derive(Clone, Copy)]
pub(in crate::service) struct Emitter<'a> {
    pub(in crate::service) system: &'a System,
    /// The gateway's steady time, by which events are kept.
    pub(in crate::service) now: Timestamp,
}

impl Gateway {
    /// Returns the maker of events that happen now.
    pub(in crate::service) fn emitter(&self) -> Emitter<'_> {
        Emitter { system: &self.0.system, now: self.now() }
    }
}

impl Emitter<'_> {
    fn event(&self, tenant: &str, event_type: EventType, subject: EventSubject, data: EventData) -> NewEvent {
        NewEvent {
            id: EventId::generate(self.system),
            tenant: tenant.to_owned(),
            event_type,
            timestamp: self.now,
            subject,
            data: data.into_map(),
        }
    }

    /// Returns the event of a write that was unknown and has become known; `None` if it has not, or has no record of
    /// its own.
    pub(in crate::service) fn settled(
        &self,
        kind: WriteKind,
        record: &Record,
        by: SettledBy,
        error: Option<&Error>,
    ) -> Option<NewEvent> {
        let outcome = error.map_or(Outcome::Applied, |error| error.outcome);
        if outcome == Outcome::Unknown {
            return None;
        }
        let data = EventData {
            resource: Some(record.path()),
            by: Some(by),
            outcome: Some(outcome),
            action: Some(kind.as_str().to_owned()),
            code: error.map(|error| error.code.as_str().to_owned()),
            ..EventData::default()
        };
        match record {
            Record::Candidate(candidate) => {
                let connection = Some(candidate.connection.clone());
                let subject = EventSubject { connection: connection.clone(), ..EventSubject::default() };
                let data = EventData { connection, ..data };
                Some(self.event(&candidate.tenant, EventType::CandidateSettled, subject, data))
            }
            Record::Assignment(assignment) => {
                let (assignment_path, connection) = (Some(assignment.id.path()), Some(assignment.connection.clone()));
                let data = EventData { assignment: assignment_path, connection, ..data };
                Some(self.event(&assignment.tenant, EventType::AssignmentSettled, subject_of(assignment), data))
            }
            Record::Enrolment(_) => None,
        }
    }

    /// Returns the event of an operation that has ended; `action` is its name in the audit log.
    pub(in crate::service) fn operation_completed(
        &self,
        operation: &Operation,
        progress: &Progress,
        action: &str,
    ) -> NewEvent {
        let Progress { total, applied, not_applied, unknown, skipped, pending: _, settling: _ } = *progress;
        // One that replays events has none.
        let connection = Some(operation.connection.clone()).filter(|name| !name.is_empty());
        let data = EventData {
            resource: Some(operation.id.path()),
            connection: connection.clone(),
            action: Some(action.to_owned()),
            state: Some(operation.state),
            counts: Some(RowCounts { total, applied, not_applied, unknown, skipped }),
            ..EventData::default()
        };
        let subject = EventSubject { connection, ..EventSubject::default() };
        self.event(&operation.tenant, EventType::OperationCompleted, subject, data)
    }

    /// Returns the events that a new version of a result makes, in their order.
    pub(in crate::service) fn result_events(
        &self,
        before: Option<EarlierVersion>,
        result: &ExamResult,
        version: &ResultVersion,
    ) -> Vec<NewEvent> {
        let types = result_event_types(before, result, version);
        types.into_iter().map(|event_type| self.result_event(event_type, result, version)).collect()
    }

    fn result_event(&self, event_type: EventType, result: &ExamResult, version: &ResultVersion) -> NewEvent {
        let is_of_result = matches!(event_type, EventType::ResultPublished | EventType::ResultCorrected);
        let subject = EventSubject {
            connection: Some(result.connection.clone()),
            assignment: result.state.assignment.clone(),
            assessment_ref: Some(result.state.assessment_ref.clone()),
        };
        let data = EventData {
            resource: Some(result.id.path()),
            version: Some(version.version),
            assignment: result.state.assignment.as_ref().map(AssignmentId::path),
            connection: subject.connection.clone(),
            changed: if is_of_result { version.changed.clone() } else { Vec::new() },
            ..EventData::default()
        };
        self.event(&result.tenant, event_type, subject, data)
    }

    /// Returns the event of a report that needs a person; `None` if it needs none, or belongs to no tenant.
    pub(in crate::service) fn report_event(&self, report: &Report) -> Option<NewEvent> {
        let (event_type, reason) = match report.state {
            ReportState::Parked => (EventType::ReportParked, report.parked_for.map(ParkReason::as_str)),
            ReportState::Rejected => {
                (EventType::ReportRejected, report.rejection.as_ref().map(|rejection| rejection.reason.as_str()))
            }
            ReportState::Applied | ReportState::Repeated | ReportState::Dismissed => return None,
        };
        let subject = EventSubject { connection: Some(report.connection.clone()), ..EventSubject::default() };
        let data = EventData {
            resource: Some(report.id.path()),
            connection: subject.connection.clone(),
            reason: reason.map(str::to_owned),
            ..EventData::default()
        };
        Some(self.event(report.tenant.as_deref()?, event_type, subject, data))
    }

    /// Returns the event of a booking whose window has ended without an attempt.
    pub(in crate::service) fn assignment_expired(&self, assignment: &Assignment) -> NewEvent {
        let data = EventData {
            resource: Some(assignment.id.path()),
            assignment: Some(assignment.id.path()),
            connection: Some(assignment.connection.clone()),
            ..EventData::default()
        };
        self.event(&assignment.tenant, EventType::AssignmentExpired, subject_of(assignment), data)
    }

    /// Returns the event of a connection whose state has changed, for a tenant that may use it.
    pub(in crate::service) fn connection_changed(
        &self,
        tenant: &str,
        connection: &str,
        before: Option<ConnectionState>,
        status: ConnectionState,
    ) -> NewEvent {
        let subject = EventSubject { connection: Some(connection.to_owned()), ..EventSubject::default() };
        let data = EventData {
            resource: Some(format!("/connections/{connection}")),
            connection: Some(connection.to_owned()),
            status: Some(status),
            before,
            ..EventData::default()
        };
        self.event(tenant, EventType::ConnectionChanged, subject, data)
    }

    /// Returns the event of a webhook whose deliveries fail.
    pub(in crate::service) fn webhook_failing(&self, tenant: &str, webhook: &WebhookId) -> NewEvent {
        self.webhook_event(tenant, EventType::WebhookFailing, webhook, EventData::default())
    }

    /// Returns the event of a webhook that was disabled.
    pub(in crate::service) fn webhook_disabled(
        &self,
        tenant: &str,
        webhook: &WebhookId,
        reason: DisableReason,
    ) -> NewEvent {
        let data = EventData { reason: Some(reason.as_str().to_owned()), ..EventData::default() };
        self.webhook_event(tenant, EventType::WebhookDisabled, webhook, data)
    }

    /// Returns the event of a webhook that will not get `count` of the events numbered from `from` to `to`, because
    /// they were removed before.
    pub(in crate::service) fn webhook_gap(
        &self,
        tenant: &str,
        webhook: &WebhookId,
        (from, to): (u64, u64),
        count: u64,
    ) -> NewEvent {
        let data = EventData { from: Some(from), to: Some(to), count: Some(count), ..EventData::default() };
        self.webhook_event(tenant, EventType::WebhookGap, webhook, data)
    }

    /// Returns the event by which a webhook is tested; it is delivered, and never committed.
    pub(in crate::service) fn ping(&self, tenant: &str, webhook: &WebhookId) -> NewEvent {
        self.webhook_event(tenant, EventType::Ping, webhook, EventData::default())
    }

    fn webhook_event(&self, tenant: &str, event_type: EventType, webhook: &WebhookId, data: EventData) -> NewEvent {
        let data = EventData { resource: Some(webhook.path()), ..data };
        self.event(tenant, event_type, EventSubject::default(), data)
    }
}

fn subject_of(assignment: &Assignment) -> EventSubject {
    EventSubject {
        connection: Some(assignment.connection.clone()),
        assignment: Some(assignment.id.clone()),
        assessment_ref: Some(assignment.assessment_ref.clone()),
    }
}

/// Returns the types of the events that a new version of a result makes.
fn result_event_types(before: Option<EarlierVersion>, result: &ExamResult, version: &ResultVersion) -> Vec<EventType> {
    let mut types = Vec::with_capacity(2);
    types.extend(match (before.map(|before| before.activity), result.state.activity) {
        (None, Activity::InProgress) => Some(EventType::AttemptStarted),
        (None | Some(Activity::InProgress), Activity::Completed) => Some(EventType::AttemptCompleted),
        (Some(Activity::Completed), Activity::InProgress) => Some(EventType::AttemptReopened),
        (Some(Activity::InProgress), Activity::InProgress) | (Some(Activity::Completed), Activity::Completed) => None,
    });
    let was_superseded = before.is_some_and(|before| before.superseded);
    types.extend(if was_superseded != result.state.superseded {
        Some(EventType::ResultCorrected)
    } else if before.is_some_and(|before| before.published) {
        version.changed.iter().any(|member| member.is_content()).then_some(EventType::ResultCorrected)
    } else {
        result.is_published().then_some(EventType::ResultPublished)
    });
    types
}

#[cfg(test)]
mod tests;
