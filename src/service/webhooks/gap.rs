//! Events that are no longer kept before a webhook got them: they are given up, and an event reports them, to the feed and to the
//! tenant's other webhooks.
//!
//! The sender of a webhook does so. Before retention removes events, so does this for every webhook, with or without a sender: one
//! that is paused keeps its place, and its tenant is to know what it lost. Without a sender, what expires within an hour is reported by one event, and
//! retention keeps it until then: what was removed could not be counted.

use jiff::{SignedDuration, Timestamp};

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
/// How long after its first event has expired retention reports a gap, with what has expired until then. A sender does not wait.
const REPORT_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Number of events that are read at a time in search of the first one of a gap.
const LOOKED_AT: usize = 16;
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
    /// Gives up what webhooks were to get of the events that retention is about to remove: those from before `since`. Returns the
    /// time from before which events may be removed, which is earlier if some of them are to be reported later.
    ///
    /// # Errors
    /// `store_unavailable`; then no event may be removed.
    pub(in crate::service) async fn report_gaps(&self, since: Timestamp) -> Result<Timestamp, Error> {
        let webhooks = self.0.store.all_webhooks().await.or_not_applied()?;
        if webhooks.is_empty() {
            return Ok(since);
        }
        // While a process starts, it does not know yet what webhooks get.
        let context = self.delivery_context()?;
        let mut until = since;
        for webhook in webhooks {
            let mut reported = self.report_gap(&context, &webhook, since).await;
            for _ in 0..MAX_RETRIES {
                if !matches!(reported, Err(StoreError::Superseded)) {
                    break;
                }
                // Its sender, another instance or a client has changed it meanwhile.
                let found = self.0.store.webhook(&webhook.tenant, &webhook.id).await.or_not_applied()?;
                reported = match found {
                    Some(webhook) => self.report_gap(&context, &webhook, since).await,
                    None => Ok(since),
                };
            }
            match reported {
                Err(StoreError::Unreadable(error)) => {
                    tracing::error!(webhook = %webhook.id, error, "what a webhook loses cannot be counted");
                }
                reported => until = until.min(reported.or_not_applied()?),
            }
        }
        Ok(until)
    }

    /// Reports what a webhook loses of the events from before `since`, or leaves it to a later report. Returns the time from before
    /// which events may be removed.
    async fn report_gap(
        &self,
        context: &DeliveryContext,
        webhook: &Webhook,
        since: Timestamp,
    ) -> Result<Timestamp, StoreError> {
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
        let unseen = (webhook.scanned, last);
        let first_unseen = self.first_unseen(webhook, unseen, &filter).await?;
        let first_pending = expired.first().map(|delivery| delivery.sequence);
        let Some(first) = first_pending.into_iter().chain(first_unseen).min() else {
            if webhook.scanned < last {
                self.commit_given_up(webhook, last, Vec::new(), None).await?;
            }
            return Ok(since);
        };
        if let Some(kept_since) = self.kept_for_later(webhook, first, since).await? {
            return Ok(kept_since);
        }
        self.give_up(webhook, unseen, &filter, expired).await?;
        Ok(since)
    }

    /// Returns the time from before which events may be removed so that a gap can be counted later; `None` if it is to be reported
    /// now. `first` is its first event.
    async fn kept_for_later(
        &self,
        webhook: &Webhook,
        first: u64,
        since: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let recent = since.saturating_sub(REPORT_AFTER).unwrap_or(Timestamp::MIN);
        // One that was removed cannot be kept.
        let Some(event) = self.0.store.event(&webhook.tenant, first).await? else { return Ok(None) };
        if event.event.timestamp <= recent {
            return Ok(None);
        }
        // What the webhook does not get would be counted, too, if it was removed uncounted after the webhook's position.
        let next = first.min(webhook.scanned.saturating_add(1));
        Ok(self.0.store.event(&webhook.tenant, next).await?.map(|next| next.event.timestamp))
    }

    /// Gives up these deliveries, and the events after a position, up to the last one, that pass the webhook's filter, and reports
    /// them by an event. Moves the webhook's position to the last one. Returns whether there was anything to do.
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
        self.commit_given_up(webhook, position.max(last), expired, gap).await?;
        Ok(true)
    }

    /// Commits what is given up: the end of deliveries, the position of the webhook, and the event that reports the gap.
    async fn commit_given_up(
        &self,
        webhook: &Webhook,
        scanned: u64,
        expired: Vec<Delivery>,
        gap: Option<Gap>,
    ) -> Result<(), StoreError> {
        let failed = expired.into_iter().map(|delivery| delivery.failed_for(DeliveryReason::Expired));
        let mut changes: Vec<Mutation> = failed.map(|delivery| Mutation::Delivery(Box::new(delivery))).collect();
        let (id, version, before) = (webhook.id.clone(), webhook.version, webhook.scanned);
        changes.push(Mutation::ScanWebhook(WebhookScan { id, version, before, scanned }));
        changes.extend(gap.map(|Gap { from, to, count }| {
            let event = self.emitter().webhook_gap(&webhook.tenant, &webhook.id, (from, to), count);
            Mutation::Event(Box::new(event))
        }));
        self.0.store.commit(changes).await?;
        if let Some(Gap { from, to, count }) = gap {
            tracing::warn!(webhook = %webhook.id, from, to, count, "events expired before a webhook got them");
        }
        Ok(())
    }

    /// Returns the number of the first event between two numbers that a gap counts: one that passes a webhook's filter, or was
    /// removed.
    async fn first_unseen(
        &self,
        webhook: &Webhook,
        (position, last): (u64, u64),
        filter: &EventFilter,
    ) -> Result<Option<u64>, StoreError> {
        let mut after = position;
        while after < last {
            let page = self.0.store.events(&webhook.tenant, after, filter, LOOKED_AT).await?;
            if page.oldest > after.saturating_add(1) {
                return Ok(Some(after.saturating_add(1)));
            }
            if let Some(event) = page.events.iter().find(|it| !is_left_out(&it.event, webhook)) {
                return Ok(Some(event.sequence).filter(|number| *number <= last));
            }
            if page.events.len() < LOOKED_AT {
                break;
            }
            after = page.scanned;
        }
        Ok(None)
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
            let missed = page.events.iter().filter(|it| is_lost(it.sequence) && !is_left_out(&it.event, webhook));
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

/// Returns whether an event is not counted as lost by a webhook: one about itself, and gaps, of which two webhooks that get nothing
/// would cause more and more.
fn is_left_out(event: &NewEvent, webhook: &Webhook) -> bool {
    event.event_type == EventType::WebhookGap || is_about(event, &webhook.id)
}
