//! The document of an event: as readers of the feed get it, and as it is delivered to webhooks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ConnectionState, Event, EventType, NewEvent, SettledBy};
use crate::domain::operation::OperationState;
use crate::domain::outcome::Outcome;
use crate::domain::results::ResultMember;

/// Something that happened and that no response reported. It holds ids, configured names, words and versions, and nothing
/// of a person: read the resource for more. Fields without a value are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event, examples(event_example))]
pub struct EventDocument {
    /// The event's identifier; of a delivery also its `webhook-id`. An event that is delivered again has the same.
    pub id: String,
    /// Its number among the tenant's events: from 1, without gaps, in the order in which they happened. Absent from a
    /// `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub sequence: Option<u64>,
    /// The `sequence` of the event before it that this reader or webhook gets; absent if there is none that is still
    /// kept. A reader whose last event has another number has missed some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub previous: Option<u64>,
    /// What it is about.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When it happened, by the gateway's clock.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// What it says.
    #[schema(value_type = EventData)]
    pub data: Map<String, Value>,
}

/// What an event says. Which fields there are depends on its type; fields may be added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventData {
    /// The path of the resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri-reference")]
    pub resource: Option<String>,
    /// Of a result: the version that the event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub version: Option<u32>,
    /// The path of the assignment that it is about, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri-reference")]
    pub assignment: Option<String>,
    /// The connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// `result.published`, `result.corrected`: the fields in which the version differs from the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub changed: Vec<ResultMember>,
    /// `candidate.settled`, `assignment.settled`: how it became known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<SettledBy>,
    /// `candidate.settled`, `assignment.settled`: what became of the write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// `candidate.settled`, `assignment.settled`: the write, such as `assignments.create`. `operation.completed`: the
    /// operation, such as `candidates.bulk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `candidate.settled`, `assignment.settled`: the code of the problem, if the write was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `operation.completed`: how the operation ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<OperationState>,
    /// `operation.completed`: the outcomes of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<RowCounts>,
    /// `report.parked`, `report.rejected`, `webhook.disabled`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `connection.changed`: the state of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ConnectionState>,
    /// `connection.changed`: the state before, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ConnectionState>,
    /// `webhook.gap`: the `sequence` of the first event that was not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub from: Option<u64>,
    /// `webhook.gap`: the `sequence` of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub to: Option<u64>,
    /// `webhook.gap`: how many events that the webhook was to get were removed before, from the first to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Only of deliveries to a webhook with the `payload` `full`: the resource, as a read of it by the webhook's owner responds
    /// when the delivery is sent. Absent if the owner may not read it, or it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub object: Option<Map<String, Value>>,
    /// Only of such deliveries: present and true if the person whom the resource is about was erased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub erased: bool,
}

/// The outcomes of an operation's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventRowCounts)]
pub struct RowCounts {
    /// All rows.
    pub total: u64,
    /// Applied, now or earlier.
    pub applied: u64,
    /// Failed without effect.
    pub not_applied: u64,
    /// Unknown.
    pub unknown: u64,
    /// Not sent, because the operation stopped before.
    pub skipped: u64,
}

impl EventData {
    /// Returns the data as it is stored.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        // A struct of plain fields is always an object.
        if let Ok(Value::Object(members)) = serde_json::to_value(self) { members } else { Map::new() }
    }
}

impl Event {
    /// Returns the event as a reader gets it after an event with the number `previous`.
    #[must_use]
    pub fn document(&self, previous: Option<u64>) -> EventDocument {
        EventDocument { sequence: Some(self.sequence), previous, ..self.event.document() }
    }
}

impl NewEvent {
    /// Returns the event without a number, as a ping is delivered.
    #[must_use]
    pub fn document(&self) -> EventDocument {
        let Self { id, tenant: _, event_type, timestamp, subject: _, data } = self;
        EventDocument {
            id: id.to_string(),
            sequence: None,
            previous: None,
            event_type: *event_type,
            timestamp: format!("{timestamp:.3}"),
            data: data.clone(),
        }
    }
}

/// Returns an example of an event of this type.
#[must_use]
pub fn example_of(event_type: EventType) -> Value {
    let result = "/results/res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73";
    let assignment = "/assignments/asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70";
    let report = "/reports/rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74";
    let webhook = "/webhooks/wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75";
    let connection = "startexam-main";
    let data = match event_type {
        EventType::OperationCompleted => json!({
            "resource": "/operations/op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71", "connection": connection,
            "action": "candidates.bulk",
            "state": "completed",
            "counts": { "total": 500, "applied": 497, "notApplied": 2, "unknown": 1, "skipped": 0 },
        }),
        EventType::CandidateSettled => json!({
            "resource": "/candidates/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "connection": connection,
            "action": "candidates.create", "by": "reconciler", "outcome": "applied",
        }),
        EventType::AssignmentSettled => json!({
            "resource": assignment, "assignment": assignment, "connection": connection, "action": "assignments.create",
            "by": "evidence", "outcome": "applied",
        }),
        EventType::AttemptStarted | EventType::AttemptCompleted | EventType::AttemptReopened => json!({
            "resource": result, "version": 1, "assignment": assignment, "connection": connection,
        }),
        EventType::ResultPublished => json!({
            "resource": result, "version": 1, "assignment": assignment, "connection": connection,
            "changed": ["grading", "score"],
        }),
        EventType::ResultCorrected => json!({
            "resource": result, "version": 2, "assignment": assignment, "connection": connection, "changed": ["score"],
        }),
        EventType::AssignmentExpired => json!({
            "resource": assignment, "assignment": assignment, "connection": connection,
        }),
        EventType::ReportParked => json!({
            "resource": report, "connection": connection, "reason": "unknown_candidate",
        }),
        EventType::ReportRejected => json!({ "resource": report, "connection": connection, "reason": "not_json" }),
        EventType::ConnectionChanged => json!({
            "resource": "/connections/startexam-main", "connection": connection, "status": "degraded", "before": "ok",
        }),
        EventType::WebhookFailing | EventType::Ping => json!({ "resource": webhook }),
        EventType::WebhookDisabled => json!({ "resource": webhook, "reason": "gone" }),
        EventType::WebhookGap => json!({ "resource": webhook, "from": 4107, "to": 4310, "count": 96 }),
    };
    let mut example = json!({
        "id": "evt_0192f0c1a3b47c8d9e0f1a2b3c4d5e76", "sequence": 4711, "previous": 4709, "type": event_type.as_str(),
        "timestamp": "2026-11-22T13:42:21.024Z", "data": data,
    });
    if event_type == EventType::Ping
        && let Some(members) = example.as_object_mut()
    {
        members.remove("sequence");
        members.remove("previous");
    }
    example
}

fn event_example() -> Value {
    example_of(EventType::ResultPublished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_of_a_full_payload_is_described() {
        let schema = serde_json::to_value(<EventData as utoipa::PartialSchema>::schema()).unwrap();
        assert_eq!(schema["properties"]["object"]["type"], "object", "{schema}");
    }

    #[test]
    fn every_example_is_a_document_with_nothing_left_out() {
        for event_type in EventType::ALL {
            let example = example_of(*event_type);
            let document: EventDocument = serde_json::from_value(example.clone()).unwrap();
            assert_eq!(document.event_type, *event_type);
            let data: EventData = serde_json::from_value(Value::Object(document.data.clone())).unwrap();
            assert_eq!(data.into_map(), document.data, "{event_type:?}");
            assert_eq!(serde_json::to_value(document).unwrap(), example, "{event_type:?}");
        }
    }
}
