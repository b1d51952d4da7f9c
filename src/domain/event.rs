//! Events: what happened that no response reported to the caller, in the order in which it was committed.
//!
//! An event holds ids, configured names, words and versions. It holds nothing of a person and nothing that a caller chose, so
//! that erasing a person leaves it as it is.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ids::{AssignmentId, EventId};
use super::scope::Scope;
use super::words::words;

mod document;

pub use document::{EventData, EventDocument, RowCounts, example_of};

words! {
    /// What an event is about.
    #[derive(PartialOrd, Ord)]
    pub enum EventType {
        /// An operation has ended.
        OperationCompleted "operation.completed",
        /// A candidate's unknown write has become known.
        CandidateSettled "candidate.settled",
        /// An assignment's unknown write has become known.
        AssignmentSettled "assignment.settled",
        /// An attempt was seen for the first time, before its end.
        AttemptStarted "attempt.started",
        /// An attempt has ended.
        AttemptCompleted "attempt.completed",
        /// A completed attempt is in progress again.
        AttemptReopened "attempt.reopened",
        /// A result is final for the first time.
        ResultPublished "result.published",
        /// A published result has changed.
        ResultCorrected "result.corrected",
        /// The window of an assignment has ended without an attempt.
        AssignmentExpired "assignment.expired",
        /// A report has arrived that belongs to no known candidate or assignment.
        ReportParked "report.parked",
        /// A report has arrived that cannot be read.
        ReportRejected "report.rejected",
        /// The state of a connection has changed.
        ConnectionChanged "connection.changed",
        /// A webhook's deliveries fail.
        WebhookFailing "webhook.failing",
        /// A webhook was disabled.
        WebhookDisabled "webhook.disabled",
        /// Events were removed by retention before a webhook got them.
        WebhookGap "webhook.gap",
        /// A test that a client asked for; only ever delivered to the webhook it was asked for.
        Ping "ping",
    }
}

words! {
    /// How an unknown write became known.
    pub enum SettledBy {
        /// The gateway has found out by itself.
        Reconciler "reconciler",
        /// The next request about the candidate or assignment has found out.
        Caller "caller",
        /// A person has said so.
        Operator "operator",
        /// A vendor's report of an attempt proves it.
        Evidence "evidence",
    }
}

words! {
    /// The state of a connection as events report it.
    #[derive(PartialOrd, Ord)]
    pub enum ConnectionState {
        /// The vendor responds, and its feed is read.
        Ok "ok",
        /// Calls fail, or are paused because they failed.
        Degraded "degraded",
        /// The vendor rejects the credentials.
        CredentialsInvalid "credentials_invalid",
        /// The vendor responds, but its feed of results could not be read.
        FeedStale "feed_stale",
    }
}

/// The end of a pattern that matches every type of a kind.
const ANY: &str = ".*";

/// An error for a pattern that fits no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no event type fits `{0}`")]
pub struct UnknownEventType(pub String);

impl EventType {
    /// Returns the types that fit a pattern: the one with this name, or with `result.*` every one that begins with `result.`.
    /// `ping` is in no list, so no pattern names it.
    ///
    /// # Errors
    /// [`UnknownEventType`] if none fits.
    pub fn matching(pattern: &str) -> Result<Vec<Self>, UnknownEventType> {
        let kind = pattern.strip_suffix(ANY);
        let fits = |known: &Self| match kind {
            Some(kind) => known.as_str().strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')),
            None => known.as_str() == pattern,
        };
        let found: Vec<Self> = Self::ALL.iter().copied().filter(|it| *it != Self::Ping).filter(fits).collect();
        if found.is_empty() { Err(UnknownEventType(pattern.to_owned())) } else { Ok(found) }
    }

    /// Returns the scope that reading the resource of such an event needs.
    #[must_use]
    pub const fn resource_scope(self) -> Scope {
        match self {
            Self::OperationCompleted => Scope::OperationsRead,
            Self::CandidateSettled => Scope::CandidatesRead,
            Self::AssignmentSettled | Self::AssignmentExpired => Scope::AssignmentsRead,
            Self::AttemptStarted
            | Self::AttemptCompleted
            | Self::AttemptReopened
            | Self::ResultPublished
            | Self::ResultCorrected => Scope::ResultsRead,
            Self::ReportParked | Self::ReportRejected => Scope::ReportsRead,
            Self::ConnectionChanged => Scope::CatalogueRead,
            Self::WebhookFailing | Self::WebhookDisabled | Self::WebhookGap | Self::Ping => Scope::WebhooksRead,
        }
    }
}

/// What an event is about, by which readers and webhooks choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSubject {
    /// The connection. An event without one is seen by every client of the tenant.
    pub connection: Option<String>,
    /// The assignment. Events of one assignment are delivered in order.
    pub assignment: Option<AssignmentId>,
    /// The vendor's own id of the assessment.
    pub assessment_ref: Option<String>,
}

/// An event to be committed with the change that it is about. The store numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The gateway's identifier; also a delivery's `webhook-id`.
    pub id: EventId,
    /// The tenant whose event it is.
    pub tenant: String,
    /// What it is about.
    pub event_type: EventType,
    /// When it was made, by the gateway's clock.
    pub timestamp: Timestamp,
    /// What readers choose by.
    pub subject: EventSubject,
    /// What it says.
    pub data: Map<String, Value>,
}

/// A committed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number within the tenant: from 1, without gaps, in the order of commits.
    pub sequence: u64,
    /// The event.
    pub event: NewEvent,
}

/// The events a reader chooses from those of its tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of these types; of all if `None`.
    pub types: Option<Vec<EventType>>,
    /// At these connections, or at none; at all of them if `None`.
    pub connections: Option<Vec<String>>,
    /// About these assessments, each a connection and the vendor's id there; about any or none if `None`.
    pub assessments: Option<Vec<(String, String)>>,
    /// About this assignment; about any or none if `None`.
    pub assignment: Option<AssignmentId>,
}

impl EventFilter {
    /// Returns whether an event passes.
    #[must_use]
    pub fn admits(&self, event: &NewEvent) -> bool {
        let Self { types, connections, assessments, assignment } = self;
        let EventSubject { connection, assignment: about, assessment_ref } = &event.subject;
        let is_listed = |list: &Vec<(String, String)>| {
            let of_event = connection.as_ref().zip(assessment_ref.as_ref());
            list.iter().any(|(at, id)| of_event == Some((at, id)))
        };
        types.as_ref().is_none_or(|types| types.contains(&event.event_type))
            && connection.as_ref().is_none_or(|name| connections.as_ref().is_none_or(|list| list.contains(name)))
            && assessments.as_ref().is_none_or(is_listed)
            && assignment.as_ref().is_none_or(|wanted| about.as_ref() == Some(wanted))
    }
}
