//! What a sender keeps in memory, looked at while no task runs it.

use tokio::time::Instant;

use super::*;
use crate::domain::ids::DeliveryId;
use crate::domain::webhook::DeliveryAttempt;
use crate::service::webhooks::sender::{Opened, Sender};
use crate::service::webhooks::state::SenderSignals;
use crate::service::webhooks::window::Preference;
use crate::service::write::locks::SubjectLock;
use crate::store::WebhookScan;

/// Number of deliveries that a sender reads at a time.
const MAX_LOADED: u64 = 2_000;

/// How a delivery is in the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Due,
    /// As [`Self::Due`], of an event that is no longer kept.
    Expired,
    /// Never attempted, and not due yet.
    Later,
    /// Attempted, and not due yet.
    Waiting,
    Delivered,
}

impl World {
    /// Commits events of these assignments with their deliveries, which are returned.
    async fn put_deliveries(
        &self,
        webhook: &WebhookId,
        all: impl IntoIterator<Item = (Option<u64>, Stored)>,
    ) -> Vec<Delivery> {
        let Webhook { version, scanned: before, .. } = self.stored(webhook).await;
        let now = self.gateway.now();
        let (mut events, mut deliveries) = (Vec::new(), Vec::new());
        for (sequence, (assignment, stored)) in (before + 1..).zip(all) {
            let age = if stored == Stored::Expired { 8 * DAY } else { Duration::ZERO };
            let event = self.event_about(EventType::ResultPublished, subject_of(assignment), age);
            let is_attempted = matches!(stored, Stored::Waiting | Stored::Delivered);
            let attempt = DeliveryAttempt { at: now, status: Some(500), duration_ms: 1, error: None };
            deliveries.push(Delivery {
                id: DeliveryId::generate(&self.system),
                tenant: TENANT.to_owned(),
                webhook: webhook.clone(),
                event: event.id.clone(),
                sequence,
                event_type: event.event_type,
                assignment: event.subject.assignment.clone(),
                connection: event.subject.connection.clone(),
                state: if stored == Stored::Delivered { DeliveryState::Delivered } else { DeliveryState::Pending },
                reason: None,
                step: u32::from(is_attempted),
                due: match stored {
                    Stored::Due | Stored::Expired => Some(now),
                    Stored::Later | Stored::Waiting => Some(now + SignedDuration::from_hours(1)),
                    Stored::Delivered => None,
                },
                attempts: Vec::from_iter(is_attempted.then_some(attempt)),
                created: now,
                version: 1,
            });
            events.push(event);
        }
        self.store.commit(events.into_iter().map(|event| Mutation::Event(Box::new(event))).collect()).await.unwrap();
        let scanned = deliveries.last().unwrap().sequence;
        let scan = Mutation::ScanWebhook(WebhookScan { id: webhook.clone(), version, before, scanned });
        let changes = deliveries.iter().map(|delivery| Mutation::Delivery(Box::new(delivery.clone())));
        self.store.commit(changes.chain([scan]).collect()).await.unwrap();
        deliveries
    }

    async fn change_delivery(&self, delivery: Delivery) {
        self.store.commit(vec![Mutation::Delivery(Box::new(delivery))]).await.unwrap();
    }

    /// Returns the sender of a webhook, with its deliveries read.
    async fn sender_of(&self, id: &WebhookId) -> (Box<Sender>, SubjectLock) {
        let signals = Arc::new(SenderSignals::default());
        let opened = self.gateway.open_sender(TENANT, id, &signals).await.unwrap();
        let Opened::Sender(mut sender, lock) = opened else { panic!("it has no sender") };
        sender.load_due(&self.gateway).await.unwrap();
        (sender, lock)
    }

    fn next_of(&self, sender: &Sender) -> Option<u64> {
        sender.window.next(self.gateway.now(), DeliveryOrder::Resource, Preference::First)
    }
}

/// Returns more deliveries that wait than fit in memory.
fn crowd() -> impl Iterator<Item = (Option<u64>, Stored)> {
    (0..MAX_LOADED).map(|number| (Some(number), Stored::Waiting))
}

