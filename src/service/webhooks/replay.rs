//! Delivers events to a webhook again, as an operation of kind `replay`.
//!
//! A delivery that has ended is made pending again, under the same `webhook-id`. A run that breaks off begins again; some events
//! may then be delivered once more.

use jiff::Timestamp;

use crate::domain::error::{Code, Error};
use crate::domain::event::EventType;
use crate::domain::ids::{OperationId, WebhookId};
use crate::domain::operation::{EventReplay, Operation, OperationKind, OperationState};
use crate::domain::webhook::{Delivery, DeliveryState, Webhook};
use crate::service::errors::StoreResultExt as _;
use crate::service::exchange_log::traceparent;
use crate::service::webhooks::reading::{is_about, types_of};
use crate::service::webhooks::scan::new_delivery;
use crate::service::webhooks::settings::DeliveryContext;
use crate::service::webhooks::types::{ReplayOrder, ReplayScope, ReplayStart, invalid};
use crate::service::{AcceptedOperation, Gateway, RequestContext};
use crate::store::{DeliveryFilter, Mutation, Page, StoreError};

/// Number of deliveries that are made pending in one transaction.
const BATCH: usize = 100;
/// Maximum number of attempts to change a delivery that others change at the same time.
const MAX_COMMITS: usize = 8;

impl Gateway {
    /// Starts an operation of kind `replay`, at most once under the caller's key.
    ///
    /// # Errors
    /// `not_found`, `validation_failed`, `idempotency_key_reused`, `idempotency_in_progress`, `draining`, `store_unavailable`.
    pub async fn replay_webhook(
        &self,
        caller: &RequestContext,
        id: &WebhookId,
        order: ReplayOrder,
    ) -> Result<AcceptedOperation, Error> {
        self.refuse_when_draining()?;
        let webhook = self.own_webhook(caller, id).await?;
        for (at, pattern) in order.types.iter().enumerate() {
            EventType::matching(pattern).map_err(|error| invalid(&format!("/types/{at}"), error.to_string()))?;
        }
        let replay = self.replay_of(&webhook, order).await?;
        let now = self.0.system.now();
        let operation = Operation {
            id: OperationId::generate(&self.0.system),
            tenant: caller.tenant.clone(),
            client: caller.client.clone(),
            kind: OperationKind::Replay,
            connection: String::new(),
            strict: false,
            fail_on_errors: None,
            state: OperationState::Receiving,
            cancelling: false,
            total: 0,
            created: now,
            accepted: now,
            started: None,
            finished: None,
            request_id: caller.exchange.request_id().to_owned(),
            traceparent: traceparent(&caller.exchange),
            replay: Some(replay),
        };
        self.queue_operation(caller, operation).await
    }

    /// Returns the events that an order means, by their numbers. Those after the webhook's position are not among them: they are
    /// delivered without it.
    async fn replay_of(&self, webhook: &Webhook, order: ReplayOrder) -> Result<EventReplay, Error> {
        let ReplayOrder { start, until, types, only } = order;
        let tenant = &webhook.tenant;
        let kept = self.first_since(tenant, self.events_kept_since()).await?.saturating_sub(1);
        let after = match start {
            ReplayStart::After(number) => number,
            ReplayStart::Since(time) => self.first_since(tenant, time).await?.saturating_sub(1),
        };
        let until = match until {
            Some(time) => self.first_since(tenant, time).await?.saturating_sub(1),
            None => u64::MAX,
        };
        Ok(EventReplay {
            webhook: webhook.id.clone(),
            after: after.max(kept),
            until: until.min(webhook.scanned),
            types: types_of(&types).unwrap_or_default(),
            failed_only: only == ReplayScope::Failed,
        })
    }

    /// Returns the number of the first event made at or after this time.
    async fn first_since(&self, tenant: &str, time: Timestamp) -> Result<u64, Error> {
        Ok(self.0.store.event_bounds(tenant, time).await.or_not_applied()?.oldest)
    }

