//! Requests that create and change webhooks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::event::EventType;
use crate::domain::ids::{DeliveryId, WebhookId};
use crate::domain::record::RecordId;
use crate::domain::scope::Scope;
use crate::domain::webhook::secret::{SigningKey, generate_secret};
use crate::domain::webhook::{
    Delivery, DeliveryState, PingResult, Webhook, WebhookPayload, WebhookSecret, WebhookSettings, WebhookSource,
    WebhookState,
};
use crate::secret::Secret;
use crate::service::errors::{StoreResultExt as _, with_resource_if_unknown};
use crate::service::webhooks::reading::types_of;
use crate::service::webhooks::registry::{enable, healthy};
use crate::service::webhooks::settings::DeliveryContext;
use crate::service::webhooks::types::{NewWebhook, SecretRotation, WebhookPatch, WebhookReply, WebhookView, invalid};
use crate::service::webhooks::verdict::Verdict;
use crate::service::{Gateway, RequestContext};
use crate::store::{Mutation, StoreError};
use crate::transport::delivery::{DeliveryError, TargetRefusal};

/// Maximum number of webhooks of a tenant: each has a sender, and deliveries of its own.
const MAX_WEBHOOKS: usize = 100;
/// Maximum number of secrets of a webhook, the current one included.
const MAX_SECRETS: usize = 4;
/// Maximum number of attempts to change a webhook that others change at the same time.
const MAX_COMMITS: usize = 8;

impl Gateway {
    /// Creates a webhook, and pings it once before: what came back is part of the response, and does not decide.
    ///
    /// # Errors
    /// `webhook_not_allowed`, `validation_failed`, `connection_not_found`, `connection_forbidden`, `insufficient_scope`,
    /// `store_unavailable`.
    pub(in crate::service) async fn create_webhook_now(
        &self,
        caller: &RequestContext,
        new: NewWebhook,
    ) -> Result<WebhookReply, Error> {
        let NewWebhook { settings, secret } = new;
        check_payload(caller, &settings)?;
        let context = self.delivery_context()?;
        if let Some(reply) = self.created_webhook(caller, &context, secret.is_none()).await? {
            return Ok(reply);
        }
        self.check_settings(caller, &settings)?;
        self.check_target(&context, &settings.url).await?;
        let (secret, is_generated) = self.secret_or_new(secret)?;
        let all = self.0.store.all_webhooks().await.or_not_applied()?;
        if all.iter().filter(|webhook| webhook.tenant == caller.tenant).count() >= MAX_WEBHOOKS {
            return Err(invalid("", format!("the tenant has {MAX_WEBHOOKS} webhooks, and may have no more")));
        }
        let now = self.now();
        let latest = self.0.store.latest_event(&caller.tenant).await.or_not_applied()?;
        let webhook = Webhook {
            id: WebhookId::generate(&self.0.system),
            tenant: caller.tenant.clone(),
            owner: caller.client.clone(),
            source: WebhookSource::Api,
            settings,
            secrets: vec![WebhookSecret { value: secret.clone(), expires: None }],
            state: WebhookState::Enabled,
            reason: None,
            // It gets the events from now on.
            scanned: latest,
            failures: 0,
            failing_since: None,
            resume_at: None,
            created: now,
            last_modified: now,
            version: 1,
        };
        let ping = self.ping(caller, &context, &webhook).await?;
        let key = caller.origin.key.clone().map(|key| Mutation::BindKey(key, webhook.id.to_string()));
        let changes = key.into_iter().chain([Mutation::Webhook(Box::new(webhook.clone()))]).collect();
        let committed = self.0.store.commit(changes).await;
        committed.or_not_applied().map_err(|error| with_resource_if_unknown(error, &webhook.id.path()))?;
        self.0.webhooks.notify(&webhook.id);
        let view = self.view_webhook(webhook).await?;
        Ok(WebhookReply { view, secret: is_generated.then_some(secret), ping: Some(ping) })
    }

