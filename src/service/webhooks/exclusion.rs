//! Deliveries that a webhook no longer gets, because its filters or what its owner may use have changed since they were made: they
//! end without being sent, and hold back no other.

use crate::domain::webhook::{Delivery, DeliveryReason};
use crate::service::Gateway;
use crate::service::webhooks::sender::Sender;
use crate::store::{Mutation, StoreError};

/// Number of deliveries that are looked at and ended at a time.
const BATCH: usize = 100;

impl Sender {
    /// Ends all pending deliveries of events that do not pass the webhook's filter any more, among them this one.
    pub(super) async fn exclude(&mut self, gateway: &Gateway, number: u64) -> Result<(), StoreError> {
        let waiting = self.window.waiting();
        for part in waiting.chunks(BATCH) {
            let events = gateway.0.store.events_by_sequence(&self.webhook.tenant, part).await?;
            let is_excluded = |it: &u64| {
                let mut same = events.iter().filter(|event| event.sequence == *it);
                *it == number || same.any(|event| !self.filter.admits(&event.event))
            };
            let excluded = part.iter().filter(|it| is_excluded(it)).filter_map(|it| self.window.get(*it).cloned());
            let excluded: Vec<Delivery> = excluded.map(|it| it.failed_for(DeliveryReason::Excluded)).collect();
            if excluded.is_empty() {
                continue;
            }
            let count = excluded.len();
            let ends = excluded.iter().map(|delivery| Mutation::Delivery(Box::new(delivery.clone())));
            // The position stays; the webhook must have the filter by which the deliveries were judged.
            gateway.0.store.commit(ends.chain([self.scan_to(self.webhook.scanned)]).collect()).await?;
            let followed: Vec<_> = excluded.into_iter().filter_map(|delivery| self.window.end(delivery)).collect();
            self.load_followers(gateway, &followed).await?;
            tracing::info!(webhook = %self.webhook.id, count, "events are not delivered: the webhook no longer gets them");
        }
        Ok(())
    }
}
