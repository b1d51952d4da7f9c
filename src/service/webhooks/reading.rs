//! Which events a webhook gets.

use std::collections::BTreeSet;

use crate::domain::error::Error;
use crate::domain::event::{Event, EventFilter, EventType, NewEvent};
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{Delivery, Webhook, WebhookSettings};
use crate::service::errors::StoreResultExt as _;
use crate::service::webhooks::settings::WebhookOwner;
use crate::service::{ConnectionAccess, Gateway};

/// Maximum number of events of its own that are passed over in search of the one before.
const MAX_OWN: usize = 64;

/// The event of a delivery as its webhook gets it now.
pub(super) enum ChainedEvent {
    /// The event, with the number of the one before it that the webhook gets.
    Included(Box<Event>, Option<u64>),
    /// The filter has changed since the delivery was made: the webhook no longer gets the event.
    Excluded,
    /// It is no longer kept.
    Gone,
}

/// Returns whether an event is about the webhook itself. It is for the feed and for the other webhooks: a webhook that fails
/// would otherwise be sent the news of it.
pub(super) fn is_about(event: &NewEvent, webhook: &WebhookId) -> bool {
    use EventType::{Ping, WebhookDisabled, WebhookFailing, WebhookGap};
    let is_of_webhook = matches!(event.event_type, WebhookFailing | WebhookDisabled | WebhookGap | Ping);
    is_of_webhook && event.data.get("resource").is_some_and(|resource| *resource == webhook.path())
}

/// Returns the types that patterns name, in any order; all of them if there are no patterns. Patterns are checked when a webhook
/// is created; one that names nothing any more is passed over.
pub(super) fn types_of(patterns: &[String]) -> Option<Vec<EventType>> {
    if patterns.is_empty() {
        return None;
    }
    let named = patterns.iter().filter_map(|pattern| EventType::matching(pattern).ok()).flatten();
    Some(named.collect::<BTreeSet<_>>().into_iter().collect())
}

impl Gateway {
    /// Returns the filter of a webhook whose owner has this access.
    pub(super) fn filter_of(&self, webhook: &Webhook, owner: &WebhookOwner) -> EventFilter {
        let WebhookSettings { types, connections, assessments, .. } = &webhook.settings;
        let usable = match (&owner.connections, connections.is_empty()) {
            (ConnectionAccess::All, true) => None,
            (ConnectionAccess::Named(allowed), true) => Some(allowed.iter().cloned().collect()),
            (access, false) => Some(connections.iter().filter(|name| access.contains(name)).cloned().collect()),
        };
        let configured = self.configured();
        let entry = |id: &String| {
            let entry = configured.catalogue.assessments.get(id)?;
            Some((entry.connection.clone(), entry.reference.clone()))
        };
        EventFilter {
            types: types_of(types),
            connections: usable,
            assessments: (!assessments.is_empty()).then(|| assessments.iter().filter_map(entry).collect()),
            assignment: None,
        }
    }

    /// Returns an event as a webhook with this filter gets it.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn chained_event(
        &self,
        webhook: &Webhook,
        filter: &EventFilter,
        sequence: u64,
    ) -> Result<ChainedEvent, Error> {
        let (store, tenant) = (&self.0.store, webhook.tenant.as_str());
        let mut page = store.events(tenant, sequence.saturating_sub(1), filter, 1).await.or_not_applied()?;
        let passes = page.events.first().is_some_and(|event| event.sequence == sequence);
        if !passes {
            let event = store.event(tenant, sequence).await.or_not_applied()?;
            return Ok(event.map_or(ChainedEvent::Gone, |_| ChainedEvent::Excluded));
        }
        let Some(event) = page.events.pop() else { return Ok(ChainedEvent::Gone) };
        let mut previous = page.previous;
        for _ in 0..MAX_OWN {
            let Some(number) = previous else { break };
            let Some(before) = store.event(tenant, number).await.or_not_applied()? else { break };
            if !is_about(&before.event, &webhook.id) {
                break;
            }
            let earlier = store.events(tenant, number.saturating_sub(1), filter, 1).await.or_not_applied()?;
            previous = earlier.previous;
        }
        Ok(ChainedEvent::Included(Box::new(event), previous))
    }

    /// Returns those of a webhook's deliveries whose events are kept and which it still gets: its filters, or what its owner
    /// may use, may have changed since they were made.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn included(&self, webhook: &Webhook, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, Error> {
        let Some(owner) = self.delivery_context()?.owners.owner(webhook) else { return Ok(Vec::new()) };
        let filter = self.filter_of(webhook, &owner);
        let numbers: Vec<u64> = deliveries.iter().map(|delivery| delivery.sequence).collect();
        let events = self.0.store.events_by_sequence(&webhook.tenant, &numbers).await.or_not_applied()?;
        let included = events.into_iter().filter(|event| filter.admits(&event.event)).map(|event| event.sequence);
        let included: BTreeSet<u64> = included.collect();
        Ok(deliveries.into_iter().filter(|delivery| included.contains(&delivery.sequence)).collect())
    }
}
