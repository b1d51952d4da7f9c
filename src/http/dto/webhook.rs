//! Webhooks in responses.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::{Meta, Moment, page_document};
use super::delivery::DeliveryAttempt;
use crate::domain::webhook as domain;
use crate::domain::webhook::{
    DeliveryOrder, DisableReason, WebhookPayload, WebhookSettings, WebhookSource, WebhookState,
};
use crate::service::{WebhookReply, WebhookView};

pub(in crate::http) mod actions;
pub(in crate::http) mod changes;
pub(in crate::http) mod input;

/// Where the tenant's events are delivered. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(webhook_example))]
pub struct Webhook {
    /// The gateway's identifier.
    pub id: String,
    /// Where it is defined.
    pub source: WebhookSource,
    /// Its name in the operator's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address to which events are delivered.
    pub url: String,
    /// The caller's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The types of events that it gets, as they were given; absent if it gets all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub types: Vec<String>,
    /// The connections whose events it gets; absent if it gets those of all that its client may use. It also gets events
    /// without a connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub connections: Vec<String>,
    /// The assessments whose events it gets; absent if it gets those of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub assessments: Vec<String>,
    /// What a delivery holds.
    pub payload: WebhookPayload,
    /// The order of deliveries.
    pub order: DeliveryOrder,
    /// The maximum number of deliveries in flight.
    pub max_in_flight: u32,
    /// The maximum number of deliveries per second; 0 for no limit.
    pub requests_per_second: u32,
    /// The state.
    pub state: WebhookState,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisableReason>,
    /// Since when every attempt has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Moment>,
    /// When the next attempt is made, if the receiver did not respond or asked for patience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resume_at: Option<Moment>,
    /// How far its deliveries are, in sequence numbers of events.
    pub position: WebhookPosition,
    /// The secret that signs its deliveries; only in the response to its creation and rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What the receiver responded to the ping at its creation; only in that response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<WebhookPing>,
    /// When it was created, and when it last changed.
    pub meta: Meta,
}

page_document!(WebhookList, Webhook, webhook_list_example, "A page of webhooks.");

/// How far the deliveries of a webhook are, in sequence numbers of events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPosition {
    /// The event up to which every one that passes the webhook's filters has been delivered, or has failed for good; 0 if
    /// there is none.
    pub delivered: u64,
    /// The latest event that passes the webhook's filters; 0 if none is kept.
    pub latest: u64,
    /// The oldest event that is still to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<u64>,
}

/// What a receiver responded to a ping: a delivery of the type `ping`, whose event is in no list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(webhook_ping_example))]
pub struct WebhookPing {
    /// The id of the event, which is also the `webhook-id` of the delivery.
    pub event: String,
    /// Whether the receiver has accepted it.
    pub delivered: bool,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: DeliveryAttempt,
}

impl From<domain::WebhookPosition> for WebhookPosition {
    fn from(position: domain::WebhookPosition) -> Self {
        let domain::WebhookPosition { delivered, latest, oldest_pending } = position;
        Self { delivered, latest, oldest_pending }
    }
}

impl From<WebhookView> for Webhook {
    fn from(view: WebhookView) -> Self {
        let WebhookView { webhook, position } = view;
        let domain::Webhook {
            id,
            tenant: _,
            owner,
            source,
            settings,
            secrets: _,
            state,
            reason,
            scanned: _,
            failures: _,
            failing_since,
            resume_at,
            created,
            last_modified,
            version: _,
        } = webhook;
        let WebhookSettings {
            url,
            description,
            types,
            connections,
            assessments,
            payload,
            order,
            max_in_flight,
            requests_per_second,
        } = settings;
        Self {
            id: id.into(),
            source,
            name: Some(owner).filter(|_| source == WebhookSource::Configuration),
            url,
            description,
            types,
            connections,
            assessments,
            payload,
            order,
            max_in_flight,
            requests_per_second,
            state,
            reason,
            failing_since: failing_since.map(Into::into),
            resume_at: resume_at.map(Into::into),
            position: position.into(),
            secret: None,
            ping: None,
            meta: Meta::of(created, last_modified),
        }
    }
}

impl From<WebhookReply> for Webhook {
    fn from(reply: WebhookReply) -> Self {
        let WebhookReply { view, secret, ping } = reply;
        let secret = secret.map(|secret| secret.expose().to_owned());
        Self { secret, ping: ping.map(Into::into), ..view.into() }
    }
}

impl From<domain::PingResult> for WebhookPing {
    fn from(result: domain::PingResult) -> Self {
        let domain::PingResult { event, delivered, attempt } = result;
        Self { event: event.into(), delivered, attempt: attempt.into() }
    }
}

/// Builds the example of a webhook.
fn webhook_example() -> Value {
    json!({
        "id": "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75",
        "source": "api",
        "url": "https://lms.example.com/examgate",
        "types": ["result.*", "assignment.*"],
        "payload": "thin",
        "order": "resource",
        "maxInFlight": 4,
        "requestsPerSecond": 0,
        "state": "enabled",
        "position": { "delivered": 4709, "latest": 4711, "oldestPending": 4711 },
        "meta": { "created": "2026-11-22T09:30:21.024Z", "lastModified": "2026-11-22T09:30:21.024Z" },
    })
}

/// Builds the example of a webhook in the response to its creation. Its secret is no secret.
pub(in crate::http) fn created_webhook_example() -> Value {
    let mut webhook = rotated_webhook_example();
    webhook["position"] = json!({ "delivered": 4709, "latest": 4709 });
    webhook["ping"] = webhook_ping_example();
    webhook
}

/// Builds the example of a webhook in the response to a rotation. Its secret is no secret.
pub(in crate::http) fn rotated_webhook_example() -> Value {
    let mut webhook = webhook_example();
    webhook["secret"] = json!("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    webhook
}

fn webhook_list_example() -> Value {
    json!({ "items": [webhook_example()], "nextCursor": null })
}

fn webhook_ping_example() -> Value {
    json!({
        "event": "evt_0192f0c1a3b47c8d9e0f1a2b3c4d5e76",
        "delivered": true,
        "at": "2026-11-22T09:30:21.024Z",
        "status": 204,
        "durationMs": 87,
    })
}

#[cfg(test)]
mod tests;
