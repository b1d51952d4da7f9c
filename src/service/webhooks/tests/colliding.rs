//! Callers, senders and other instances that change the same webhook or delivery at the same time.

use super::receiver::{respond, unreachable};
use super::*;
use crate::service::webhooks::registry::{enable, healthy};
use crate::transport::delivery::DeliveryResponse;

impl World {
    /// Resumes a webhook as another instance over the same store does.
    async fn resume_elsewhere(&self, id: &WebhookId) {
        let mut webhook = self.stored(id).await;
        enable(&mut webhook);
        webhook.version += 1;
        let health = Mutation::WebhookHealth(healthy(&webhook));
        self.store.commit(vec![Mutation::Webhook(Box::new(webhook)), health]).await.unwrap();
    }
}

#[tokio::test]
async fn an_attempt_that_ends_after_a_resume_at_another_instance_does_not_undo_it() {
    let schedule = RetrySchedule::new(&[Duration::ZERO; 20]).unwrap();
    let world = World::with(DeliverySettings { schedule, ..delivery_settings() }).await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| unreachable());
    world.emit(None).await;
    world.wait_for_state(&webhook, WebhookState::Failing).await;
    world.receiver.open(false);
    wait_until(async || world.receiver.in_flight() == 1).await;
    let failures = world.stored(&webhook).await.failures;
    assert!(failures >= 3, "{failures}");
    world.resume_elsewhere(&webhook).await;
    world.receiver.script(|_| Ok(DeliveryResponse { status: 503, retry_after: Some("3600".to_owned()) }));
    world.receiver.open(true);
    wait_until(async || world.stored(&webhook).await.resume_at.is_some()).await;
    let stored = world.stored(&webhook).await;
    assert_eq!((stored.failures, stored.state), (1, WebhookState::Enabled));
}

#[tokio::test]
async fn an_attempt_that_ends_after_its_delivery_was_retried_is_recorded_too() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.open(false);
    world.emit(None).await;
    wait_until(async || world.receiver.in_flight() == 1).await;
    let delivery = world.deliveries(&webhook).await.remove(0);
    // At another instance, so that the sender does not know.
    world
        .store
        .commit(vec![Mutation::Delivery(Box::new(delivery.clone().pending_again(world.system.now())))])
        .await
        .unwrap();
    world.receiver.open(true);
    world.wait_for_delivered(&webhook, 1).await;
    let now = world.deliveries(&webhook).await.remove(0);
    assert_eq!((now.attempts.len(), now.version), (1, delivery.version + 2));
    assert_eq!(world.receiver.accepted("a").len(), 1);
}

#[tokio::test]
async fn two_changes_of_different_settings_at_the_same_time_are_both_made() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    let changes = (0..8_u32).map(|number| {
        let (gateway, webhook) = (world.gateway.clone(), webhook.clone());
        tokio::spawn(async move {
            let patch = move |now: WebhookSettings| {
                let types = [now.types, vec![["result.*", "operation.*"][number as usize % 2].to_owned()]].concat();
                Ok(WebhookSettings { types, ..now })
            };
            gateway.update_webhook_now(&caller("lms"), &webhook, Box::new(patch)).await.is_ok()
        })
    });
    let mut made = 0;
    for change in changes.collect::<Vec<_>>() {
        made += usize::from(change.await.unwrap());
    }
    assert_eq!(world.stored(&webhook).await.settings.types.len(), made);
    assert!(made > 1, "{made}");
}

#[tokio::test]
async fn a_full_payload_waits_until_its_resource_can_be_read() {
    let world = World::new().await;
    let full = WebhookSettings { payload: WebhookPayload::Full, ..settings("https://a.example.com/hook") };
    let webhook = world.create(full).await.view.webhook.id;
    world.receiver.forget();
    let before = world.owners.reads.load(Ordering::SeqCst);
    world.owners.is_away.store(true, Ordering::SeqCst);
    world.emit(None).await;
    // The test's clock hardly moves: what the store says is when the delivery is due.
    let look_again = || world.gateway.0.webhooks.refresh(&webhook);
    wait_until(async || {
        look_again();
        world.owners.reads.load(Ordering::SeqCst) >= before + 2
    })
    .await;
    assert!(world.receiver.all().is_empty(), "nothing is sent without the resource");
    world.owners.is_away.store(false, Ordering::SeqCst);
    wait_until(async || {
        look_again();
        world.deliveries(&webhook).await.iter().any(|delivery| delivery.state == DeliveryState::Delivered)
    })
    .await;
    let received = world.receiver.all();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].json["data"]["object"], json!({ "path": "/results/res_1", "readFor": "lms" }));
    let delivery = world.deliveries(&webhook).await.remove(0);
    assert_eq!(delivery.attempts.len(), 1, "what could not be read was no attempt");
}

#[tokio::test]
async fn a_refusal_after_a_retry_counts_from_the_beginning_of_the_schedule() {
    let schedule = RetrySchedule::new(&[Duration::ZERO, Duration::ZERO, Duration::from_hours(1)]).unwrap();
    let world = World::with(DeliverySettings { schedule, ..delivery_settings() }).await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| respond(500));
    world.emit(None).await;
    let waits = async || world.deliveries(&webhook).await.first().is_some_and(|it| it.step == 2);
    wait_until(waits).await;
    world.receiver.open(false);
    let first = world.deliveries(&webhook).await.remove(0);
    world.gateway.retry_delivery_now(&caller("lms"), &first.id).await.unwrap();
    wait_until(async || world.receiver.in_flight() == 1).await;
    world.receiver.open(true);
    wait_until(async || world.deliveries(&webhook).await[0].attempts.len() == 4).await;
    assert_eq!(world.deliveries(&webhook).await[0].step, 2, "two more attempts");
}
