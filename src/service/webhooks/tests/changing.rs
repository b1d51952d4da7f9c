//! What clients and the operator change.

use super::receiver::respond;
use super::*;
use crate::domain::error::Code;
use crate::domain::webhook::WebhookSource;
use crate::secret::Secret;
use crate::service::webhooks::settings::ConfiguredWebhook;
use crate::service::webhooks::types::{ReplayOrder, ReplayScope, ReplayStart};

#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_and_nothing_is_sent() {
    let world = World::new().await;
    for (url, code) in [
        ("https://evil.example.org/", Code::WebhookNotAllowed),
        ("http://a.example.com/", Code::WebhookNotAllowed),
        ("https://127.0.0.1/", Code::WebhookNotAllowed),
        ("https://user@a.example.com/", Code::ValidationFailed),
        ("a.example.com", Code::ValidationFailed),
    ] {
        let new = NewWebhook { settings: settings(url), secret: None };
        let error = world.gateway.create_webhook_now(&caller("lms"), new).await.unwrap_err();
        assert_eq!((error.code, error.errors[0].pointer.as_str()), (code, "/url"), "{url}");
    }
    let weak = NewWebhook { settings: settings("https://a.example.com/"), secret: Some(Secret::new("whsec_c2hvcnQ=")) };
    let error = world.gateway.create_webhook_now(&caller("lms"), weak).await.unwrap_err();
    assert_eq!(error.errors[0].pointer, "/secret");
    let odd = WebhookSettings { types: vec!["result.*".into(), "ping".into()], ..settings("https://a.example.com/") };
    let error = world.gateway.create_webhook_now(&caller("lms"), NewWebhook { settings: odd, secret: None }).await;
    assert_eq!(error.unwrap_err().errors[0].pointer, "/types/1");
    assert!(world.receiver.all().is_empty());
}

#[tokio::test]
async fn a_caller_sees_only_webhooks_that_get_nothing_it_may_not_see() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    let restricted = |client: &str| RequestContext {
        connections: ConnectionAccess::Named(["exam".to_owned()].into()),
        ..caller(client)
    };
    let stranger = RequestContext { tenant: "other".to_owned(), ..caller("lms") };
    for (caller, code) in [
        (caller("another"), None),
        (restricted("lms"), None),
        (restricted("another"), Some(Code::NotFound)),
        (stranger, Some(Code::NotFound)),
    ] {
        let seen = world.gateway.webhook(&caller, &webhook).await;
        assert_eq!(seen.err().map(|error| error.code), code, "{}", caller.client);
        let page = Page { limit: 10, after: None };
        let listed = world.gateway.webhooks(&caller, &page).await.unwrap().items.len();
        assert_eq!(listed, usize::from(code.is_none()));
        assert_eq!(world.gateway.pause_webhook_now(&caller, &webhook).await.err().map(|error| error.code), code);
    }
}

#[tokio::test]
async fn a_failed_delivery_is_sent_again_by_a_retry_or_a_replay_under_the_same_id() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|one| respond(if one.sequence == Some(2) { 400 } else { 200 }));
    for _ in 0..3 {
        world.emit(None).await;
    }
    wait_until(async || world.deliveries(&webhook).await.get(1).is_some_and(|it| it.state == DeliveryState::Failed))
        .await;
    world.wait_for_delivered(&webhook, 2).await;
    let all = world.deliveries(&webhook).await;
    let refused = world.gateway.retry_delivery_now(&caller("lms"), &all[0].id).await.unwrap_err();
    assert_eq!(refused.code, Code::DeliveryDelivered);
    world.receiver.script(|_| respond(200));
    world.receiver.forget();
    let retried = world.gateway.retry_delivery_now(&caller("lms"), &all[1].id).await.unwrap();
    assert_eq!(retried.step, 0, "the schedule begins again");
    world.wait_for_delivered(&webhook, 3).await;
    let again = world.receiver.all();
    assert_eq!((sequences(&again), again[0].headers.id.as_str()), (vec![2], all[1].event.as_str()));
}

