//! One attempt: the event's document is signed and sent.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::event::EventDocument;
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::signature::sign;
use crate::domain::webhook::{DeliveryAttempt, Webhook, WebhookPayload};
use crate::service::Gateway;
use crate::service::webhooks::settings::DeliveryContext;
use crate::service::webhooks::verdict::{Verdict, failure_text, judge};
use crate::transport::delivery::DeliveryError;

/// The member of an event's data that holds the resource, of a webhook with the payload `full`.
const OBJECT: &str = "object";

impl Gateway {
    /// Sends an event to a webhook once.
    pub(super) async fn attempt(
        &self,
        context: &DeliveryContext,
        webhook: &Webhook,
        mut document: EventDocument,
    ) -> (DeliveryAttempt, Verdict) {
        if webhook.settings.payload == WebhookPayload::Full
            && let Some(path) = document.data.get("resource").and_then(|resource| resource.as_str())
            && let Some(object) = context.owners.read(self, webhook, path).await
        {
            // Built now and never stored: a person who is erased meanwhile is not in it.
            document.data.insert(OBJECT.to_owned(), object);
        }
        // Receivers read these times, so they are the wall clock's.
        let (at, began) = (self.0.system.now(), Instant::now());
        let result = match serde_json::to_vec(&document) {
            Ok(body) => {
                let headers = sign(&self.signing_keys(webhook), &document.id, at, &body);
                context.client.send(&webhook.settings.url, &headers, Bytes::from(body)).await
            }
            Err(error) => Err(DeliveryError::NotConnected(error.to_string())),
        };
        let attempt = DeliveryAttempt {
            at,
            status: result.as_ref().ok().map(|response| response.status),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: failure_text(&result),
        };
        (attempt, judge(&result, self.0.system.now()))
    }

    /// Returns the keys that sign now: the current one, and those that were replaced and whose overlap has not ended.
    fn signing_keys(&self, webhook: &Webhook) -> Vec<SigningKey> {
        let now: Timestamp = self.now();
        let valid = webhook.secrets.iter().filter(|secret| secret.expires.is_none_or(|end| end > now));
        valid.filter_map(|secret| SigningKey::parse(secret.value.expose()).ok()).collect()
    }
}
