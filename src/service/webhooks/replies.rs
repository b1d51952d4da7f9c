//! Writes of webhooks at most once per `Idempotency-Key`. What they respond is stored under the key, a new secret included.

use crate::domain::error::Error;
use crate::domain::ids::{DeliveryId, WebhookId};
use crate::domain::intent::StoredReply;
use crate::domain::outcome::Outcome;
use crate::domain::webhook::{Delivery, PingResult};
use crate::service::audit::entry::AuditFacts;
use crate::service::webhooks::types::{NewWebhook, SecretRotation, WebhookPatch, WebhookReply, WebhookView};
use crate::service::write::handle::{Removal, WriteHandle, WriteResult};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, RequestContext};

impl Replayable for WebhookReply {
    const IS_STORED_WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        let (created, Self { view, secret, ping }) = written.clone().into_ended()?;
        let WebhookView { webhook, position } = view;
        Some(StoredReply::Webhook { created, webhook: Box::new(webhook), position, secret, ping })
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts> {
        Some(facts(written.value().view.webhook.id.path()))
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Webhook { created, webhook, position, secret, ping } = reply else { return None };
        Some(WriteResult::ended(created, Self { view: WebhookView { webhook: *webhook, position }, secret, ping }))
    }
}

impl Replayable for PingResult {
    const IS_STORED_WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        written.clone().into_ended().map(|(_, result)| StoredReply::Ping(result))
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(_written: &WriteResult<Self>) -> Option<AuditFacts> {
        Some(AuditFacts { object: None, connection: None, outcome: Outcome::Applied })
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Ping(result) = reply else { return None };
        Some(WriteResult::Existing(result))
    }
}

impl Replayable for Delivery {
    const IS_STORED_WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        written.clone().into_ended().map(|(_, delivery)| StoredReply::Delivery(Box::new(delivery)))
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(written: &WriteResult<Self>) -> Option<AuditFacts> {
        Some(facts(written.value().id.path()))
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Delivery(delivery) = reply else { return None };
        Some(WriteResult::Existing(*delivery))
    }
}

fn facts(object: String) -> AuditFacts {
    AuditFacts { object: Some(object), connection: None, outcome: Outcome::Applied }
}

impl Gateway {
    /// Creates a webhook and pings it once.
    ///
    /// # Errors
    /// `draining`; those of the write itself come from the handle.
    pub fn create_webhook(&self, caller: &RequestContext, new: NewWebhook) -> Result<WriteHandle<WebhookReply>, Error> {
        self.spawn_idempotent(caller, "webhooks.create", move |gateway, caller, _| async move {
            gateway.create_webhook_now(&caller, new).await.map(WriteResult::Created)
        })
    }

    /// Changes the settings of a webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn update_webhook(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        patch: WebhookPatch,
    ) -> Result<WriteHandle<WebhookReply>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.update", move |gateway, caller, _| async move {
            gateway.update_webhook_now(&caller, &id, patch).await.map(WriteResult::Existing)
        })
    }

    /// Deletes a webhook with its deliveries.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn remove_webhook(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
    ) -> Result<WriteHandle<Removal<WebhookReply>>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.delete", move |gateway, caller, _| async move {
            gateway.remove_webhook_now(&caller, &id).await.map(|_| WriteResult::Created(Removal::Done))
        })
    }

    /// Pings a webhook once.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn ping_webhook(&self, caller: &RequestContext, id: &WebhookId) -> Result<WriteHandle<PingResult>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.ping", move |gateway, caller, _| async move {
            gateway.ping_webhook_now(&caller, &id).await.map(WriteResult::Existing)
        })
    }

    /// Replaces the secret of a webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn rotate_webhook_secret(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        rotation: SecretRotation,
    ) -> Result<WriteHandle<WebhookReply>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.rotate", move |gateway, caller, _| async move {
            gateway.rotate_webhook_secret_now(&caller, &id, rotation).await.map(WriteResult::Existing)
        })
    }

    /// Pauses a webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn pause_webhook(&self, caller: &RequestContext, id: &WebhookId) -> Result<WriteHandle<WebhookReply>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.pause", move |gateway, caller, _| async move {
            gateway.pause_webhook_now(&caller, &id).await.map(WriteResult::Existing)
        })
    }

    /// Resumes a paused, failing or disabled webhook.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn resume_webhook(&self, caller: &RequestContext, id: &WebhookId) -> Result<WriteHandle<WebhookReply>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "webhooks.resume", move |gateway, caller, _| async move {
            gateway.resume_webhook_now(&caller, &id).await.map(WriteResult::Existing)
        })
    }

    /// Has a delivery attempted again.
    ///
    /// # Errors
    /// As [`Self::create_webhook`].
    pub fn retry_delivery(&self, caller: &RequestContext, id: &DeliveryId) -> Result<WriteHandle<Delivery>, Error> {
        let id = id.clone();
        self.spawn_idempotent(caller, "deliveries.retry", move |gateway, caller, _| async move {
            gateway.retry_delivery_now(&caller, &id).await.map(WriteResult::Existing)
        })
    }
}
