//! Webhooks, to which a tenant's events are delivered, and their deliveries.

pub mod schedule;
pub mod secret;
pub mod signature;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::EventType;
use super::ids::{AssignmentId, DeliveryId, EventId, WebhookId};
use super::words::words;
use crate::secret::Secret;

words! {
    /// What a delivery's body holds besides the event.
    pub enum WebhookPayload {
        /// The event alone.
        Thin "thin",
        /// Also the resource as a read of it responds when the event is sent (`data.object`); `data.erased` is true if the person
        /// whom it is about was erased. Needs the scopes to read what events of the webhook's types are about.
        Full "full",
    }
}

words! {
    /// The order of deliveries.
    pub enum DeliveryOrder {
        /// Events of one assignment arrive in order; others may overtake them.
        Resource "resource",
        /// None.
        Unordered "none",
    }
}

words! {
    /// The state of a webhook.
    pub enum WebhookState {
        /// Its deliveries are sent.
        Enabled "enabled",
        /// A client has paused it; it keeps its place.
        Paused "paused",
        /// Its last deliveries failed; the gateway tries again.
        Failing "failing",
        /// Nothing is sent until a client resumes it; it keeps its place.
        Disabled "disabled",
    }
}

words! {
    /// Why a webhook is disabled.
    pub enum DisableReason {
        /// The receiver has responded with 410.
        Gone "gone",
        /// No delivery has succeeded for too long.
        Failing "failing",
    }
}

words! {
    /// Where a webhook is defined.
    pub enum WebhookSource {
        /// In the operator's configuration; clients cannot change it.
        Configuration "configuration",
        /// A client has created it.
        Api "api",
    }
}

words! {
    /// The state of a delivery.
    pub enum DeliveryState {
        /// It is sent, or waits to be.
        Pending "pending",
        /// The receiver has accepted it.
        Delivered "delivered",
        /// The last attempt of the schedule has failed, or `reason` says why there is no other.
        Failed "failed",
    }
}

words! {
    /// Why a delivery has failed before the last attempt of the schedule.
    pub enum DeliveryReason {
        /// Its event was kept for its time, and was not delivered in it; `webhook.gap` counts it.
        Expired "expired",
        /// The webhook no longer gets the event: its filters, or what its owner may use, have changed.
        Excluded "excluded",
    }
}

/// A secret by which deliveries are signed.
#[derive(Debug, Clone)]
pub struct WebhookSecret {
    /// The secret in the form `whsec_…` (Standard Webhooks 1.0).
    pub value: Secret,
    /// When a rotated one is no longer used; `None` for the current one.
    pub expires: Option<Timestamp>,
}

/// What a webhook is to get, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSettings {
    /// The address.
    pub url: String,
    /// A caller's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The types as the client wrote them: names and `result.*`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Only these connections; empty for all that the client may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<String>,
    /// Only these assessments of the catalogue; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assessments: Vec<String>,
    /// What a delivery's body holds.
    pub payload: WebhookPayload,
    /// The order of deliveries.
    pub order: DeliveryOrder,
    /// The maximum number of deliveries in flight.
    pub max_in_flight: u32,
    /// The maximum number of deliveries a second; 0 for no limit.
    pub requests_per_second: u32,
}

/// A webhook as it is stored. Its serialised form is without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Webhook {
    /// The gateway's identifier.
    pub id: WebhookId,
    /// The tenant whose events it gets.
    pub tenant: String,
    /// The client that created it, whose access bounds what it gets; the configured name if the operator did.
    pub owner: String,
    /// Where it is defined.
    pub source: WebhookSource,
    /// Its settings.
    pub settings: WebhookSettings,
    /// Its secrets, the current one first.
    #[serde(skip)]
    pub secrets: Vec<WebhookSecret>,
    /// Its state.
    pub state: WebhookState,
    /// Why it is disabled.
    pub reason: Option<DisableReason>,
    /// Up to which event deliveries were made for it, of those that pass its filter.
    pub scanned: u64,
    /// The failed attempts in a row.
    pub failures: u32,
    /// When the first of them was made.
    pub failing_since: Option<Timestamp>,
    /// Before which nothing is sent, because the receiver does not respond or asks for patience.
    pub resume_at: Option<Timestamp>,
    /// When it was created.
    pub created: Timestamp,
    /// When its settings or its state last changed.
    pub last_modified: Timestamp,
    /// The number of its changes, by which two writers do not overwrite each other's; from 1.
    pub version: u64,
}

impl Webhook {
    /// Returns the client whose webhook it is; `None` if the operator has configured it.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        (self.source == WebhookSource::Api).then_some(self.owner.as_str())
    }
}

/// One attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Timestamp,
    /// The receiver's status, if it responded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far the deliveries of a webhook have come, in sequence numbers of its tenant's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookPosition {
    /// Up to this event, nothing is pending; 0 for none.
    pub delivered: u64,
    /// The latest event that passes the webhook's filter; 0 for none.
    pub latest: u64,
    /// The oldest event that is to be delivered.
    pub oldest_pending: Option<u64>,
}

/// What came back for a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingResult {
    /// The id of the event.
    pub event: EventId,
    /// Whether the receiver has accepted it.
    pub delivered: bool,
    /// The attempt.
    pub attempt: DeliveryAttempt,
}

/// One event on its way to one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The gateway's identifier.
    pub id: DeliveryId,
    /// The tenant.
    pub tenant: String,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
    /// The event's number.
    pub sequence: u64,
    /// The event's type.
    pub event_type: EventType,
    /// The assignment the event is about; its deliveries are in order.
    pub assignment: Option<AssignmentId>,
    /// The event's connection; empty where it is not known any more.
    #[serde(default)]
    pub connection: Option<String>,
    /// Its state.
    pub state: DeliveryState,
    /// Why it has failed, if no last attempt says so.
    #[serde(default)]
    pub reason: Option<DeliveryReason>,
    /// The step of the schedule that comes next; from 0.
    pub step: u32,
    /// When the next attempt is due; `None` unless it is pending.
    pub due: Option<Timestamp>,
    /// Its attempts, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
    /// When it was made.
    pub created: Timestamp,
    /// The number of its changes, by which two writers do not overwrite each other's; from 1.
    #[serde(default = "first_version")]
    pub version: u64,
}

impl Delivery {
    /// Returns the delivery as its next version, due at this time and with the schedule from its beginning.
    #[must_use]
    pub fn pending_again(self, now: Timestamp) -> Self {
        let version = self.version + 1;
        Self { state: DeliveryState::Pending, reason: None, step: 0, due: Some(now), version, ..self }
    }

    /// Returns the delivery as its next version, failed for this reason.
    #[must_use]
    pub fn failed_for(self, reason: DeliveryReason) -> Self {
        let version = self.version + 1;
        Self { state: DeliveryState::Failed, reason: Some(reason), due: None, version, ..self }
    }
}

/// The version of a delivery in a reply that an earlier program has stored.
const fn first_version() -> u64 {
    1
}
