//! Makes the deliveries of a webhook from its tenant's events, and says which were removed before it got them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::event::Event;
use crate::domain::ids::{AssignmentId, DeliveryId};
use crate::domain::webhook::schedule::RetrySchedule;
use crate::domain::webhook::{Delivery, DeliveryOrder, DeliveryState, Webhook};
use crate::service::Gateway;
use crate::service::webhooks::reading::is_about;
use crate::service::webhooks::sender::{Sender, is_due};
use crate::store::{Mutation, StoreError, WebhookScan};

/// Maximum number of deliveries in memory that were never attempted. More are made as these are sent: a receiver that is away
/// keeps its place instead.
const MAX_FRESH: usize = 500;
/// Number of deliveries in memory above which those that wait are in the store only, until they are due.
const MAX_LOADED: usize = 2_000;
/// Number of due deliveries in memory at which no others are looked for.
const MAX_DUE: usize = 1_000;
/// Interval between looks for due deliveries that are in the store only.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of deliveries made in one transaction.
const BATCH: usize = 100;
/// Number of expired deliveries given up in one transaction.
const EXPIRED_BATCH: usize = 1_000;
/// Number of events that may be looked at before the position is stored, if none of them is delivered.
const MAX_UNSTORED: u64 = 100;
/// Longest time for which the position is not stored.
const PERSIST_INTERVAL: Duration = Duration::from_mins(1);
/// Interval between looks for expired events.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

impl Sender {
    /// Reads the deliveries that may be sent. If there are more than fit in memory, those that are there stay, as far as they may
    /// still be sent.
    pub(super) async fn load_window(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let (store, order) = (&gateway.0.store, self.webhook.settings.order);
        let page = store.sendable_deliveries(&self.webhook.id, order, 0, Timestamp::MAX, MAX_LOADED).await?;
        self.is_partial = page.looked_to.is_some();
        // After an error it is not certain that the window is as the store is: what is not on the page comes with a later look.
        if let Some(looked_to) = page.looked_to.filter(|_| self.times.refreshed.is_some()) {
            let left = self.window.reload_to(looked_to, page.deliveries, order);
            return self.load_followers(gateway, &left).await;
        }
        self.window.reload(page.deliveries, order);
        Ok(())
    }

    /// Reads deliveries that have become due and are in the store only.
    pub(super) async fn load_due(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let now = gateway.now();
        let order = self.webhook.settings.order;
        self.is_partial |= self.window.shrink(now, MAX_LOADED, order);
        let is_away = self.webhook.resume_at.is_some_and(|resume_at| resume_at > now);
        if !self.is_partial || is_away || !is_due(self.times.looked, LOOK_INTERVAL) || self.window.due(now) >= MAX_DUE {
            return Ok(());
        }
        let store = &gateway.0.store;
        let page = store.sendable_deliveries(&self.webhook.id, order, self.looked_to, now, MAX_FRESH).await?;
        self.times.looked = Some(Instant::now());
        self.looked_to = page.looked_to.unwrap_or(0);
        self.window.merge(page.deliveries, order);
        Ok(())
    }

    /// Reads the first deliveries of assignments whose deliveries before them have ended.
    pub(super) async fn load_followers(
        &mut self,
        gateway: &Gateway,
        assignments: &[AssignmentId],
    ) -> Result<(), StoreError> {
        if !assignments.is_empty() {
            let next = gateway.0.store.first_pending_deliveries(&self.webhook.id, assignments).await?;
            self.window.merge(next, self.webhook.settings.order);
        }
        Ok(())
    }

    /// Returns whether more deliveries may be made. Those in memory that are not due yet leave room for others.
    pub(super) fn can_make_more(&self, now: Timestamp) -> bool {
        self.window.fresh(soon(now)) < MAX_FRESH
    }