    /// Makes the deliveries of an operation pending again. Returns whether it is done; if not, it is to be run again.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(in crate::service) async fn run_replay(
        &self,
        operation: &Operation,
        replay: &EventReplay,
    ) -> Result<bool, Error> {
        let found = self.0.store.webhook(&operation.tenant, &replay.webhook).await.or_not_applied()?;
        let Some(webhook) = found else { return Ok(true) };
        let done = if replay.failed_only {
            self.replay_failed(operation, &webhook, replay).await?
        } else {
            let context = self.delivery_context()?;
            self.replay_all(operation, &context, &webhook, replay).await?
        };
        self.0.webhooks.notify(&webhook.id);
        Ok(done)
    }

    async fn replay_failed(
        &self,
        operation: &Operation,
        webhook: &Webhook,
        replay: &EventReplay,
    ) -> Result<bool, Error> {
        let filter = DeliveryFilter { state: Some(DeliveryState::Failed), ..DeliveryFilter::default() };
        let mut after = None;
        loop {
            if let Some(done) = self.replay_ends(operation).await? {
                return Ok(done);
            }
            let page = Page { limit: BATCH, after };
            let found = self.0.store.deliveries(&webhook.tenant, &webhook.id, &filter, &page).await.or_not_applied()?;
            let Some(last) = found.last() else { return Ok(true) };
            after = Some(last.id.to_string());
            let is_meant = |delivery: &Delivery| {
                delivery.sequence > replay.after
                    && delivery.sequence <= replay.until
                    && (replay.types.is_empty() || replay.types.contains(&delivery.event_type))
            };
            let meant = self.included(webhook, found.into_iter().filter(is_meant).collect()).await?;
            let again = meant.into_iter().map(|delivery| delivery.pending_again(self.now())).collect();
            self.commit_again(webhook, again, replay).await?;
        }
    }

    async fn replay_all(
        &self,
        operation: &Operation,
        context: &DeliveryContext,
        webhook: &Webhook,
        replay: &EventReplay,
    ) -> Result<bool, Error> {
        let Some(owner) = context.owners.owner(webhook) else { return Ok(true) };
        let mut filter = self.filter_of(webhook, &owner);
        if !replay.types.is_empty() {
            let passes = |kind: &EventType| filter.types.as_ref().is_none_or(|types| types.contains(kind));
            filter.types = Some(replay.types.iter().copied().filter(passes).collect());
        }
        let mut after = replay.after;
        while after < replay.until {
            if let Some(done) = self.replay_ends(operation).await? {
                return Ok(done);
            }
            let page = self.0.store.events(&webhook.tenant, after, &filter, BATCH).await.or_not_applied()?;
            let is_last = page.events.len() < BATCH;
            after = page.scanned;
            let mut again = Vec::with_capacity(page.events.len());
            for event in page.events {
                if event.sequence > replay.until || is_about(&event.event, &webhook.id) {
                    continue;
                }
                let of_event = DeliveryFilter { event: Some(event.event.id.clone()), ..DeliveryFilter::default() };
                let one = Page { limit: 1, after: None };
                let found = self.0.store.deliveries(&webhook.tenant, &webhook.id, &of_event, &one).await;
                again.push(match found.or_not_applied()?.pop() {
                    Some(delivery) => delivery.pending_again(self.now()),
                    None => new_delivery(self, webhook, &event, &context.settings.schedule),
                });
            }
            self.commit_again(webhook, again, replay).await?;
            if is_last {
                break;
            }
        }
        Ok(true)
    }

    /// Returns whether the operation is done (`true`) or must be run again (`false`) instead of going on.
    async fn replay_ends(&self, operation: &Operation) -> Result<Option<bool>, Error> {
        if self.is_stopping() || !self.0.lease.holds() {
            return Ok(Some(false));
        }
        let found = self.0.store.operation(&operation.tenant, &operation.id).await.or_not_applied()?;
        Ok(found.is_none_or(|(operation, _)| operation.cancelling).then_some(true))
    }

    async fn commit_again(
        &self,
        webhook: &Webhook,
        deliveries: Vec<Delivery>,
        replay: &EventReplay,
    ) -> Result<(), Error> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let changes = deliveries.iter().map(|delivery| Mutation::Delivery(Box::new(delivery.clone()))).collect();
        match self.0.store.commit(changes).await {
            Err(StoreError::Superseded) => {
                for delivery in deliveries {
                    self.commit_one_again(delivery, replay).await?;
                }
            }
            committed => committed.or_not_applied()?,
        }
        self.0.webhooks.notify(&webhook.id);
        Ok(())
    }

    /// Commits one of several deliveries of which some have changed since they were read.
    async fn commit_one_again(&self, delivery: Delivery, replay: &EventReplay) -> Result<(), Error> {
        let mut delivery = delivery;
        for _ in 0..MAX_COMMITS {
            match self.0.store.commit(vec![Mutation::Delivery(Box::new(delivery.clone()))]).await {
                Err(StoreError::Superseded) => {}
                committed => return committed.or_not_applied(),
            }
            let found = self.0.store.delivery(&delivery.tenant, &delivery.id).await.or_not_applied()?;
            let is_meant = |found: &Delivery| match found.state {
                // It is sent in any case.
                DeliveryState::Pending => false,
                DeliveryState::Delivered => !replay.failed_only,
                DeliveryState::Failed => true,
            };
            let Some(found) = found.filter(is_meant) else { return Ok(()) };
            delivery = found.pending_again(self.now());
        }
        Err(Error::new(Code::StoreUnavailable, "A delivery is being changed by others."))
    }
}
