//! Events that are no longer kept before a webhook got them: they are given up, and an event says so, to the feed and to the
//! tenant's other webhooks.
//!
//! The sender of a webhook does so. Before retention removes events, so does this for every webhook, with or without a sender: one
//! that is paused keeps its place, and its tenant is to know what it lost.

use jiff::Timestamp;

use crate::domain::error::Error;
use crate::domain::event::{EventFilter, EventType, NewEvent};
use crate::domain::webhook::{Delivery, DeliveryReason, Webhook};
use crate::service::errors::StoreResultExt as _;
use crate::service::webhooks::reading::is_about;
use crate::service::webhooks::sender::is_sendable;
use crate::service::webhooks::settings::{DeliveryContext, WebhookOwner};
use crate::service::{ConnectionAccess, Gateway};
use crate::store::{Mutation, StoreError, WebhookScan};

/// Number of events that are counted at a time.
const BATCH: usize = 1_000;
/// Maximum number of deliveries that are given up in one transaction; the others follow with the next look.
const MAX_EXPIRED: usize = 1_000;
/// How often a webhook is looked at again that was changed meanwhile.
const MAX_RETRIES: usize = 5;

/// Expired events that a webhook was to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// The first and the last of them.
    pub(super) from: u64,
    pub(super) to: u64,
    /// How many they are. Includes those that were removed uncounted.
    pub(super) count: u64,
}

impl Gap {
    fn and(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            count: self.count.saturating_add(other.count),
        }
    }
}

impl Gateway {
    /// Gives up what webhooks were to get of the events that retention is about to remove: those from before `since`.
    ///
    /// # Errors
    /// `store_unavailable`; then no event may be removed.
    pub(in crate::service) async fn tell_gaps(&self, since: Timestamp) -> Result<(), Error> {
        let webhooks = self.0.store.all_webhooks().await.or_not_applied()?;
        if webhooks.is_empty() {
            return Ok(());
        }
        // While a process starts, it does not know yet what webhooks get.
        let context = self.delivery_context()?;
        for webhook in webhooks {
            let mut told = self.tell_gap(&context, &webhook, since).await;
            for _ in 0..MAX_RETRIES {
                if !matches!(told, Err(StoreError::Superseded)) {
                    break;
                }
                // Its sender, another instance or a client has changed it meanwhile.
                let found = self.0.store.webhook(&webhook.tenant, &webhook.id).await.or_not_applied()?;
                told = match found {
                    Some(webhook) => self.tell_gap(&context, &webhook, since).await,
                    None => Ok(()),
                };
            }
            match told {
                Err(StoreError::Unreadable(error)) => {
                    tracing::error!(webhook = %webhook.id, error, "what a webhook loses cannot be counted");
                }
                told => told.or_not_applied()?,
            }
        }
        Ok(())
    }

    async fn tell_gap(&self, context: &DeliveryContext, webhook: &Webhook, since: Timestamp) -> Result<(), StoreError> {
        let store = &self.0.store;
        let last = store.event_bounds(&webhook.tenant, since).await?.oldest.saturating_sub(1);
        let owner = context.owners.owner(webhook);
        // A sender gives its deliveries up by itself: one may be in flight.
        let expired = if owner.is_some() && is_sendable(webhook) {
            Vec::new()
        } else {
            let mut pending = store.pending_deliveries(&webhook.id, 0, MAX_EXPIRED).await?;
            pending.retain(|delivery| delivery.sequence <= last);
            pending
        };
        // A client that is configured again gets its events.
        let owner = owner.unwrap_or(WebhookOwner { connections: ConnectionAccess::All });
        let filter = self.filter_of(webhook, &owner);
        self.give_up(webhook, (webhook.scanned, last), &filter, expired).await.map(drop)
    }

    /// Gives up these deliveries, and the events after a position, up to the last one, that pass the webhook's filter; says so by an
    /// event. Moves the webhook's position to the last one. Returns whether there was anything to do.
    ///
    /// # Errors
    /// The store's; [`StoreError::Superseded`] if webhook or deliveries have changed since they were read.
    pub(super) async fn give_up(
        &self,
        webhook: &Webhook,
        (position, last): (u64, u64),
        filter: &EventFilter,
        expired: Vec<Delivery>,
    ) -> Result<bool, StoreError> {
        if position >= last && expired.is_empty() {
            return Ok(false);
        }
        let unseen = self.unseen(webhook, (position, last), filter).await?;
        let each = expired.iter().map(|delivery| Gap { from: delivery.sequence, to: delivery.sequence, count: 1 });
        let gap = each.chain(unseen).reduce(Gap::and);
        let failed = expired.into_iter().map(|delivery| delivery.failed_for(DeliveryReason::Expired));
        let mut changes: Vec<Mutation> = failed.map(|delivery| Mutation::Delivery(Box::new(delivery))).collect();
        let (id, version, before) = (webhook.id.clone(), webhook.version, webhook.scanned);
        changes.push(Mutation::ScanWebhook(WebhookScan { id, version, before, scanned: position.max(last) }));
        changes.extend(gap.map(|Gap { from, to, count }| {
            let event = self.emitter().webhook_gap(&webhook.tenant, &webhook.id, (from, to), count);
            Mutation::Event(Box::new(event))
        }));
        self.0.store.commit(changes).await?;
        if let Some(Gap { from, to, count }) = gap {
            tracing::warn!(webhook = %webhook.id, from, to, count, "events expired before a webhook got them");
        }
        Ok(true)
    }

    /// Counts the events between two numbers that pass a webhook's filter, and all that were removed already.
    async fn unseen(
        &self,
        webhook: &Webhook,
        (position, last): (u64, u64),
        filter: &EventFilter,
    ) -> Result<Option<Gap>, StoreError> {
        let (mut gap, mut after): (Option<Gap>, u64) = (None, position);
        while after < last {
            let page = self.0.store.events(&webhook.tenant, after, filter, BATCH).await?;
            let gone = page.oldest.saturating_sub(1).min(last);
            let removed = (gone > after).then(|| Gap {
                from: after.saturating_add(1),
                to: gone,
                count: gone.saturating_sub(after),
            });
            let is_lost = |number: u64| number <= last && number > gone.max(after);
            // Gaps are left out: two webhooks that get nothing would tell each other of gaps for ever.
            let is_told = |event: &NewEvent| is_gap(event) || is_about(event, &webhook.id);
            let missed = page.events.iter().filter(|it| is_lost(it.sequence) && !is_told(&it.event));
            let each = missed.map(|event| Gap { from: event.sequence, to: event.sequence, count: 1 });
            gap = gap.into_iter().chain(removed).chain(each).reduce(Gap::and);
            if page.events.len() < BATCH {
                break;
            }
            after = page.scanned.max(gone);
        }
        Ok(gap)
    }
}

fn is_gap(event: &NewEvent) -> bool {
    event.event_type == EventType::WebhookGap
}
