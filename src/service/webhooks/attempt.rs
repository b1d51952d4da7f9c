//! One attempt: the event's document is signed and sent.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument as _;
use url::Url;

use crate::domain::error::Error;
use crate::domain::event::{EventDocument, EventType};
use crate::domain::exchange::{Cause, ExchangeOwner, VendorCall};
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::signature::sign;
use crate::domain::webhook::{DeliveryAttempt, Webhook, WebhookPayload};
use crate::service::Gateway;
use crate::service::webhooks::settings::{DeliveryContext, EventResource};
use crate::service::webhooks::verdict::{EndedAttempt, Verdict, failure_text, judge};
use crate::telemetry::spans;
use crate::transport::delivery::{DeliveryError, DeliveryResponse};

/// The field of an event's data that names its connection.
const CONNECTION: &str = "connection";
/// The field of an event's data that holds the resource, of a webhook with the payload `full`.
const OBJECT: &str = "object";
/// The field that says that the person was erased.
const ERASED: &str = "erased";
/// What exchanges show as the kind of vendor.
const VENDOR: &str = "webhook";

/// An attempt in flight.
pub(super) struct BegunAttempt {
    /// The number of the delivery's event.
    pub(super) sequence: u64,
    /// When it began: by the gateway's steady time, by the wall clock, and to measure its duration.
    pub(super) began: Timestamp,
    at: Timestamp,
    started: Instant,
}

impl BegunAttempt {
    /// Returns an attempt that begins now.
    pub(super) fn now(gateway: &Gateway, sequence: u64) -> Self {
        Self { sequence, began: gateway.now(), at: gateway.0.system.now(), started: Instant::now() }
    }

    /// Returns the end of an attempt that has ended now without a result.
    pub(super) fn unknown_end(self) -> EndedAttempt {
        let Self { sequence, began, at, started } = self;
        let took = started.elapsed();
        let error = Some("The attempt ended unexpectedly.".to_owned());
        EndedAttempt {
            sequence,
            began,
            ended: began.saturating_add(took).unwrap_or(began),
            attempt: DeliveryAttempt { at, status: None, duration_ms: milliseconds(took), error },
            verdict: Verdict::Unknown,
        }
    }
}

impl Gateway {
    /// Adds to an event the resource that a webhook with the payload `full` gets with it.
    ///
    /// # Errors
    /// `store_unavailable` if the resource cannot be read now.
    pub(super) async fn with_resource(
        &self,
        context: &DeliveryContext,
        webhook: &Webhook,
        mut document: EventDocument,
    ) -> Result<EventDocument, Error> {
        let path = document.data.get("resource").and_then(Value::as_str).map(str::to_owned);
        if webhook.settings.payload == WebhookPayload::Full
            && let Some(path) = path
        {
            // Read now and never stored: a person who is erased meanwhile is not in it.
            let EventResource { object, is_erased } =
                context.owners.read(self, webhook, document.event_type, &path).await?;
            document.data.extend(object.map(|object| (OBJECT.to_owned(), object)));
            document.data.extend(is_erased.then(|| (ERASED.to_owned(), Value::Bool(true))));
        }
        Ok(document)
    }

    /// Sends an event to a webhook once.
    pub(super) async fn attempt(
        &self,
        context: &DeliveryContext,
        webhook: &Webhook,
        document: &EventDocument,
    ) -> (DeliveryAttempt, Verdict) {
        let span = spans::delivery(webhook.id.as_str(), &document.id, document.event_type.as_str());
        // Receivers read these times, so they are the wall clock's.
        let (at, began) = (self.0.system.now(), Instant::now());
        let sent = self.send(context, webhook, document, at).instrument(span.clone()).await;
        let took = began.elapsed();
        let attempt = DeliveryAttempt {
            at,
            status: sent.as_ref().ok().map(|response| response.status),
            duration_ms: milliseconds(took),
            error: failure_text(&sent),
        };
        spans::delivered(&span, attempt.status);
        let verdict = judge(&sent, self.0.system.now());
        if verdict != Verdict::Accepted {
            let ended = sent.as_ref().map_or_else(DeliveryError::as_str, |_| "answered");
            self.keep_failed(webhook, document, &attempt, (took, ended));
        }
        (attempt, verdict)
    }

    async fn send(
        &self,
        context: &DeliveryContext,
        webhook: &Webhook,
        document: &EventDocument,
        at: Timestamp,
    ) -> Result<DeliveryResponse, DeliveryError> {
        let body = serde_json::to_vec(document).map_err(|error| DeliveryError::NotConnected(error.to_string()))?;
        let headers = sign(&self.signing_keys(webhook), &document.id, at, &body);
        context.client.send(webhook.source, &webhook.settings.url, &headers, Bytes::from(body)).await
    }

    /// Keeps the exchange of an attempt that was not accepted, without what may be secret: of the address only the host. Those
    /// that succeed would crowd out everything else.
    fn keep_failed(
        &self,
        webhook: &Webhook,
        document: &EventDocument,
        attempt: &DeliveryAttempt,
        (took, ended): (Duration, &'static str),
    ) {
        let exchange = self.background_exchange(format!("delivery-{}", webhook.id), None);
        let url = Url::parse(&webhook.settings.url);
        exchange.add(VendorCall {
            connection: String::new(),
            vendor: VENDOR.to_owned(),
            operation: if document.event_type == EventType::Ping { "webhooks.ping" } else { "deliveries.send" },
            settling: false,
            started: attempt.at,
            waited: Duration::ZERO,
            took,
            method: "POST".to_owned(),
            address: url.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization()),
            ended,
            detail: attempt.error.clone(),
            status: attempt.status,
            request: None,
            headers: Vec::new(),
            answer: None,
        });
        let cause = Cause::Delivery {
            resource: webhook.id.path(),
            client: webhook.client().map(str::to_owned),
            connections: webhook.settings.connections.clone(),
            connection: document.data.get(CONNECTION).and_then(Value::as_str).map(str::to_owned),
        };
        self.keep_exchange(&exchange, ExchangeOwner { tenant: webhook.tenant.clone(), cause });
    }

    /// Returns the keys that sign now: the current one, and those that were replaced and whose overlap has not ended.
    fn signing_keys(&self, webhook: &Webhook) -> Vec<SigningKey> {
        let now: Timestamp = self.now();
        let valid = webhook.secrets.iter().filter(|secret| secret.expires.is_none_or(|end| end > now));
        valid.filter_map(|secret| SigningKey::parse(secret.value.expose()).ok()).collect()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::EventData;

    #[test]
    fn what_a_full_delivery_adds_to_an_event_is_described() {
        let added = json!({ OBJECT: { "id": "res_1" }, ERASED: true });
        let described: EventData = serde_json::from_value(added.clone()).unwrap();
        assert_eq!(Value::from(described.into_map()), added);
    }
}