/// Has the sender's next look read nothing again by itself.
fn settle(sender: &mut Sender) {
    let now = Some(Instant::now());
    (sender.times.refreshed, sender.times.expired, sender.times.looked) = (now, now, now);
}

#[tokio::test]
async fn a_replayed_delivery_precedes_a_later_one_of_its_assignment_that_is_in_memory() {
    let world = World::without_senders().await;
    let webhook = world.webhook("a").await;
    let assignment = Some(9_999);
    let last = [(assignment, Stored::Delivered), (assignment, Stored::Due), (None, Stored::Due)];
    let all = world.put_deliveries(&webhook, crowd().chain(last)).await;
    let (mut sender, _lock) = world.sender_of(&webhook).await;
    let [replayed, later, other] = [1, 2, 3].map(|after| MAX_LOADED + after);
    assert!(sender.is_partial);
    assert_eq!(world.next_of(&sender), Some(later));
    // It lies behind more of the store than is read at once.
    world.change_delivery(all[2_000].clone().pending_again(world.gateway.now())).await;
    settle(&mut sender);
    sender.load_window(&world.gateway).await.unwrap();
    assert_eq!(world.next_of(&sender), Some(replayed));
    assert_eq!([later, other].map(|number| sender.window.get(number).is_some()), [false, true]);
}

#[tokio::test]
async fn a_part_of_the_deliveries_is_read_again_after_an_error() {
    let world = World::without_senders().await;
    let webhook = world.webhook("a").await;
    let all = world.put_deliveries(&webhook, crowd().chain([(None, Stored::Due)])).await;
    let last = MAX_LOADED + 1;
    let (mut sender, _lock) = world.sender_of(&webhook).await;
    assert_eq!(world.next_of(&sender), Some(last));
    // The reply to the commit of its end was lost.
    let delivered = Delivery { state: DeliveryState::Delivered, due: None, version: 2, ..all[2_000].clone() };
    world.change_delivery(delivered).await;
    settle(&mut sender);
    sender.load_window(&world.gateway).await.unwrap();
    assert_eq!(world.next_of(&sender), Some(last), "it lies behind what is read at once");
    sender.times.refreshed = None;
    sender.load_window(&world.gateway).await.unwrap();
    assert!(sender.is_partial);
    assert_eq!(world.next_of(&sender), None);
}

#[tokio::test]
async fn a_delivery_that_has_ended_with_its_event_leaves_memory_and_holds_back_no_other() {
    let world = World::without_senders().await;
    let webhook = world.webhook("a").await;
    let all = world.put_deliveries(&webhook, [(None, Stored::Expired), (None, Stored::Due)]).await;
    let (mut sender, _lock) = world.sender_of(&webhook).await;
    // Another instance has given it up, and this one has not read it again since.
    let expired = Delivery { state: DeliveryState::Failed, due: None, version: 2, ..all[0].clone() };
    world.change_delivery(expired).await;
    world.gateway.purge_events().await;
    settle(&mut sender);
    sender.step(&world.gateway).await.unwrap();
    assert!(sender.window.get(1).is_some() && world.receiver.all().is_empty());
    assert!(sender.times.refreshed.is_none(), "it is read again at once");
    sender.step(&world.gateway).await.unwrap();
    assert!(sender.window.get(1).is_none());
    wait_until(async || sequences(&world.receiver.accepted("a")) == [2]).await;
}

#[tokio::test]
async fn deliveries_that_are_not_due_leave_room_for_those_of_new_events() {
    let world = World::without_senders().await;
    let webhook = world.webhook("a").await;
    world.put_deliveries(&webhook, (0..600).map(|number| (Some(number), Stored::Later))).await;
    let (mut sender, _lock) = world.sender_of(&webhook).await;
    assert_eq!((sender.window.len(), world.next_of(&sender)), (600, None));
    world.emit(None).await;
    sender.step(&world.gateway).await.unwrap();
    assert_eq!(world.deliveries(&webhook).await.len(), 601);
    wait_until(async || sequences(&world.receiver.accepted("a")) == [601]).await;
}
