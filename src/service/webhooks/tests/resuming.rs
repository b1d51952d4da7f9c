//! A creation under an `Idempotency-Key` whose process ends between its commit and its reply.

use super::*;
use crate::service::IdempotencyRequest;
use crate::service::write::handle::WriteReply;
use crate::store::KeyState;

fn order() -> NewWebhook {
    NewWebhook { settings: settings("https://a.example.com/hook"), secret: None }
}

#[tokio::test]
async fn a_retry_gets_the_webhook_that_the_first_request_has_created_with_its_secret() {
    let world = World::new().await;
    let request = IdempotencyRequest { scope: "POST /webhooks\nk".to_owned(), content: [7; 32] };
    let keyed = RequestContext { key: Some(request.clone()), ..caller("lms") };
    let claim = world.gateway.0.idempotency.acquisition(&keyed, request);
    let KeyState::Acquired(key) = world.store.acquire_key(&claim).await.unwrap() else { panic!("a new key") };
    let origin = WriteOrigin { key: Some(key.clone()), item: None };
    let first = RequestContext { origin, ..keyed.clone() };
    let first = world.gateway.create_webhook_now(&first, order()).await.unwrap();
    world.store.commit(vec![Mutation::ReleaseKey(key)]).await.unwrap();

    for replayed in [false, true] {
        let handle = world.gateway.create_webhook(&keyed, order()).unwrap();
        let WriteReply { written, replayed: is_replayed } = handle.result(None).await.unwrap();
        assert_eq!(is_replayed, replayed);
        let again = written.value();
        assert_eq!(again.view.webhook.id, first.view.webhook.id);
        let secret = |reply: &WebhookReply| reply.secret.as_ref().map(|secret| secret.expose().to_owned());
        assert_eq!(secret(again), secret(&first));
        assert!(secret(again).is_some() && again.ping.as_ref().is_some_and(|ping| ping.delivered));
    }
    assert_eq!(world.store.all_webhooks().await.unwrap().len(), 1);
}
