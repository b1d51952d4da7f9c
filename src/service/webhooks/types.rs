//! What callers ask of webhooks, and what they are shown.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::error::{Error, FieldError};
pub use crate::domain::webhook::{PingResult, WebhookPosition};
use crate::domain::webhook::{Webhook, WebhookSettings};
use crate::secret::Secret;

/// A webhook to create.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// What it gets, and where.
    pub settings: WebhookSettings,
    /// A secret of the caller's own; one is generated if there is none.
    pub secret: Option<Secret>,
}

/// A webhook as shown to a caller.
#[derive(Debug, Clone)]
pub struct WebhookView {
    /// The webhook.
    pub webhook: Webhook,
    /// How far its deliveries have come.
    pub position: WebhookPosition,
}

/// The response to a change of a webhook.
#[derive(Debug, Clone)]
pub struct WebhookReply {
    /// The webhook.
    pub view: WebhookView,
    /// Its new secret, returned once.
    pub secret: Option<Secret>,
    /// What came back for the ping of a new webhook.
    pub ping: Option<PingResult>,
}

/// Function that applies the HTTP layer's merge patch to the stored settings; it is applied again if they change meanwhile.
pub type WebhookPatch = Box<dyn Fn(WebhookSettings) -> Result<WebhookSettings, Vec<FieldError>> + Send + Sync>;

/// A change of a webhook's secret.
#[derive(Debug, Clone)]
pub struct SecretRotation {
    /// How long the former secret signs, too.
    pub overlap: Duration,
    /// A secret of the caller's own; one is generated if there is none.
    pub secret: Option<Secret>,
}

/// Which events are to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOrder {
    /// Where the events begin.
    pub start: ReplayStart,
    /// Until when they were made; until now if `None`.
    pub until: Option<Timestamp>,
    /// Patterns of types; those of the webhook if empty.
    pub types: Vec<String>,
    /// Which of them.
    pub only: ReplayScope,
}

/// Where the events of a replay begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStart {
    /// After this sequence number.
    After(u64),
    /// At the first event made at or after this time.
    Since(Timestamp),
}

/// Which events a replay delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayScope {
    /// Those whose delivery has failed.
    Failed,
    /// All, also those that were delivered.
    All,
}

/// Builds the error of settings that are not valid.
pub(super) fn invalid(pointer: &str, detail: impl Into<String>) -> Error {
    Error::from_fields(vec![FieldError::invalid(pointer, detail)])
}
