//! Webhooks and their deliveries.

use super::*;
use crate::domain::event::EventType;
use crate::domain::ids::{DeliveryId, EventId, WebhookId};
use crate::domain::webhook::{
    Delivery, DeliveryAttempt, DeliveryOrder, DeliveryReason, DeliveryState, DisableReason, Webhook, WebhookPayload,
    WebhookSecret, WebhookSettings, WebhookSource, WebhookState,
};
use crate::store::{DeliveryFilter, WebhookBacklog, WebhookHealth, WebhookScan};

impl Maker {
    /// Returns a webhook of the tenant, of version 1.
    pub(crate) fn webhook(&self, tenant: &str) -> Webhook {
        let now = self.0.now();
        let secret = |text: &str, expires| WebhookSecret { value: Secret::new(text), expires };
        Webhook {
            id: WebhookId::generate(&self.0),
            tenant: tenant.to_owned(),
            owner: "lms".to_owned(),
            source: WebhookSource::Api,
            settings: WebhookSettings {
                url: "https://hooks.example.org/planted-path".to_owned(),
                description: Some("planted-description".to_owned()),
                types: vec!["result.*".to_owned()],
                connections: vec!["c".to_owned()],
                assessments: vec!["rust-101".to_owned()],
                payload: WebhookPayload::Full,
                order: DeliveryOrder::Resource,
                max_in_flight: 4,
                requests_per_second: 0,
            },
            secrets: vec![secret("whsec_planted-new", None), secret("whsec_planted-old", Some(now + 1.hours()))],
            state: WebhookState::Enabled,
            reason: None,
            scanned: 7,
            failures: 0,
            failing_since: None,
            resume_at: None,
            created: now,
            last_modified: now,
            version: 1,
        }
    }

    /// Returns a pending delivery of an event to the webhook.
    pub(crate) fn delivery(&self, webhook: &Webhook, sequence: u64) -> Delivery {
        let now = self.0.now();
        Delivery {
            id: DeliveryId::generate(&self.0),
            tenant: webhook.tenant.clone(),
            webhook: webhook.id.clone(),
            event: EventId::generate(&self.0),
            sequence,
            event_type: EventType::ResultPublished,
            assignment: Some(AssignmentId::generate(&self.0)),
            connection: Some("c".to_owned()),
            state: DeliveryState::Pending,
            reason: None,
            step: 0,
            due: Some(now),
            attempts: Vec::new(),
            created: now,
            version: 1,
        }
    }
}

pub(crate) fn put_webhook(webhook: &Webhook) -> Mutation {
    Mutation::Webhook(Box::new(webhook.clone()))
}

pub(crate) fn put_delivery(delivery: &Delivery) -> Mutation {
    Mutation::Delivery(Box::new(delivery.clone()))
}

pub(crate) fn ended(delivery: &Delivery, state: DeliveryState, at: Timestamp) -> Delivery {
    let attempt =
        DeliveryAttempt { at, status: Some(500), duration_ms: 12, error: Some("planted-attempt-error".to_owned()) };
    let version = delivery.version + 1;
    Delivery { state, step: 1, due: None, attempts: vec![attempt], version, ..delivery.clone() }
}

/// Returns the first version of a delivery that has ended at once.
pub(crate) fn ended_at_once(delivery: &Delivery, state: DeliveryState, at: Timestamp) -> Delivery {
    Delivery { version: 1, ..ended(delivery, state, at) }
}

/// Returns the change that moves the position of a webhook as it was read.
pub(crate) fn scan(webhook: &Webhook, scanned: u64) -> Mutation {
    let Webhook { id, version, scanned: before, .. } = webhook;
    Mutation::ScanWebhook(WebhookScan { id: id.clone(), version: *version, before: *before, scanned })
}

/// Asserts that two webhooks are the same, also by their secrets.
pub(super) fn assert_same(found: Option<&Webhook>, expected: &Webhook) {
    let found = found.expect("the webhook is there");
    let secrets = |webhook: &Webhook| -> Vec<String> {
        webhook.secrets.iter().map(|secret| secret.value.expose().to_owned()).collect()
    };
    assert_eq!((format!("{found:?}"), secrets(found)), (format!("{expected:?}"), secrets(expected)));
}

pub(super) fn superseded(changed: &Result<(), StoreError>) {
    assert!(matches!(changed, Err(StoreError::Superseded)), "{changed:?}");
}