    /// Makes deliveries of the next events, as far as there is room for them.
    pub(super) async fn make_deliveries(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        if self.visible.has_changed().unwrap_or(false) {
            self.is_caught_up = false;
        }
        while !self.is_caught_up && self.can_make_more(gateway.now()) {
            self.visible.mark_unchanged();
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
                let held_up = self.held_up(gateway, &made).await;
                let held_up = held_up.inspect_err(|_| self.look_again())?;
                self.store_position(gateway, &made).await?;
                self.add_made(gateway, made, held_up);
            }
        }
        if self.scanned > self.webhook.scanned && is_due(self.times.persisted, PERSIST_INTERVAL) {
            self.store_position(gateway, &[]).await?;
        }
        Ok(())
    }

    /// Returns the assignments of new deliveries that have a pending one, with the number of its event.
    async fn held_up(&self, gateway: &Gateway, made: &[Delivery]) -> Result<HashMap<AssignmentId, u64>, StoreError> {
        let assignments: BTreeSet<&AssignmentId> = made.iter().filter_map(|it| it.assignment.as_ref()).collect();
        if self.webhook.settings.order == DeliveryOrder::Unordered || assignments.is_empty() {
            return Ok(HashMap::new());
        }
        let assignments: Vec<AssignmentId> = assignments.into_iter().cloned().collect();
        let first = gateway.0.store.first_pending_deliveries(&self.webhook.id, &assignments).await?;
        Ok(first.into_iter().filter_map(|it| Some((it.assignment?, it.sequence))).collect())
    }

    /// Adds new deliveries to those in memory, but for those that wait: for one of their assignment, or for their time.
    fn add_made(&mut self, gateway: &Gateway, made: Vec<Delivery>, mut held_up: HashMap<AssignmentId, u64>) {
        let is_ordered = self.webhook.settings.order == DeliveryOrder::Resource;
        let soon = soon(gateway.now());
        for delivery in made {
            if let Some(assignment) = delivery.assignment.as_ref().filter(|_| is_ordered) {
                if let Some(before) = held_up.get(assignment) {
                    if self.window.get(*before).is_some() {
                        self.window.note_follower(assignment);
                    }
                    continue;
                }
                held_up.insert(assignment.clone(), delivery.sequence);
            }
            if delivery.due.is_some_and(|due| due > soon) {
                self.is_partial = true;
            } else {
                self.window.extend([delivery]);
            }
        }
    }

    /// Commits deliveries together with the position up to which they are made.
    async fn store_position(&mut self, gateway: &Gateway, made: &[Delivery]) -> Result<(), StoreError> {
        let scanned = self.scanned;
        let deliveries = made.iter().map(|delivery| Mutation::Delivery(Box::new(delivery.clone())));
        let committed = gateway.0.store.commit(deliveries.chain([self.scan_to(scanned)]).collect()).await;
        committed.inspect_err(|_| self.look_again())?;
        self.webhook.scanned = scanned;
        self.times.persisted = Some(Instant::now());
        Ok(())
    }

    /// Returns the change that moves the webhook's position. Its transaction fails if the webhook has changed since it was read.
    pub(super) fn scan_to(&self, scanned: u64) -> Mutation {
        let Webhook { id, version, scanned: before, .. } = &self.webhook;
        Mutation::ScanWebhook(WebhookScan { id: id.clone(), version: *version, before: *before, scanned })
    }

    /// Has events looked at again, from the position that the store has.
    fn look_again(&mut self) {
        self.scanned = self.webhook.scanned;
        self.is_caught_up = false;
    }

    /// Gives up events that are no longer kept, and says so: to the feed and to the tenant's other webhooks.
    pub(super) async fn skip_expired(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        if !is_due(self.times.expired, EXPIRY_INTERVAL) {
            return Ok(());
        }
        let since = gateway.events_kept_since();
        let oldest = gateway.0.store.event_bounds(&self.webhook.tenant, since).await?.oldest;
        loop {
            let expired = self.expired_deliveries(gateway, oldest).await?;
            let is_last = expired.len() < EXPIRED_BATCH;
            self.give_up(gateway, oldest.saturating_sub(1), expired).await?;
            if is_last {
                break;
            }
        }
        self.times.expired = Some(Instant::now());
        Ok(())
    }

    /// Reads the next pending deliveries of events before this one, but for those in flight.
    async fn expired_deliveries(&self, gateway: &Gateway, oldest: u64) -> Result<Vec<Delivery>, StoreError> {
        let (store, id) = (&gateway.0.store, &self.webhook.id);
        let first = store.pending_deliveries(id, 0, 1).await?;
        if first.first().is_none_or(|first| first.sequence >= oldest) {
            return Ok(Vec::new());
        }
        let limit = EXPIRED_BATCH.saturating_add(self.window.in_flight());
        let mut expired = store.pending_deliveries(id, 0, limit).await?;
        expired.retain(|delivery| delivery.sequence < oldest && !self.window.is_in_flight(delivery.sequence));
        expired.truncate(EXPIRED_BATCH);
        Ok(expired)
    }

    /// Ends deliveries of events up to `last`, and passes over the events up to it of which none was made.
    async fn give_up(&mut self, gateway: &Gateway, last: u64, expired: Vec<Delivery>) -> Result<(), StoreError> {
        let ended: Vec<u64> = expired.iter().map(|delivery| delivery.sequence).collect();
        let followed: BTreeSet<AssignmentId> = expired.iter().filter_map(|it| it.assignment.clone()).collect();
        let given_up = gateway.give_up(&self.webhook, (self.scanned, last), &self.filter, expired).await;
        if given_up.is_err() {
            self.times.refreshed = None;
        }
        if given_up? {
            self.scanned = self.scanned.max(last);
            self.webhook.scanned = self.scanned;
        }
        self.window.remove(&ended);
        self.load_followers(gateway, &Vec::from_iter(followed)).await
    }
}

/// Returns until when a new delivery is to be due to be kept in memory.
fn soon(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
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
