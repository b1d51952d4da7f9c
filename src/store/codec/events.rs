//! Events as rows. They hold nothing about a person and nothing that a caller chose, so nothing is sealed.

use jiff::Timestamp;

use crate::domain::event::{Event, EventSubject, EventType, NewEvent};
use crate::domain::ids::{AssignmentId, EventId};
use crate::store::StoreError;
use crate::store::codec::{micros, unknown_format};
use crate::store::columns::{Columns, FromColumns};

const EVENTS: &str = "events";

/// An event, ready to write.
pub(in crate::store) struct NewEventRow {
    pub id: String,
    pub tenant: String,
    pub event_type: &'static str,
    pub timestamp: i64,
    pub connection: Option<String>,
    pub assignment: Option<String>,
    pub assessment_ref: Option<String>,
    pub data: String,
    /// The candidate without whom it is not appended.
    pub candidate: Option<String>,
}

impl From<NewEvent> for NewEventRow {
    fn from(event: NewEvent) -> Self {
        let NewEvent { id, tenant, event_type, timestamp, subject, data } = event;
        let EventSubject { connection, assignment, assessment_ref } = subject;
        Self {
            id: id.into(),
            tenant,
            event_type: event_type.as_str(),
            timestamp: micros(timestamp),
            connection,
            assignment: assignment.map(String::from),
            assessment_ref,
            data: serde_json::Value::Object(data).to_string(),
            candidate: None,
        }
    }
}

/// A row of `events`, as read.
pub(in crate::store) struct EventRow {
    sequence: i64,
    id: String,
    event_type: String,
    timestamp: i64,
    connection: Option<String>,
    assignment: Option<String>,
    assessment_ref: Option<String>,
    data: String,
}

impl FromColumns for EventRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            sequence: row.column(0)?,
            id: row.column(1)?,
            event_type: row.column(2)?,
            timestamp: row.column(3)?,
            connection: row.column(4)?,
            assignment: row.column(5)?,
            assessment_ref: row.column(6)?,
            data: row.column(7)?,
        })
    }
}

impl EventRow {
    /// Returns the event, which is one of this tenant.
    pub(in crate::store) fn event(self, tenant: &str) -> Result<Event, StoreError> {
        let odd = || unknown_format(EVENTS, &self.id);
        let subject = EventSubject {
            connection: self.connection.clone(),
            assignment: self.assignment.as_deref().map(AssignmentId::parse).transpose().map_err(|_| odd())?,
            assessment_ref: self.assessment_ref.clone(),
        };
        let event = NewEvent {
            id: EventId::parse(&self.id).map_err(|_| odd())?,
            tenant: tenant.to_owned(),
            event_type: EventType::parse(&self.event_type).ok_or_else(odd)?,
            timestamp: Timestamp::from_microsecond(self.timestamp).map_err(|_| odd())?,
            subject,
            data: serde_json::from_str(&self.data).map_err(|_| odd())?,
        };
        Ok(Event { sequence: u64::try_from(self.sequence).map_err(|_| odd())?, event })
    }
}