pub(crate) async fn a_webhook_is_replaced_only_by_its_next_version(store: Arc<dyn Store>, make: Maker) {
    let (tenant, other) = (make.name("tenant"), make.name("tenant"));
    let first = make.webhook(&tenant);
    let read = async || store.webhook(&tenant, &first.id).await.unwrap();
    let second = Webhook {
        version: 2,
        state: WebhookState::Disabled,
        reason: Some(DisableReason::Gone),
        scanned: 1,
        ..first.clone()
    };
    superseded(&store.commit(vec![put_webhook(&second)]).await);
    store.commit(vec![put_webhook(&first)]).await.unwrap();
    assert_same(read().await.as_ref(), &first);
    superseded(&store.commit(vec![put_webhook(&first)]).await);
    assert!(store.webhook(&other, &first.id).await.unwrap().is_none());

    let failing_since = Some(make.0.now());
    let health_of = |version, failures, time| {
        let health = WebhookHealth { id: first.id.clone(), version, failures, failing_since: time, resume_at: time };
        Mutation::WebhookHealth(health)
    };
    let scan = |version, before, scanned| scan(&Webhook { version, scanned: before, ..first.clone() }, scanned);
    store.commit(vec![health_of(1, 3, failing_since), scan(1, 7, 9)]).await.unwrap();
    superseded(&store.commit(vec![scan(1, 7, 9)]).await);
    store.commit(vec![scan(1, 9, 8)]).await.unwrap();
    // A new version does not undo what was delivered meanwhile.
    store.commit(vec![put_webhook(&second)]).await.unwrap();
    let expected = Webhook { scanned: 9, failures: 3, failing_since, resume_at: failing_since, ..second.clone() };
    assert_same(read().await.as_ref(), &expected);
    superseded(&store.commit(vec![put_webhook(&second)]).await);
    // Neither does what an attempt before says of the receiver undo it.
    superseded(&store.commit(vec![health_of(1, 4, None)]).await);
    assert_same(read().await.as_ref(), &expected);
    let thief = Webhook { tenant: other.clone(), version: 3, ..second.clone() };
    superseded(&store.commit(vec![put_webhook(&thief)]).await);

    store.commit(vec![Mutation::RemoveWebhook(other, first.id.clone())]).await.unwrap();
    assert_same(read().await.as_ref(), &expected);
    store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), first.id.clone())]).await.unwrap();
    assert!(read().await.is_none());
    superseded(&store.commit(vec![put_webhook(&Webhook { version: 3, ..second })]).await);
    superseded(&store.commit(vec![scan(2, 9, 10)]).await);
    store.commit(vec![health_of(2, 0, None)]).await.unwrap();
    assert!(read().await.is_none());
}

pub(crate) async fn what_attempts_say_is_committed_with_the_version_that_they_make(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let first = make.webhook(&tenant);
    store.commit(vec![put_webhook(&first)]).await.unwrap();
    let second = Webhook { version: 2, state: WebhookState::Failing, ..first.clone() };
    let (id, time) = (first.id.clone(), Some(make.0.now()));
    let health = WebhookHealth { id, version: 2, failures: 3, failing_since: time, resume_at: None };
    store.commit(vec![put_webhook(&second), Mutation::WebhookHealth(health)]).await.unwrap();
    let expected = Webhook { failures: 3, failing_since: time, ..second };
    assert_same(store.webhook(&tenant, &first.id).await.unwrap().as_ref(), &expected);
}

pub(crate) async fn a_delivery_is_replaced_only_by_its_next_version(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let webhook = make.webhook(&tenant);
    let first = make.delivery(&webhook, 1);
    store.commit(vec![put_webhook(&webhook), put_delivery(&first)]).await.unwrap();
    let read = async || store.delivery(&tenant, &first.id).await.unwrap();
    superseded(&store.commit(vec![put_delivery(&first)]).await);
    // The sender and a caller who retries it have read the same version: one of them has to read it again.
    let (delivered, retried) =
        (ended(&first, DeliveryState::Delivered, make.0.now()), first.clone().pending_again(make.0.now() + 1.hours()));
    let other = make.delivery(&webhook, 2);
    store.commit(vec![put_delivery(&delivered)]).await.unwrap();
    superseded(&store.commit(vec![put_delivery(&other), put_delivery(&retried)]).await);
    assert_eq!(read().await, Some(delivered.clone()));
    assert_eq!(store.delivery(&tenant, &other.id).await.unwrap(), None, "all of a transaction, or none of it");
    let excluded = delivered.pending_again(make.0.now()).failed_for(DeliveryReason::Excluded);
    superseded(&store.commit(vec![put_delivery(&excluded)]).await);
    let excluded = Delivery { version: 3, ..excluded };
    store.commit(vec![put_delivery(&excluded)]).await.unwrap();
    assert_eq!(read().await, Some(excluded.clone()));
    store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), webhook.id.clone())]).await.unwrap();
    store.commit(vec![put_delivery(&excluded)]).await.unwrap();
}

