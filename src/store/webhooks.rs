//! Arguments and results of the store that concern webhooks and deliveries.

use jiff::Timestamp;

use crate::domain::ids::{EventId, WebhookId};
use crate::domain::webhook::{Delivery, DeliveryState};

/// A step of making deliveries for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookScan {
    /// The webhook.
    pub id: WebhookId,
    /// The version it was read with, which says what its filter is.
    pub version: u64,
    /// The event it was read with.
    pub before: u64,
    /// Up to which event deliveries are made, of those that pass its filter.
    pub scanned: u64,
}

/// What the last attempts say of a webhook's receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHealth {
    /// The webhook.
    pub id: WebhookId,
    /// The webhook's version that the attempts belong to.
    pub version: u64,
    /// The failed attempts in a row.
    pub failures: u32,
    /// When the first of them was made.
    pub failing_since: Option<Timestamp>,
    /// Before which nothing is sent.
    pub resume_at: Option<Timestamp>,
}

/// Filter for a list of deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of this event.
    pub event: Option<EventId>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of events at these connections, or at none; at all of them if `None`.
    pub connections: Option<Vec<String>>,
}

/// The pending deliveries of a webhook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookBacklog {
    /// How many there are.
    pub pending: u64,
    /// The number of the first event among them.
    pub oldest_pending: Option<u64>,
}

/// Pending deliveries of a webhook that may be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendableDeliveries {
    /// The deliveries, in the order of their events.
    pub deliveries: Vec<Delivery>,
    /// The number of the event after which to look for others; `None` if all pending deliveries were looked at.
    pub looked_to: Option<u64>,
}