    /// Returns the webhook that an earlier request under the caller's key has created before it ended, pinged once more;
    /// `shows_secret`: the gateway has generated its secret.
    async fn created_webhook(
        &self,
        caller: &RequestContext,
        context: &DeliveryContext,
        shows_secret: bool,
    ) -> Result<Option<WebhookReply>, Error> {
        let Some(RecordId::Webhook(id)) = &caller.resumed else { return Ok(None) };
        let Some(webhook) = self.0.store.webhook(&caller.tenant, id).await.or_not_applied()? else { return Ok(None) };
        let secret = webhook.secrets.first().map(|secret| secret.value.clone()).filter(|_| shows_secret);
        let ping = self.ping(caller, context, &webhook).await?;
        Ok(Some(WebhookReply { view: self.view_webhook(webhook).await?, secret, ping: Some(ping) }))
    }

    /// Changes the settings of a webhook, which is the caller's from then on: it gets what the caller may see, whoever created
    /// it. With another address, it is sent to at once.
    ///
    /// # Errors
    /// `not_found`, `webhook_configured`, and as for a new one.
    pub(in crate::service) async fn update_webhook_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        patch: WebhookPatch,
    ) -> Result<WebhookReply, Error> {
        let webhook = self.own_webhook(caller, id).await?;
        refuse_configured(&webhook)?;
        let settings = self.patched(caller, &webhook, &patch)?;
        if settings.url != webhook.settings.url {
            let context = self.delivery_context()?;
            self.check_target(&context, &settings.url).await?;
        }
        let view = self.change_webhook(caller, id, |webhook| {
            // Others may have changed other settings meanwhile.
            let settings = self.patched(caller, webhook, &patch)?;
            let has_moved = settings.url != webhook.settings.url;
            webhook.settings = settings;
            webhook.owner.clone_from(&caller.client);
            if has_moved && webhook.state == WebhookState::Failing {
                enable(webhook);
            }
            Ok(has_moved)
        });
        Ok(reply(view.await?))
    }

    /// Replaces the secret of a webhook; the former one signs, too, until the overlap ends.
    ///
    /// # Errors
    /// `not_found`, `webhook_configured`, `validation_failed`, `store_unavailable`.
    pub(in crate::service) async fn rotate_webhook_secret_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        rotation: SecretRotation,
    ) -> Result<WebhookReply, Error> {
        refuse_configured(&self.own_webhook(caller, id).await?)?;
        let (secret, is_generated) = self.secret_or_new(rotation.secret)?;
        let now = self.now();
        let overlap = SignedDuration::try_from(rotation.overlap).unwrap_or(SignedDuration::MAX);
        let end = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        let view = self.change_webhook(caller, id, |webhook| {
            let former = std::mem::take(&mut webhook.secrets).into_iter().map(|former| {
                let expires = former.expires.map_or(end, |expires| expires.min(end));
                WebhookSecret { expires: Some(expires), ..former }
            });
            let valid = former.filter(|former| former.expires.is_some_and(|expires| expires > now));
            let current = WebhookSecret { value: secret.clone(), expires: None };
            webhook.secrets = std::iter::once(current).chain(valid).take(MAX_SECRETS).collect();
            Ok(false)
        });
        let view = view.await?;
        Ok(WebhookReply { view, secret: is_generated.then_some(secret), ping: None })
    }

    /// Pauses a webhook, which keeps its place.
    ///
    /// # Errors
    /// `not_found`, `webhook_configured`, `store_unavailable`.
    pub(in crate::service) async fn pause_webhook_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
    ) -> Result<WebhookReply, Error> {
        refuse_configured(&self.own_webhook(caller, id).await?)?;
        let view = self.change_webhook(caller, id, |webhook| {
            webhook.state = WebhookState::Paused;
            webhook.reason = None;
            Ok(false)
        });
        Ok(reply(view.await?))
    }

    /// Resumes a paused or disabled webhook, and one that waits for its receiver: it is sent to at once.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub(in crate::service) async fn resume_webhook_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
    ) -> Result<WebhookReply, Error> {
        let view = self.change_webhook(caller, id, |webhook| {
            enable(webhook);
            Ok(true)
        });
        Ok(reply(view.await?))
    }

    /// Removes a webhook with its deliveries.
    ///
    /// # Errors
    /// `not_found`, `webhook_configured`, `store_unavailable`.
    pub(in crate::service) async fn remove_webhook_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
    ) -> Result<WebhookView, Error> {
        let webhook = self.own_webhook(caller, id).await?;
        refuse_configured(&webhook)?;
        let view = self.view_webhook(webhook).await?;
        let removal = Mutation::RemoveWebhook(caller.tenant.clone(), id.clone());
        self.0.store.commit(vec![removal]).await.or_not_applied()?;
        self.0.webhooks.notify(id);
        Ok(view)
    }

    /// Pings a webhook once, whatever its state, and returns what came back.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub(in crate::service) async fn ping_webhook_now(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
    ) -> Result<PingResult, Error> {
        let webhook = self.own_webhook(caller, id).await?;
        let context = self.delivery_context()?;
        self.ping(caller, &context, &webhook).await
    }

    /// Has a delivery attempted at once, also one that has failed.
    ///
    /// # Errors
    /// `not_found`, `delivery_delivered`, `delivery_excluded`, `store_unavailable`.
    pub(in crate::service) async fn retry_delivery_now(
        &self,
        caller: &RequestContext,
        id: &DeliveryId,
    ) -> Result<Delivery, Error> {
        for _ in 0..MAX_COMMITS {
            let delivery = self.delivery(caller, id).await?;
            if delivery.state == DeliveryState::Delivered {
                let error = Error::new(Code::DeliveryDelivered, "The receiver has accepted the event already.");
                return Err(error.with_resource(id.path()));
            }
            let webhook = self.own_webhook(caller, &delivery.webhook).await?;
            let Some(delivery) = self.included(&webhook, vec![delivery]).await?.pop() else {
                let detail = "The webhook no longer gets the event, or the event is no longer kept.";
                return Err(Error::new(Code::DeliveryExcluded, detail).with_resource(id.path()));
            };
            let delivery = delivery.pending_again(self.now());
            match self.0.store.commit(vec![Mutation::Delivery(Box::new(delivery.clone()))]).await {
                // An attempt has ended, or another caller has retried it meanwhile.
                Err(StoreError::Superseded) => {}
                committed => {
                    committed.or_not_applied()?;
                    self.0.webhooks.notify(&delivery.webhook);
                    return Ok(delivery);
                }
            }
        }
        Err(Error::new(Code::StoreUnavailable, "The delivery is being changed by others; nothing was changed."))
    }

    /// Sends a ping, which is an event without a number.
    async fn ping(
        &self,
        caller: &RequestContext,
        context: &DeliveryContext,
        webhook: &Webhook,
    ) -> Result<PingResult, Error> {
        let event = self.emitter().ping(&webhook.tenant, &webhook.id);
        let document = self.with_resource(context, webhook, event.document()).await?;
        let (attempt, verdict) = self.attempt(context, webhook, &document).await;
        caller.exchange.add_wait(Duration::from_millis(attempt.duration_ms));
        Ok(PingResult { event: event.id, delivered: verdict == Verdict::Accepted, attempt })
    }

    /// Returns the settings that a patch makes of a webhook's, if the caller may have such a webhook.
    fn patched(
        &self,
        caller: &RequestContext,
        webhook: &Webhook,
        patch: &WebhookPatch,
    ) -> Result<WebhookSettings, Error> {
        let settings = patch(webhook.settings.clone()).map_err(Error::from_fields)?;
        check_payload(caller, &settings)?;
        self.check_settings(caller, &settings)?;
        Ok(settings)
    }

    /// Changes the caller's webhook, again and again if others change it at the same time. `change` returns whether its health is
    /// to be reset, too.
    async fn change_webhook(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        change: impl Fn(&mut Webhook) -> Result<bool, Error>,
    ) -> Result<WebhookView, Error> {
        for _ in 0..MAX_COMMITS {
            let mut webhook = self.own_webhook(caller, id).await?;
            let is_reset = change(&mut webhook)?;
            webhook.version += 1;
            webhook.last_modified = self.now();
            let mut changes = vec![Mutation::Webhook(Box::new(webhook.clone()))];
            if is_reset {
                changes.push(Mutation::WebhookHealth(healthy(&webhook)));
            }
            match self.0.store.commit(changes).await {
                Err(StoreError::Superseded) => {}
                committed => {
                    committed.or_not_applied().map_err(|error| with_resource_if_unknown(error, &id.path()))?;
                    self.0.webhooks.notify(id);
                    return self.view_webhook(webhook).await;
                }
            }
        }
        Err(Error::new(Code::StoreUnavailable, "The webhook is being changed by others; nothing was changed."))
    }

    /// Returns the caller's secret or a new one, and whether it is new.
    fn secret_or_new(&self, given: Option<Secret>) -> Result<(Secret, bool), Error> {
        let Some(secret) = given else { return Ok((generate_secret(&self.0.system), true)) };
        SigningKey::parse(secret.expose()).map_err(|error| invalid("/secret", error.to_string()))?;
        Ok((secret, false))
    }

    /// Checks what a webhook is to get: known types, and connections and assessments that the caller may use.
    fn check_settings(&self, caller: &RequestContext, settings: &WebhookSettings) -> Result<(), Error> {
        let configured = self.configured();
        let mut errors = Vec::new();
        for (at, pattern) in settings.types.iter().enumerate() {
            if let Err(error) = EventType::matching(pattern) {
                errors.push(FieldError::invalid(format!("/types/{at}"), error.to_string()));
            }
        }
        for (at, name) in settings.connections.iter().enumerate() {
            if let Err(error) = configured.named(caller, name) {
                errors.push(FieldError::new(format!("/connections/{at}"), error.code.as_str(), error.detail));
            }
        }
        for (at, id) in settings.assessments.iter().enumerate() {
            let entry = configured.catalogue.assessments.get(id);
            if entry.is_none_or(|entry| !caller.connections.contains(&entry.connection)) {
                let detail = "is no assessment of the catalogue";
                errors.push(FieldError::invalid(format!("/assessments/{at}"), detail));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::from_fields(errors)) }
    }

    /// Checks the address that a client names: its URL, and what its host resolves to now. A host that does not resolve is for
    /// the ping to report.
    async fn check_target(&self, context: &DeliveryContext, url: &str) -> Result<(), Error> {
        let url: Url = context.settings.policy.judge_named(url).map_err(|refusal| refused_target(&refusal))?;
        match context.client.check_host(&url).await {
            Err(DeliveryError::Address(detail)) => Err(not_allowed(detail)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn reply(view: WebhookView) -> WebhookReply {
    WebhookReply { view, secret: None, ping: None }
}

fn refused_target(refusal: &TargetRefusal) -> Error {
    match refusal {
        TargetRefusal::Form | TargetRefusal::Credentials | TargetRefusal::Fragment => {
            invalid("/url", refusal.to_string())
        }
        TargetRefusal::Scheme | TargetRefusal::Host | TargetRefusal::Address(_) => not_allowed(refusal.to_string()),
    }
}

fn not_allowed(detail: String) -> Error {
    let error = Error::new(Code::WebhookNotAllowed, "Webhooks to this address are not allowed.");
    error.with_field(FieldError::new("/url", Code::WebhookNotAllowed.as_str(), detail))
}

/// Checks that a caller may read what deliveries with these settings hold. Once it has created the webhook, they are bounded by
/// its client's scopes: a token of fewer must not get more by a webhook.
fn check_payload(caller: &RequestContext, settings: &WebhookSettings) -> Result<(), Error> {
    if settings.payload != WebhookPayload::Full {
        return Ok(());
    }
    let types = types_of(&settings.types).unwrap_or_else(|| EventType::ALL.to_vec());
    let needed: BTreeSet<Scope> = types.into_iter().map(EventType::resource_scope).collect();
    let missing: Vec<String> = needed
        .into_iter()
        .filter(|scope| !caller.scopes.contains(*scope))
        .map(|it| format!("`{}`", it.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "`payload: full` shows resources of these `types` whose scopes the request lacks: {}.",
        missing.join(", ")
    );
    Err(Error::new(Code::InsufficientScope, detail))
}

/// Rejects a change of a webhook that the operator defines.
fn refuse_configured(webhook: &Webhook) -> Result<(), Error> {
    if webhook.source == WebhookSource::Api {
        return Ok(());
    }
    let detail = format!("The webhook `{}` is defined in the operator's configuration.", webhook.owner);
    Err(Error::new(Code::WebhookConfigured, detail))
}
