//! What retention removes, and what it leaves.

use super::*;
use crate::domain::ids::DeliveryId;
use crate::domain::webhook::DeliveryReason;
use crate::store::WebhookScan;

/// Older than what is kept.
const OLD: Duration = Duration::from_hours(8 * 24);

impl World {
    /// Creates a paused webhook at this host.
    async fn paused(&self, host: &str) -> WebhookId {
        let webhook = self.webhook(host).await;
        self.gateway.pause_webhook_now(&caller("lms"), &webhook).await.unwrap();
        self.wait_for_sender_end(&webhook).await;
        webhook
    }

    /// Commits an old event, with a delivery of it to each of these webhooks that was never attempted.
    async fn leave_behind(&self, webhooks: &[&WebhookId]) -> Vec<DeliveryId> {
        let event = self.event_about(EventType::ResultPublished, subject_of(Some(1)), OLD);
        self.store.commit(vec![Mutation::Event(Box::new(event.clone()))]).await.unwrap();
        let sequence = self.store.latest_event(TENANT).await.unwrap();
        let (mut made, mut changes) = (Vec::new(), Vec::new());
        for webhook in webhooks {
            let delivery = Delivery {
                id: DeliveryId::generate(&self.system),
                tenant: TENANT.to_owned(),
                webhook: (*webhook).clone(),
                event: event.id.clone(),
                sequence,
                event_type: event.event_type,
                assignment: event.subject.assignment.clone(),
                connection: event.subject.connection.clone(),
                state: DeliveryState::Pending,
                reason: None,
                step: 0,
                due: Some(event.timestamp),
                attempts: Vec::new(),
                created: event.timestamp,
                version: 1,
            };
            let Webhook { id, version, scanned: before, .. } = self.stored(webhook).await;
            made.push(delivery.id.clone());
            changes.push(Mutation::Delivery(Box::new(delivery)));
            changes.push(Mutation::ScanWebhook(WebhookScan { id, version, before, scanned: sequence }));
        }
        self.store.commit(changes).await.unwrap();
        made
    }
}

#[tokio::test]
async fn a_delivery_whose_event_has_expired_stays_listed_when_retention_has_removed_the_event() {
    let world = World::new().await;
    let webhook = world.paused("a").await;
    world.finish_first_purge().await;
    world.leave_behind(&[&webhook]).await;
    for _ in 0..2 {
        world.gateway.purge_events().await;
    }
    assert_eq!(world.store.event(TENANT, 1).await.unwrap(), None);
    let listed = world.deliveries(&webhook).await;
    let states: Vec<_> = listed.iter().map(|delivery| (delivery.state, delivery.reason)).collect();
    assert_eq!(states, [(DeliveryState::Failed, Some(DeliveryReason::Expired))]);
}

#[tokio::test]
async fn no_event_is_removed_before_it_is_known_what_webhooks_get() {
    let world = World::unconfigured().await;
    world.finish_first_purge().await;
    let maker = crate::store::conformance::Maker(world.system.clone());
    let webhook = Webhook {
        settings: settings("https://a.example.com/hook"),
        state: WebhookState::Paused,
        scanned: 0,
        ..maker.webhook(TENANT)
    };
    world.store.commit(vec![Mutation::Webhook(Box::new(webhook.clone()))]).await.unwrap();
    world.emit_about(EventType::ResultPublished, EventSubject::default(), OLD).await;
    for _ in 0..2 {
        world.gateway.purge_events().await;
    }
    assert!(world.store.event(TENANT, 1).await.unwrap().is_some());

    world.gateway.start_deliveries(world.context(delivery_settings())).await;
    world.gateway.purge_events().await;
    assert_eq!(world.store.event(TENANT, 1).await.unwrap(), None);
    let gaps = world.reported(EventType::WebhookGap).await;
    assert_eq!(gaps.iter().map(|gap| &gap["resource"]).collect::<Vec<_>>(), [&json!(webhook.id.path())]);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_keeps_retention_from_nothing_else() {
    let world = World::new().await;
    let (damaged, other) = (world.paused("damaged").await, world.paused("other").await);
    world.finish_first_purge().await;
    let deliveries = world.leave_behind(&[&damaged, &other]).await;
    world.sqlite.damage_delivery(&deliveries[0]).await;
    for _ in 0..2 {
        world.gateway.purge_events().await;
    }
    assert_eq!(world.store.event(TENANT, 1).await.unwrap(), None);
    assert_eq!(world.deliveries(&other).await[0].reason, Some(DeliveryReason::Expired));
    let reported: Vec<_> =
        world.reported(EventType::WebhookGap).await.into_iter().map(|gap| gap["resource"].clone()).collect();
    assert_eq!(reported, [json!(other.path())]);
}