#[tokio::test]
async fn a_replay_delivers_all_events_of_a_range_again_or_those_that_failed() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|one| respond(if one.sequence.is_some_and(|number| number % 2 == 0) { 400 } else { 200 }));
    for _ in 0..8 {
        world.emit(None).await;
    }
    world.wait_for_delivered(&webhook, 4).await;
    let ended = async || world.deliveries(&webhook).await.iter().all(|it| it.state != DeliveryState::Pending);
    wait_until(ended).await;
    world.receiver.script(|_| respond(200));
    world.receiver.forget();
    let replay = async |start, only| {
        let order = ReplayOrder { start, until: None, types: Vec::new(), only };
        let accepted = world.gateway.replay_webhook(&caller("lms"), &webhook, order).await.unwrap();
        let status = world.gateway.wait_for_operation(&caller("lms"), accepted.id(), PATIENCE).await.unwrap();
        assert!(status.operation.state.is_terminal(), "{status:?}");
    };
    let arrived = || {
        // Also the events about the ends of the replays arrive, by themselves.
        let mut numbers = sequences(&world.receiver.all());
        numbers.retain(|number| *number <= 8);
        numbers.sort_unstable();
        numbers
    };
    replay(ReplayStart::After(3), ReplayScope::Failed).await;
    wait_until(async || arrived().len() >= 3).await;
    wait_until(ended).await;
    assert_eq!(arrived(), [4, 6, 8]);
    world.receiver.forget();
    replay(ReplayStart::Since(Timestamp::UNIX_EPOCH), ReplayScope::All).await;
    wait_until(async || arrived().len() >= 8).await;
    wait_until(ended).await;
    assert_eq!(arrived(), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_position_of_a_webhook_counts_events_that_pass_its_filters_only() {
    let world = World::new().await;
    let types = vec!["result.*".to_owned()];
    let created = world.create(WebhookSettings { types, ..settings("https://a.example.com/hook") }).await;
    let id = created.view.webhook.id;
    world.emit(None).await;
    world.emit_all((0..200).map(|_| (EventType::ConnectionChanged, subject_of(None), Duration::ZERO))).await;
    wait_until(async || world.stored(&id).await.scanned > 100).await;
    world.wait_for_delivered(&id, 1).await;
    let position = world.gateway.webhook(&caller("lms"), &id).await.unwrap().position;
    assert_eq!((position.delivered, position.latest, position.oldest_pending), (1, 1, None));
}

#[tokio::test]
async fn a_replay_until_a_time_leaves_out_the_events_of_that_time() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    for hours in [3, 2, 1] {
        world.emit_old(None, Duration::from_hours(hours)).await;
    }
    world.wait_for_delivered(&webhook, 3).await;
    let time = world.store.event(TENANT, 2).await.unwrap().unwrap().event.timestamp;
    let attempts = async || {
        let all = world.deliveries(&webhook).await.into_iter().filter(|it| it.sequence <= 3);
        all.map(|it| (it.state, it.attempts.len())).collect::<Vec<_>>()
    };
    let replay = async |until| {
        let (start, only) = (ReplayStart::After(0), ReplayScope::All);
        let order = ReplayOrder { start, until: Some(until), types: Vec::new(), only };
        let accepted = world.gateway.replay_webhook(&caller("lms"), &webhook, order).await.unwrap();
        let status = world.gateway.wait_for_operation(&caller("lms"), accepted.id(), PATIENCE).await.unwrap();
        assert!(status.operation.state.is_terminal(), "{status:?}");
        wait_until(async || attempts().await.iter().all(|(state, _)| *state == DeliveryState::Delivered)).await;
        attempts().await.into_iter().map(|(_, count)| count).collect::<Vec<_>>()
    };
    assert_eq!(replay(time).await, [2, 1, 1]);
    assert_eq!(replay(time + SignedDuration::from_micros(1)).await, [3, 2, 1]);
}

#[tokio::test]
async fn the_operators_webhooks_are_taken_over_and_cannot_be_changed_by_clients() {
    let configured = |url: &str| DeliverySettings {
        webhooks: vec![ConfiguredWebhook {
            name: "hook".to_owned(),
            tenant: TENANT.to_owned(),
            settings: settings(url),
            secrets: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        }],
        ..delivery_settings()
    };
    let mut world = World::with(configured("https://lms.example.org/")).await;
    let all = async |world: &World| world.store.all_webhooks().await.unwrap();
    wait_until(async || all(&world).await.len() == 1).await;
    let webhook = all(&world).await.remove(0);
    assert_eq!((webhook.source, webhook.owner.as_str()), (WebhookSource::Configuration, "hook"));
    world.emit(None).await;
    world.wait_for_delivered(&webhook.id, 1).await;
    let (gateway, caller) = (world.gateway.clone(), caller("lms"));
    let refused = [
        gateway.update_webhook_now(&caller, &webhook.id, Box::new(Ok)).await.err(),
        gateway.pause_webhook_now(&caller, &webhook.id).await.err(),
        gateway.remove_webhook_now(&caller, &webhook.id).await.err(),
    ];
    assert!(refused.iter().all(|error| error.as_ref().is_some_and(|it| it.code == Code::WebhookConfigured)));
    drop(gateway);
    world.restart(configured("https://new.example.org/")).await;
    wait_until(async || all(&world).await[0].settings.url == "https://new.example.org/").await;
    world.emit(None).await;
    world.wait_for_delivered(&webhook.id, 2).await;
    assert_eq!(all(&world).await.len(), 1);
    world.restart(delivery_settings()).await;
    wait_until(async || all(&world).await.is_empty()).await;
}

#[tokio::test]
async fn a_host_that_the_operator_takes_back_gets_nothing_more() {
    let mut world = World::new().await;
    let webhook = world.webhook("a").await;
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 1).await;
    world.restart(DeliverySettings { policy: TargetPolicy::default(), ..delivery_settings() }).await;
    world.receiver.forget();
    world.emit(None).await;
    let refused = async || {
        let attempts = world.deliveries(&webhook).await.pop().map(|it| it.attempts).unwrap_or_default();
        attempts.iter().any(|it| it.error.as_ref().is_some_and(|error| error.contains("delivery.allow_hosts")))
    };
    wait_until(refused).await;
    assert!(world.receiver.all().is_empty(), "{:?}", world.receiver.all());
}

#[tokio::test]
async fn a_removed_webhook_gets_nothing_more() {
    let world = World::new().await;
    let (removed, other) = (world.webhook("removed").await, world.webhook("other").await);
    world.gateway.remove_webhook_now(&caller("lms"), &removed).await.unwrap();
    world.emit(None).await;
    world.wait_for_delivered(&other, 1).await;
    assert!(world.receiver.accepted("removed").is_empty());
    let gone = world.gateway.webhook(&caller("lms"), &removed).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
}
