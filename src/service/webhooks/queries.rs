//! Webhooks and deliveries as their owner sees them.

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::ids::{DeliveryId, WebhookId};
use crate::domain::webhook::{Delivery, Webhook, WebhookPosition};
use crate::service::errors::StoreResultExt as _;
use crate::service::webhooks::reading::is_about;
use crate::service::webhooks::settings::WebhookOwner;
use crate::service::webhooks::types::WebhookView;
use crate::service::{ConnectionAccess, Gateway, RequestContext};
use crate::store::{DeliveryFilter, ListPart, Page};

/// Maximum number of reads for one part of a list: whether a caller may see a webhook is known only once it was read.
const MAX_READS: usize = 8;
/// Number of events among which the first is looked for that is not about the webhook itself.
const MAX_OWN: usize = 64;

impl Gateway {
    /// Returns a part of the caller's webhooks, newest first.
    ///
    /// # Errors
    /// `store_unavailable`; `validation_failed` for a cursor of another list.
    pub async fn webhooks(&self, caller: &RequestContext, page: &Page) -> Result<ListPart<WebhookView>, Error> {
        let mut after = page.after.clone();
        if let Some(cursor) = &after {
            WebhookId::parse(cursor).map_err(|_| unknown_cursor())?;
        }
        let _permit = self.read_permit(caller).await;
        let mut items = Vec::new();
        for _ in 0..MAX_READS {
            let limit = page.limit.saturating_sub(items.len());
            // One extra entry shows whether there is a next page.
            let part = Page { limit: limit + 1, after: after.take() };
            let mut found = self.0.store.webhooks(&caller.tenant, &part).await.or_not_applied()?;
            let more = found.len() > limit;
            found.truncate(limit);
            after = found.last().filter(|_| more).map(|last| last.id.to_string());
            for webhook in found.into_iter().filter(|webhook| may_use(caller, webhook)) {
                items.push(self.view_webhook(webhook).await?);
            }
            if after.is_none() || items.len() >= page.limit {
                break;
            }
        }
        Ok(ListPart { items, next: after })
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn webhook(&self, caller: &RequestContext, id: &WebhookId) -> Result<WebhookView, Error> {
        let webhook = self.own_webhook(caller, id).await?;
        self.view_webhook(webhook).await
    }

    /// Returns a part of the deliveries to a webhook, newest first: those of events that the caller may see.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`; `validation_failed` for a cursor of another list.
    pub async fn deliveries(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<ListPart<Delivery>, Error> {
        if let Some(cursor) = &page.after {
            DeliveryId::parse(cursor).map_err(|_| unknown_cursor())?;
        }
        self.own_webhook(caller, id).await?;
        let _permit = self.read_permit(caller).await;
        let part = Page { limit: page.limit + 1, after: page.after.clone() };
        let filter = DeliveryFilter { connections: named_connections(caller), ..filter.clone() };
        let mut items = self.0.store.deliveries(&caller.tenant, id, &filter, &part).await.or_not_applied()?;
        let more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(ListPart { items, next })
    }

    /// Returns a delivery.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn delivery(&self, caller: &RequestContext, id: &DeliveryId) -> Result<Delivery, Error> {
        let none = || Error::new(Code::NotFound, format!("There is no delivery {id}."));
        let found = self.0.store.delivery(&caller.tenant, id).await.or_not_applied()?;
        let may_see = |of: &Delivery| of.connection.as_ref().is_none_or(|name| caller.connections.contains(name));
        let delivery = found.filter(may_see).ok_or_else(none)?;
        match self.own_webhook(caller, &delivery.webhook).await {
            Ok(_) => Ok(delivery),
            Err(error) if error.code == Code::NotFound => Err(none()),
            Err(error) => Err(error),
        }
    }

    /// Returns the caller's webhook.
    pub(super) async fn own_webhook(&self, caller: &RequestContext, id: &WebhookId) -> Result<Webhook, Error> {
        let found = self.0.store.webhook(&caller.tenant, id).await.or_not_applied()?;
        let own = found.filter(|webhook| may_use(caller, webhook));
        own.ok_or_else(|| Error::new(Code::NotFound, format!("There is no webhook {id}.")))
    }

    /// Adds to a webhook how far its deliveries have come.
    pub(super) async fn view_webhook(&self, webhook: Webhook) -> Result<WebhookView, Error> {
        // A client that is configured again gets its events.
        let owner = self.delivery_context()?.owners.owner(&webhook);
        let owner = owner.unwrap_or(WebhookOwner { connections: ConnectionAccess::All });
        let (store, filter) = (&self.0.store, self.filter_of(&webhook, &owner));
        let backlog = store.webhook_backlog(&webhook.id).await.or_not_applied()?;
        let latest = store.last_event(&webhook.tenant, &filter).await.or_not_applied()?.unwrap_or(0);
        let oldest_pending = match backlog.oldest_pending {
            Some(oldest) => Some(oldest),
            None if latest > webhook.scanned => {
                let page = store.events(&webhook.tenant, webhook.scanned, &filter, MAX_OWN).await.or_not_applied()?;
                let mut others = page.events.iter().filter(|event| !is_about(&event.event, &webhook.id));
                others.next().map(|event| event.sequence)
            }
            None => None,
        };
        // Not how far it has looked: what passes no filter is nothing that it was to get.
        let delivered = oldest_pending.map_or(latest, |oldest| oldest.saturating_sub(1));
        Ok(WebhookView { webhook, position: WebhookPosition { delivered, latest, oldest_pending } })
    }
}

fn may_use(caller: &RequestContext, webhook: &Webhook) -> bool {
    caller.may_use_webhook(webhook.client(), &webhook.settings.connections)
}

/// Returns the connections that a caller may use; `None` for all.
fn named_connections(caller: &RequestContext) -> Option<Vec<String>> {
    match &caller.connections {
        ConnectionAccess::All => None,
        ConnectionAccess::Named(names) => Some(names.iter().cloned().collect()),
    }
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}
