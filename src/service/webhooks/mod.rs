//! Webhooks: delivers the tenants' events to the addresses that clients or the operator name.

mod replies;
mod settings;
mod types;

pub use self::settings::{ConfiguredWebhook, DeliverySettings, WebhookOwner, WebhookOwners};
pub use self::types::{
    NewWebhook, PingResult, ReplayOrder, ReplayScope, ReplayStart, SecretRotation, WebhookPatch, WebhookPosition,
    WebhookReply, WebhookView,
};
