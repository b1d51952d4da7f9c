//! What a sender writes by the version of a webhook or of a delivery that it has read, after another one has changed it.

use super::webhooks::{assert_same, superseded};
use super::*;
use crate::domain::webhook::{DeliveryState, Webhook, WebhookState};

pub(crate) async fn a_changed_webhook_refuses_deliveries_and_attempts_of_the_version_before(
    store: Arc<dyn Store>,
    make: Maker,
) {
    let tenant = make.name("tenant");
    let changes: [fn(&mut Webhook); 3] = [
        |webhook| webhook.settings.url = "https://new.example.org/".to_owned(),
        |webhook| webhook.settings.types = vec!["assignment.*".to_owned()],
        |webhook| webhook.state = WebhookState::Paused,
    ];
    for change in changes {
        let first = make.webhook(&tenant);
        let (early, late) = (make.delivery(&first, 8), make.delivery(&first, 9));
        store.commit(vec![put_webhook(&first), put_delivery(&early), scan(&first, 8)]).await.unwrap();
        let first = Webhook { scanned: 8, ..first };
        assert!(store.is_attemptable(&early, 1).await.unwrap());
        let mut second = Webhook { version: 2, ..first.clone() };
        change(&mut second);
        store.commit(vec![put_webhook(&second)]).await.unwrap();

        superseded(&store.commit(vec![put_delivery(&late), scan(&first, 9)]).await);
        assert_eq!(store.delivery(&tenant, &late.id).await.unwrap(), None);
        assert_same(store.webhook(&tenant, &first.id).await.unwrap().as_ref(), &second);
        assert!(!store.is_attemptable(&early, 1).await.unwrap());

        store.commit(vec![put_delivery(&late), scan(&second, 9)]).await.unwrap();
        for delivery in [&early, &late] {
            assert!(store.is_attemptable(delivery, 2).await.unwrap());
        }
        store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), first.id.clone())]).await.unwrap();
        let later = make.delivery(&first, 10);
        superseded(&store.commit(vec![put_delivery(&later), scan(&Webhook { scanned: 9, ..second }, 10)]).await);
        assert!(!store.is_attemptable(&early, 2).await.unwrap());
    }
}

pub(crate) async fn a_changed_delivery_refuses_attempts_of_the_version_before(store: Arc<dyn Store>, make: Maker) {
    let webhook = make.webhook(&make.name("tenant"));
    let first = make.delivery(&webhook, 1);
    store.commit(vec![put_webhook(&webhook)]).await.unwrap();
    assert!(!store.is_attemptable(&first, 1).await.unwrap());
    store.commit(vec![put_delivery(&first)]).await.unwrap();
    assert!(store.is_attemptable(&first, 1).await.unwrap());
    let failed = ended(&first, DeliveryState::Failed, make.0.now());
    store.commit(vec![put_delivery(&failed)]).await.unwrap();
    for delivery in [&first, &failed] {
        assert!(!store.is_attemptable(delivery, 1).await.unwrap());
    }
    let again = failed.clone().pending_again(make.0.now());
    store.commit(vec![put_delivery(&again)]).await.unwrap();
    assert!(store.is_attemptable(&again, 1).await.unwrap());
    assert!(!store.is_attemptable(&failed, 1).await.unwrap());
}
