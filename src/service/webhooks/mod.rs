//! Webhooks: delivers the tenants' events to the addresses that clients or the operator name.
//!
//! * `settings`, `registry`: how deliveries are sent, which webhooks the operator defines, and which have a sender.
//! * `reading`, `scan`, `window`: which events a webhook gets, their deliveries, and which of them is next.
//! * `exclusion`, `gap`: deliveries of events that a webhook no longer gets, and events that expired before it got them.
//! * `sender`, `attempt`, `verdict`: one task per webhook over all instances; one attempt, and what its end means.
//! * `requests`, `queries`, `replay`: what clients ask; `replies`: their writes, at most once per key.
//!
//! It must never drop an event that a webhook is to get without saying so (`webhook.gap`), and never hold back one webhook for
//! another.

mod attempt;
mod exclusion;
mod gap;
mod queries;
mod reading;
mod registry;
mod replay;
mod replies;
mod requests;
mod scan;
mod sender;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod verdict;
mod window;

pub use self::settings::{ConfiguredWebhook, DeliverySettings, EventResource, WebhookOwner, WebhookOwners};
pub(in crate::service) use self::state::WebhooksState;
pub use self::types::{
    NewWebhook, PingResult, ReplayOrder, ReplayScope, ReplayStart, SecretRotation, WebhookPatch, WebhookPosition,
    WebhookReply, WebhookView,
};
