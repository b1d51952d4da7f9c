//! Makes the deliveries of a webhook from its tenant's events, and says which were removed before it got them.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::domain::event::Event;
use crate::domain::ids::DeliveryId;
use crate::domain::webhook::schedule::RetrySchedule;
use crate::domain::webhook::{Delivery, DeliveryState, Webhook};
use crate::service::Gateway;
use crate::service::webhooks::reading::is_about;
use crate::service::webhooks::sender::{Sender, is_due};
use crate::store::{Mutation, StoreError, WebhookScan};

/// Maximum number of deliveries that wait for their first attempt. More are made as these are sent: a receiver that is away
/// keeps its place instead.
const MAX_FRESH: usize = 500;
/// Maximum number of pending deliveries in memory, among them those that wait to be attempted again.
pub(super) const MAX_PENDING: usize = 5_000;
/// Number of deliveries made in one transaction.
const BATCH: usize = 100;
/// Number of events that may be looked at before the position is stored, if none of them is delivered.
const MAX_UNSTORED: u64 = 100;
/// Longest time for which the position is not stored.
const PERSIST_INTERVAL: Duration = Duration::from_mins(1);
/// Interval between looks for expired events, and for events if the store does not signal all.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);
const SHARED_SCAN_INTERVAL: Duration = Duration::from_millis(400);

impl Sender {
    /// Reads the pending deliveries.
    pub(super) async fn load_window(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let pending = gateway.0.store.pending_deliveries(&self.webhook.id, 0, MAX_PENDING).await?;
        self.is_partial = pending.len() >= MAX_PENDING;
        self.window.reload(pending);
        Ok(())
    }

    /// Returns whether more deliveries may be made.
    pub(super) fn can_make_more(&self) -> bool {
        !self.is_partial && self.window.len() < MAX_PENDING && self.window.fresh() < MAX_FRESH
    }

    /// Makes deliveries of the next events, as far as there is room for them.
    pub(super) async fn make_deliveries(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        if self.is_partial && self.window.len() < MAX_PENDING / 2 {
            self.load_window(gateway).await?;
        }
        if self.visible.has_changed().unwrap_or(false)
            || (gateway.0.store.is_shared() && is_due(self.times.scanned, SHARED_SCAN_INTERVAL))
        {
            self.is_caught_up = false;
        }
        while !self.is_caught_up && self.can_make_more() {
            self.visible.mark_unchanged();
            self.times.scanned = Some(Instant::now());
            let tenant = self.webhook.tenant.clone();
            let page = gateway.0.store.events(&tenant, self.scanned, &self.filter, BATCH).await?;
            if page.oldest > self.scanned.saturating_add(1) {
                // Retention is ahead of this webhook.
                self.times.expired = None;
                return self.skip_expired(gateway).await;
            }
            self.is_caught_up = page.events.len() < BATCH;
            let webhook = &self.webhook;
            let others = page.events.into_iter().filter(|event| !is_about(&event.event, &webhook.id));
            let schedule = &self.context.settings.schedule;
            let made: Vec<Delivery> = others.map(|event| new_delivery(gateway, webhook, &event, schedule)).collect();
            self.scanned = self.scanned.max(page.scanned);
            if !made.is_empty() || self.scanned.saturating_sub(self.webhook.scanned) >= MAX_UNSTORED {
                self.store_position(gateway, &made).await?;
                self.window.extend(made);
            }
        }
        if self.scanned > self.webhook.scanned && is_due(self.times.persisted, PERSIST_INTERVAL) {
            self.store_position(gateway, &[]).await?;
        }
        Ok(())
    }

    /// Commits deliveries together with the position up to which they are made.
    async fn store_position(&mut self, gateway: &Gateway, made: &[Delivery]) -> Result<(), StoreError> {
        let (id, before, scanned) = (self.webhook.id.clone(), self.webhook.scanned, self.scanned);
        let scan = Mutation::ScanWebhook(WebhookScan { id, before, scanned });
        let deliveries = made.iter().map(|delivery| Mutation::Delivery(Box::new(delivery.clone())));
        let committed = gateway.0.store.commit(deliveries.chain([scan]).collect()).await;
        if committed.is_err() {
            // Look at them again, from the position that the store has.
            self.scanned = before;
            self.is_caught_up = false;
        }
        committed?;
        self.webhook.scanned = scanned;
        self.times.persisted = Some(Instant::now());
        Ok(())
    }

    /// Gives up events that are no longer kept, and says so: to the feed and to the tenant's other webhooks.
    pub(super) async fn skip_expired(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        if !is_due(self.times.expired, EXPIRY_INTERVAL) {
            return Ok(());
        }
        let since = gateway.events_kept_since();
        let oldest = gateway.0.store.event_bounds(&self.webhook.tenant, since).await?.oldest;
        self.times.expired = Some(Instant::now());
        let last = oldest.saturating_sub(1);
        let expired = self.window.take_before(oldest);
        let given_up = gateway.give_up(&self.webhook, (self.scanned, last), &self.filter, expired).await;
        if given_up.is_err() {
            self.times.refreshed = None;
            self.times.expired = None;
        }
        if given_up? {
            self.scanned = self.scanned.max(last);
            self.webhook.scanned = self.scanned;
        }
        Ok(())
    }
}

/// Makes the delivery of an event, due after the schedule's first pause.
pub(super) fn new_delivery(gateway: &Gateway, webhook: &Webhook, event: &Event, schedule: &RetrySchedule) -> Delivery {
    let (now, random) = (gateway.now(), u64::from_be_bytes(gateway.0.system.random()));
    let pause = SignedDuration::try_from(schedule.pause_or_last(0, random)).unwrap_or(SignedDuration::ZERO);
    Delivery {
        id: DeliveryId::generate(&gateway.0.system),
        tenant: webhook.tenant.clone(),
        webhook: webhook.id.clone(),
        event: event.event.id.clone(),
        sequence: event.sequence,
        event_type: event.event.event_type,
        assignment: event.event.subject.assignment.clone(),
        connection: event.event.subject.connection.clone(),
        state: DeliveryState::Pending,
        reason: None,
        step: 0,
        due: Some(now.saturating_add(pause).unwrap_or(now)),
        attempts: Vec::new(),
        created: now,
        version: 1,
    }
}
