//! How webhooks are delivered, as the operator has configured it, and what the public face knows of their owners.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use url::Url;

use crate::domain::error::Error;
use crate::domain::event::EventType;
use crate::domain::webhook::schedule::RetrySchedule;
use crate::domain::webhook::signature::SignatureHeaders;
use crate::domain::webhook::{Webhook, WebhookSettings, WebhookSource};
use crate::secret::Secret;
use crate::service::{ConnectionAccess, Gateway};
use crate::transport::RootCertificates;
use crate::transport::delivery::{
    DeliveryClient, DeliveryClientSettings, DeliveryError, DeliveryResponse, TargetPolicy,
};

/// Settings of deliveries, and the webhooks that the operator defines.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// Limit of one attempt, from resolving the name to the end of the response.
    pub timeout: Duration,
    /// Pauses before the attempts of a delivery.
    pub schedule: RetrySchedule,
    /// How long every attempt may fail before the webhook is disabled.
    pub disable_after: Duration,
    /// Root certificates that are trusted besides the platform's.
    pub authorities: RootCertificates,
    /// The webhooks that the operator defines.
    pub webhooks: Vec<ConfiguredWebhook>,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            policy: TargetPolicy::default(),
            timeout: Duration::from_secs(20),
            schedule: RetrySchedule::default(),
            disable_after: Duration::from_hours(5 * 24),
            authorities: RootCertificates::default(),
            webhooks: Vec::new(),
        }
    }
}

/// A webhook that the operator defines.
#[derive(Debug, Clone)]
pub struct ConfiguredWebhook {
    /// Its name.
    pub name: String,
    /// The tenant whose events it gets.
    pub tenant: String,
    /// What it gets, and where.
    pub settings: WebhookSettings,
    /// Its secrets, the current one first.
    pub secrets: Vec<Secret>,
}

/// The client that owns a webhook, as it is configured now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOwner {
    /// The connections it may use.
    pub connections: ConnectionAccess,
}

/// The resource of an event, as far as a webhook gets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventResource {
    /// What a read of it responds to the webhook's owner; `None` if the owner may not read it, or there is none.
    pub object: Option<Value>,
    /// Whether the person whom it is about was erased.
    pub is_erased: bool,
}

/// Knowledge of the owners of webhooks, which the public face has.
#[async_trait]
pub trait WebhookOwners: Send + Sync {
    /// Returns the owner of a webhook; `None` if there is no such client any more. The owner of a configured webhook may
    /// use every connection.
    fn owner(&self, webhook: &Webhook) -> Option<WebhookOwner>;

    /// Returns the resource of an event of this type, at a path, as a read of it responds to the webhook's owner.
    ///
    /// # Errors
    /// `store_unavailable` if it cannot be read now.
    async fn read(
        &self,
        gateway: &Gateway,
        webhook: &Webhook,
        event_type: EventType,
        path: &str,
    ) -> Result<EventResource, Error>;
}

/// Everything that sending needs, as configured now.
pub(super) struct DeliveryContext {
    pub(super) settings: DeliverySettings,
    pub(super) owners: Arc<dyn WebhookOwners>,
    pub(super) client: Arc<dyn DeliveryTransport>,
}

/// The way to receivers: the HTTP client, or a receiver in the same process in tests.
#[async_trait]
pub(super) trait DeliveryTransport: Send + Sync {
    /// Resolves the host of a URL and judges its addresses.
    async fn check_host(&self, url: &Url) -> Result<(), DeliveryError>;

    /// Judges the URL of a webhook by who has named it, and sends a signed body to it.
    async fn send(
        &self,
        source: WebhookSource,
        url: &str,
        headers: &SignatureHeaders,
        body: Bytes,
    ) -> Result<DeliveryResponse, DeliveryError>;
}

#[async_trait]
impl DeliveryTransport for DeliveryClient {
    async fn check_host(&self, url: &Url) -> Result<(), DeliveryError> {
        self.check_host(url).await
    }

    async fn send(
        &self,
        source: WebhookSource,
        url: &str,
        headers: &SignatureHeaders,
        body: Bytes,
    ) -> Result<DeliveryResponse, DeliveryError> {
        self.send(source, url, headers, body).await
    }
}

impl DeliveryContext {
    /// Creates the context with an HTTP client.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn new(settings: DeliverySettings, owners: Arc<dyn WebhookOwners>) -> Result<Self, String> {
        let client = DeliveryClient::new(DeliveryClientSettings {
            policy: settings.policy.clone(),
            timeout: settings.timeout,
            authorities: settings.authorities.clone(),
        })?;
        Ok(Self { settings, owners, client: Arc::new(client) })
    }
}
