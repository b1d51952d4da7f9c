//! Deliveries in responses.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::{Moment, page_document};
use crate::domain::event::EventType;
use crate::domain::webhook as domain;
use crate::domain::webhook::{DeliveryReason, DeliveryState};

/// One event on its way to a webhook. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(delivery_example))]
pub struct Delivery {
    /// The gateway's identifier.
    pub id: String,
    /// The id of the webhook.
    pub webhook: String,
    /// The id of the event, which is the `webhook-id` of every attempt.
    pub event: String,
    /// The sequence number of the event.
    pub sequence: u64,
    /// The type of the event.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The id of the assignment that the event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// What became of it.
    pub state: DeliveryState,
    /// Why it has failed before the last attempt of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeliveryReason>,
    /// When the next attempt is due; it may wait longer, for earlier events of its assignment or while the webhook is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Moment>,
    /// The attempts, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
    /// When it was made from the event.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
}

page_document!(DeliveryList, Delivery, delivery_list_example, "A page of deliveries.");

/// One attempt to deliver an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryAttempt {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Moment,
    /// The HTTP status of the receiver, if it responded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100, maximum = 599)]
    pub status: Option<u16>,
    /// How long it took, from resolving the name to the response, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<domain::DeliveryAttempt> for DeliveryAttempt {
    fn from(attempt: domain::DeliveryAttempt) -> Self {
        let domain::DeliveryAttempt { at, status, duration_ms, error } = attempt;
        Self { at: at.into(), status, duration_ms, error }
    }
}

impl From<domain::Delivery> for Delivery {
    fn from(delivery: domain::Delivery) -> Self {
        let domain::Delivery {
            id,
            tenant: _,
            webhook,
            event,
            sequence,
            event_type,
            assignment,
            connection: _,
            state,
            reason,
            step: _,
            due,
            attempts,
            created,
            version: _,
        } = delivery;
        Self {
            id: id.into(),
            webhook: webhook.into(),
            event: event.into(),
            sequence,
            event_type,
            assignment: assignment.map(Into::into),
            state,
            reason,
            next_attempt_at: due.map(Into::into),
            attempts: attempts.into_iter().map(Into::into).collect(),
            created_at: created.into(),
        }
    }
}

/// Builds the example of a delivery.
fn delivery_example() -> Value {
    json!({
        "id": "dlv_0192f0c1a3b47c8d9e0f1a2b3c4d5e77",
        "webhook": "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75",
        "event": "evt_0192f0c1a3b47c8d9e0f1a2b3c4d5e76",
        "sequence": 4711,
        "type": "result.published",
        "assignment": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70",
        "state": "pending",
        "nextAttemptAt": "2026-11-22T09:35:23.310Z",
        "attempts": [{
            "at": "2026-11-22T09:30:23.201Z",
            "status": 503,
            "durationMs": 87,
            "error": "the receiver responded with 503",
        }],
        "createdAt": "2026-11-22T09:30:21.024Z",
    })
}

fn delivery_list_example() -> Value {
    json!({ "items": [delivery_example()], "nextCursor": null })
}