pub(crate) async fn one_of_many_writers_replaces_a_delivery(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let webhook = make.webhook(&tenant);
    let delivery = make.delivery(&webhook, 1);
    store.commit(vec![put_webhook(&webhook), put_delivery(&delivery)]).await.unwrap();
    let writers: Vec<_> = (0..10)
        .map(|step| {
            let changed = Delivery { version: 2, step, ..delivery.clone() };
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![put_delivery(&changed)]).await.map(|()| step) })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(step) => winners.push(step),
            lost => superseded(&lost.map(drop)),
        }
    }
    let [winner] = winners[..] else { panic!("{winners:?}") };
    assert_eq!(store.delivery(&tenant, &delivery.id).await.unwrap().map(|delivery| delivery.step), Some(winner));
}

pub(crate) async fn deliveries_are_listed_by_the_connections_of_their_events(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let webhook = make.webhook(&tenant);
    let names = [Some("one"), Some("two"), None, Some("")];
    let deliveries: Vec<Delivery> = (1..)
        .zip(names)
        .map(|(number, name)| Delivery { connection: name.map(str::to_owned), ..make.delivery(&webhook, number) })
        .collect();
    store
        .commit(std::iter::once(put_webhook(&webhook)).chain(deliveries.iter().map(put_delivery)).collect())
        .await
        .unwrap();
    let page = Page { limit: 9, after: None };
    let listed = async |event: Option<EventId>, connections: Option<&[&str]>| -> Vec<Option<String>> {
        let connections = connections.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let filter = DeliveryFilter { event, state: Some(DeliveryState::Pending), connections };
        let found = store.deliveries(&tenant, &webhook.id, &filter, &page).await.unwrap();
        found.into_iter().rev().map(|delivery| delivery.connection).collect()
    };
    let expected = |names: &[Option<&str>]| names.iter().map(|name| name.map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(listed(None, None).await, expected(&names));
    assert_eq!(listed(None, Some(&["two", "three"])).await, expected(&[Some("two"), None]));
    assert_eq!(listed(None, Some(&[])).await, expected(&[None]));
    let first = || Some(deliveries[0].event.clone());
    assert_eq!(listed(first(), Some(&["one"])).await, expected(&[Some("one")]));
    assert_eq!(listed(first(), Some(&["two"])).await, expected(&[]));
}

pub(crate) async fn one_of_many_writers_replaces_a_webhook(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let webhook = make.webhook(&tenant);
    store.commit(vec![put_webhook(&webhook)]).await.unwrap();
    let writers: Vec<_> = (0..10)
        .map(|number| {
            let changed = Webhook { version: 2, owner: format!("writer {number}"), ..webhook.clone() };
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![put_webhook(&changed)]).await.map(|()| changed.owner) })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(owner) => winners.push(owner),
            lost => superseded(&lost.map(drop)),
        }
    }
    let [winner] = &winners[..] else { panic!("{winners:?}") };
    assert_eq!(store.webhook(&tenant, &webhook.id).await.unwrap().map(|webhook| webhook.owner).as_ref(), Some(winner));
}

