//! Changes of a webhook of which its sender was not notified, as another instance makes them: the store refuses what the sender
//! does by the version before.

use super::*;
use crate::domain::webhook::DeliveryReason;
use crate::service::webhooks::sender::{Opened, Sender};
use crate::service::webhooks::state::SenderSignals;

/// A change of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Url,
    Filter,
    Pause,
    Removal,
}

const CHANGES: [Change; 4] = [Change::Url, Change::Filter, Change::Pause, Change::Removal];

impl World {
    /// Returns the change of a webhook as it is stored now.
    async fn change(&self, id: &WebhookId, change: Change) -> Mutation {
        let mut webhook = self.stored(id).await;
        webhook.version += 1;
        match change {
            Change::Url => webhook.settings.url = "https://b.example.com/hook".to_owned(),
            Change::Filter => webhook.settings.types = vec!["assignment.*".to_owned()],
            Change::Pause => webhook.state = WebhookState::Paused,
            Change::Removal => return Mutation::RemoveWebhook(TENANT.to_owned(), id.clone()),
        }
        Mutation::Webhook(Box::new(webhook))
    }

    /// Becomes the sender of a webhook.
    async fn sender(&self, id: &WebhookId) -> Box<Sender> {
        let signals = Arc::new(SenderSignals::default());
        let opened = self.gateway.open_sender(TENANT, id, &signals).await.unwrap();
        let Opened::Sender(sender, _) = opened else { panic!("another one sends") };
        sender
    }
}

#[tokio::test]
async fn no_delivery_is_made_by_the_version_before_of_a_webhook() {
    for change in CHANGES {
        let world = World::new().await;
        let webhook = world.webhook("a").await;
        world.emit(None).await;
        world.wait_for_delivered(&webhook, 1).await;
        world.receiver.forget();
        let events = [EventType::ResultPublished, EventType::AssignmentExpired]
            .map(|kind| world.event_about(kind, subject_of(None), Duration::ZERO));
        let ids = events.each_ref().map(|event| event.id.to_string());
        let mut changes = vec![world.change(&webhook, change).await];
        changes.extend(events.map(|event| Mutation::Event(Box::new(event))));
        world.store.commit(changes).await.unwrap();
        match change {
            Change::Url => world.wait_for_arrival("b", &ids).await,
            Change::Filter => world.wait_for_arrival("a", &ids[1..]).await,
            Change::Pause | Change::Removal => world.wait_for_sender_end(&webhook).await,
        }
        let at_a: Vec<u64> =
            sequences(&world.receiver.all().into_iter().filter(|one| one.is_at("a")).collect::<Vec<_>>());
        assert_eq!(at_a, if change == Change::Filter { vec![3] } else { vec![] }, "{change:?}");
        let made: Vec<u64> = world.deliveries(&webhook).await.iter().map(|delivery| delivery.sequence).collect();
        let expected = match change {
            Change::Url => vec![1, 2, 3],
            Change::Filter => vec![1, 3],
            Change::Pause => vec![1],
            Change::Removal => vec![],
        };
        assert_eq!(made, expected, "{change:?}");
    }
}

#[tokio::test]
async fn no_attempt_is_made_by_the_version_before_of_a_webhook() {
    for change in CHANGES {
        let world = World::new().await;
        let one = WebhookSettings { max_in_flight: 1, ..settings("https://a.example.com/hook") };
        let webhook = world.create(one).await.view.webhook.id;
        world.receiver.forget();
        world.receiver.open(false);
        world.emit(Some(1)).await;
        let second = world.emit(Some(2)).await.to_string();
        wait_until(async || world.receiver.in_flight() == 1 && world.deliveries(&webhook).await.len() == 2).await;
        world.store.commit(vec![world.change(&webhook, change).await]).await.unwrap();
        world.receiver.open(true);
        let has_ended = async || world.deliveries(&webhook).await.iter().all(|it| it.state != DeliveryState::Pending);
        match change {
            Change::Url => world.wait_for_arrival("b", &[second]).await,
            Change::Filter => wait_until(has_ended).await,
            Change::Pause | Change::Removal => world.wait_for_sender_end(&webhook).await,
        }
        let mut at_a = world.receiver.all();
        at_a.retain(|one| one.is_at("a"));
        assert_eq!(sequences(&at_a), [1], "{change:?}");
        if change == Change::Filter {
            assert_eq!(world.deliveries(&webhook).await[1].reason, Some(DeliveryReason::Excluded));
        }
    }
}

#[tokio::test]
async fn a_pause_while_the_resource_is_read_for_an_attempt_is_in_force_for_it() {
    let world = World::new().await;
    let full = WebhookSettings { payload: WebhookPayload::Full, ..settings("https://a.example.com/hook") };
    let webhook = world.create(full).await.view.webhook.id;
    world.receiver.forget();
    world.owners.is_readable.send_replace(false);
    let before = world.owners.reads.load(Ordering::SeqCst);
    world.emit(None).await;
    wait_until(async || world.owners.reads.load(Ordering::SeqCst) > before).await;
    world.store.commit(vec![world.change(&webhook, Change::Pause).await]).await.unwrap();
    world.owners.is_readable.send_replace(true);
    world.wait_for_sender_end(&webhook).await;
    assert!(world.receiver.all().is_empty(), "{:?}", world.receiver.all());
    let delivery = world.deliveries(&webhook).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::Pending, 0));
}

#[tokio::test]
async fn events_that_a_sender_has_passed_over_are_looked_at_again_by_the_filter_that_admits_them() {
    let world = World::unconfigured().await;
    world.gateway.0.webhooks.set_context(world.context(delivery_settings()));
    let narrow = WebhookSettings { types: vec!["assignment.*".to_owned()], ..settings("https://a.example.com/hook") };
    let webhook = world.create(narrow).await.view.webhook.id;
    let mut sender = world.sender(&webhook).await;
    for _ in 0..2 {
        world.emit(None).await;
        sender.is_caught_up = false;
        sender.step(&world.gateway).await.unwrap();
    }
    assert_eq!((sender.scanned, world.stored(&webhook).await.scanned), (2, 1), "the first position was stored");

    let mut wide = world.stored(&webhook).await;
    (wide.version, wide.settings.types) = (wide.version + 1, Vec::new());
    world.store.commit(vec![Mutation::Webhook(Box::new(wide))]).await.unwrap();
    sender.signals.refresh();
    sender.step(&world.gateway).await.unwrap();
    let made: Vec<u64> = world.deliveries(&webhook).await.iter().map(|delivery| delivery.sequence).collect();
    assert_eq!(made, [2]);
}