pub(crate) async fn webhooks_are_the_tenants_own_and_listed_newest_first(store: Arc<dyn Store>, make: Maker) {
    let (tenant, other) = (make.name("tenant"), make.name("tenant"));
    let webhooks: Vec<Webhook> = (0..5).map(|_| make.webhook(&tenant)).chain([make.webhook(&other)]).collect();
    store.commit(webhooks.iter().map(put_webhook).collect()).await.unwrap();
    let mut listed = Vec::new();
    let mut page = Page { limit: 2, after: None };
    loop {
        let part = store.webhooks(&tenant, &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.after = Some(last.id.to_string());
        listed.extend(part.into_iter().map(|webhook| webhook.id));
    }
    let newest_first: Vec<WebhookId> = webhooks[..5].iter().rev().map(|webhook| webhook.id.clone()).collect();
    assert_eq!(listed, newest_first);
    let all = store.all_webhooks().await.unwrap();
    assert!(webhooks.iter().all(|webhook| all.iter().any(|found| found.id == webhook.id)));
    assert!(all.is_sorted_by_key(|webhook| webhook.id.clone()));
    let none = Page { limit: 2, after: Some("\0".to_owned()) };
    assert!(store.webhooks(&tenant, &none).await.unwrap().is_empty());
}

pub(crate) async fn deliveries_follow_their_events_until_they_end(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let (webhook, quiet) = (make.webhook(&tenant), make.webhook(&tenant));
    let early = make.delivery(&webhook, 1);
    // Of a webhook that is not there.
    store.commit(vec![put_delivery(&early)]).await.unwrap();
    assert_eq!(store.delivery(&tenant, &early.id).await.unwrap(), None);
    let deliveries: Vec<Delivery> = [5, 3, 9, 4].iter().map(|number| make.delivery(&webhook, *number)).collect();
    let mut changes = vec![put_webhook(&webhook), put_webhook(&quiet)];
    changes.extend(deliveries.iter().map(put_delivery));
    store.commit(changes).await.unwrap();

    let pending = async |after, limit| -> Vec<u64> {
        let found = store.pending_deliveries(&webhook.id, after, limit).await.unwrap();
        found.iter().map(|delivery| delivery.sequence).collect()
    };
    assert_eq!(pending(0, 9).await, [3, 4, 5, 9]);
    assert_eq!(pending(3, 2).await, [4, 5]);
    let backlog = async || store.webhook_backlog(&webhook.id).await.unwrap();
    assert_eq!(backlog().await, WebhookBacklog { pending: 4, oldest_pending: Some(3) });
    assert_eq!(store.webhook_backlog(&quiet.id).await.unwrap(), WebhookBacklog::default());
    assert_eq!(store.delivery(&tenant, &deliveries[0].id).await.unwrap().as_ref(), Some(&deliveries[0]));
    assert_eq!(store.delivery("someone else", &deliveries[0].id).await.unwrap(), None);

    let delivered = ended(&deliveries[1], DeliveryState::Delivered, make.0.now());
    let failed = ended(&deliveries[2], DeliveryState::Failed, make.0.now());
    // The changes of a delivery follow each other.
    let early = ended(&deliveries[1], DeliveryState::Failed, make.0.now());
    let delivered = Delivery { version: 3, ..delivered };
    store.commit(vec![put_delivery(&early), put_delivery(&failed), put_delivery(&delivered)]).await.unwrap();
    assert_eq!(pending(0, 9).await, [4, 5]);
    assert_eq!(backlog().await, WebhookBacklog { pending: 2, oldest_pending: Some(4) });

    let listed = async |filter: DeliveryFilter, limit, after: Option<&Delivery>| -> Vec<Delivery> {
        let page = Page { limit, after: after.map(|last| last.id.to_string()) };
        store.deliveries(&tenant, &webhook.id, &filter, &page).await.unwrap()
    };
    let all = [&deliveries[3], &failed, &delivered, &deliveries[0]].map(Clone::clone);
    assert_eq!(listed(DeliveryFilter::default(), 9, None).await, all);
    assert_eq!(listed(DeliveryFilter::default(), 2, Some(&all[1])).await, all[2..]);
    let of = |state| DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
    assert_eq!(listed(of(DeliveryState::Failed), 9, None).await, std::slice::from_ref(&failed));
    assert_eq!(listed(of(DeliveryState::Pending), 9, None).await.len(), 2);
    let event = |state| DeliveryFilter { event: Some(delivered.event.clone()), state, connections: None };
    assert_eq!(listed(event(None), 9, None).await, std::slice::from_ref(&delivered));
    assert!(listed(event(Some(DeliveryState::Failed)), 9, None).await.is_empty());
    let page = Page { limit: 9, after: None };
    assert!(store.deliveries("someone else", &webhook.id, &DeliveryFilter::default(), &page).await.unwrap().is_empty());

    // A retry.
    let again = failed.pending_again(make.0.now());
    store.commit(vec![put_delivery(&again)]).await.unwrap();
    assert_eq!(pending(0, 9).await, [4, 5, 9]);
    assert_eq!(store.delivery(&tenant, &again.id).await.unwrap(), Some(again));
}

pub(crate) async fn the_first_pending_delivery_of_an_assignment_may_be_sent(store: Arc<dyn Store>, make: Maker) {
    let (webhook, other) = (make.webhook(&make.name("tenant")), make.webhook(&make.name("tenant")));
    let now = make.0.now();
    let assignments = [(); 3].map(|()| AssignmentId::generate(&make.0));
    let of = |webhook: &Webhook, sequence, assignment: Option<usize>, due: Timestamp| Delivery {
        assignment: assignment.map(|number| assignments[number].clone()),
        due: Some(due),
        ..make.delivery(webhook, sequence)
    };
    let deliveries = [
        of(&webhook, 1, Some(0), now + 1.hours()),
        of(&webhook, 2, Some(1), now),
        of(&webhook, 3, Some(0), now),
        of(&webhook, 4, None, now),
        of(&webhook, 5, Some(1), now),
        of(&webhook, 6, None, now),
        of(&other, 1, Some(1), now),
    ];
    let mut changes = vec![put_webhook(&webhook), put_webhook(&other)];
    changes.extend(deliveries.iter().map(put_delivery));
    store.commit(changes).await.unwrap();
    let numbers = |found: &[Delivery]| found.iter().map(|delivery| delivery.sequence).collect::<Vec<_>>();
    let sendable = async |order, after, due, limit| {
        let found = store.sendable_deliveries(&webhook.id, order, after, due, limit).await.unwrap();
        (numbers(&found.deliveries), found.looked_to)
    };
    let (ordered, late) = (DeliveryOrder::Resource, now + 2.hours());
    assert_eq!(sendable(ordered, 0, now, 9).await, (vec![2, 4, 6], None));
    assert_eq!(sendable(ordered, 0, late, 9).await, (vec![1, 2, 4, 6], None));
    assert_eq!(sendable(ordered, 0, late, 2).await, (vec![1, 2], Some(2)));
    assert_eq!(sendable(ordered, 2, now, 9).await, (vec![4, 6], None), "what waits behind 1 and 2 is passed over");
    assert_eq!(sendable(DeliveryOrder::Unordered, 0, now, 9).await, (vec![2, 3, 4, 5, 6], None));

    let first = async || numbers(&store.first_pending_deliveries(&webhook.id, &assignments).await.unwrap());
    assert_eq!(first().await, [1, 2]);
    assert!(store.first_pending_deliveries(&webhook.id, &[]).await.unwrap().is_empty());
    let end = ended(&deliveries[0], DeliveryState::Failed, now);
    store.commit(vec![put_delivery(&end)]).await.unwrap();
    assert_eq!(first().await, [2, 3]);
    assert_eq!(sendable(ordered, 0, now, 9).await, (vec![2, 3, 4, 6], None));

    let backlogs = store.webhook_backlogs().await.unwrap();
    assert!(backlogs.contains(&(webhook.id.to_string(), 5)) && backlogs.contains(&(other.id.to_string(), 1)));
    let versions = store.webhook_versions().await.unwrap();
    let version = |of: &Webhook| versions.iter().find(|(id, ..)| *id == of.id).cloned();
    assert_eq!(version(&other), Some((other.id.clone(), other.tenant.clone(), 1)));
    store.commit(vec![Mutation::RemoveWebhook(webhook.tenant.clone(), webhook.id.clone())]).await.unwrap();
    assert!(sendable(ordered, 0, late, 9).await.0.is_empty());
    assert!(first().await.is_empty());
    assert!(store.webhook_versions().await.unwrap().iter().all(|(id, ..)| *id != webhook.id));
}

pub(crate) async fn deliveries_are_gone_with_their_webhook_and_by_retention(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let (kept, removed) = (make.webhook(&tenant), make.webhook(&tenant));
    let start = make.0.now();
    let old = ended_at_once(&make.delivery(&kept, 1), DeliveryState::Delivered, start - 2.hours());
    let late = ended_at_once(&make.delivery(&kept, 2), DeliveryState::Failed, start);
    let waiting = Delivery { created: start - 9.hours(), ..make.delivery(&kept, 3) };
    let lost = make.delivery(&removed, 1);
    let mut changes = vec![put_webhook(&kept), put_webhook(&removed)];
    changes.extend([&old, &late, &waiting, &lost].map(put_delivery));
    store.commit(changes).await.unwrap();
    store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), removed.id.clone())]).await.unwrap();
    let is_there = async |delivery: &Delivery| store.delivery(&tenant, &delivery.id).await.unwrap().is_some();
    assert!(!is_there(&lost).await && is_there(&old).await);
    assert!(store.pending_deliveries(&removed.id, 0, 9).await.unwrap().is_empty());
    store.commit(vec![put_delivery(&make.delivery(&removed, 2))]).await.unwrap();

    assert_eq!(store.purge_events(start - 1.hours()).await.unwrap(), 2, "one expired, one without a webhook");
    assert!(!is_there(&old).await && is_there(&late).await && is_there(&waiting).await);
    // An attempt that ends now, or a caller who retries it, does not bring it back.
    for state in [DeliveryState::Delivered, DeliveryState::Pending] {
        let again = Delivery { state, version: 2, ..old.clone() };
        superseded(&store.commit(vec![put_delivery(&again)]).await);
        let changes = vec![put_delivery(&make.delivery(&kept, 5)), put_delivery(&again)];
        superseded(&store.commit(changes).await);
    }
    let page = Page { limit: 9, after: None };
    let listed = store.deliveries(&tenant, &kept.id, &DeliveryFilter::default(), &page).await.unwrap();
    assert_eq!(listed, [waiting.clone(), late.clone()]);
    // A configured webhook that comes back has nothing of the one before.
    let lost = make.delivery(&kept, 4);
    store.commit(vec![put_delivery(&lost)]).await.unwrap();
    store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), kept.id.clone())]).await.unwrap();
    superseded(&store.commit(vec![put_webhook(&kept)]).await);
    assert_eq!(store.purge_removed_webhook(&kept.id).await.unwrap(), 3);
    assert_eq!(store.purge_removed_webhook(&kept.id).await.unwrap(), 0);
    store.commit(vec![put_webhook(&kept)]).await.unwrap();
    assert!(!is_there(&lost).await);
    store.commit(vec![put_delivery(&lost)]).await.unwrap();
    store.purge_events(start - 9.hours()).await.unwrap();
    assert!(is_there(&lost).await);
}

pub(crate) async fn a_delivery_that_was_given_up_is_kept_from_its_end_on(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let (webhook, start) = (make.webhook(&tenant), make.0.now());
    let created = start - 9.hours();
    let never_sent = Delivery { created, ..make.delivery(&webhook, 1) };
    let attempts = ended(&never_sent, DeliveryState::Failed, created).attempts;
    let attempted = Delivery { attempts, created, ..make.delivery(&webhook, 2) };
    store.commit(vec![put_webhook(&webhook), put_delivery(&never_sent), put_delivery(&attempted)]).await.unwrap();
    let expired = never_sent.failed_for(DeliveryReason::Expired);
    let excluded = attempted.failed_for(DeliveryReason::Excluded);
    store.commit(vec![put_delivery(&expired), put_delivery(&excluded)]).await.unwrap();
    assert_eq!(store.purge_events(start).await.unwrap(), 0);
    for delivery in [&expired, &excluded] {
        assert_eq!(store.delivery(&tenant, &delivery.id).await.unwrap().as_ref(), Some(delivery));
    }
    assert_eq!(store.purge_events(make.0.now() + 1.hours()).await.unwrap(), 2);
}

pub(crate) async fn a_removed_webhook_leaves_deliveries_that_are_removed_in_portions(
    store: Arc<dyn Store>,
    make: Maker,
) {
    const COUNT: u64 = 2_500;
    let tenant = make.name("tenant");
    let webhook = make.webhook(&tenant);
    let deliveries = (1..=COUNT).map(|number| put_delivery(&make.delivery(&webhook, number)));
    store.commit(std::iter::once(put_webhook(&webhook)).chain(deliveries).collect()).await.unwrap();
    store.commit(vec![Mutation::RemoveWebhook(tenant.clone(), webhook.id.clone())]).await.unwrap();
    // It comes back only when nothing is left, so that no transaction has to remove everything.
    superseded(&store.commit(vec![put_webhook(&webhook)]).await);
    assert_eq!(store.purge_removed_webhook(&webhook.id).await.unwrap(), COUNT);
    store.commit(vec![put_webhook(&webhook)]).await.unwrap();
    assert_eq!(store.webhook_backlog(&webhook.id).await.unwrap(), WebhookBacklog::default());
}
