//! What a webhook may get changes while deliveries wait: they are judged again whenever they are to be sent or shown.

use super::receiver::respond;
use super::*;
use crate::domain::exchange::{Cause, ExchangeView};
use crate::domain::webhook::DeliveryReason;
use crate::service::ExchangeFilter;
use crate::service::webhooks::types::{ReplayOrder, ReplayScope, ReplayStart};

/// The connection that a client loses, and one that it keeps.
const LOST: &str = "lost";
const KEPT: &str = "kept";

impl World {
    /// Commits an event of the first assignment at a connection.
    async fn emit_at(&self, connection: &str, event_type: EventType) -> EventId {
        let assignment = Some(AssignmentId::parse(&format!("asg_{:032x}", 1)).unwrap());
        let subject = EventSubject { connection: Some(connection.to_owned()), assignment, assessment_ref: None };
        let mut event = self.event_about(event_type, subject, Duration::ZERO);
        event.data.insert("connection".to_owned(), connection.into());
        let id = event.id.clone();
        self.store.commit(vec![Mutation::Event(Box::new(event))]).await.unwrap();
        id
    }

    /// Takes all connections but one from the owner of the webhooks.
    fn take_connections(&self, webhook: &WebhookId) {
        *self.owners.connections.lock().unwrap() = ConnectionAccess::Named([KEPT.to_owned()].into());
        // As a reload does.
        self.gateway.0.webhooks.notify(webhook);
    }
}

/// Returns the caller with the connection that is left.
fn restricted() -> RequestContext {
    RequestContext { connections: ConnectionAccess::Named([KEPT.to_owned()].into()), ..caller("lms") }
}

#[tokio::test]
async fn pending_deliveries_that_a_webhook_no_longer_gets_end_unsent_and_hold_back_no_other() {
    for narrows_filter in [false, true] {
        let world = World::new().await;
        let one = WebhookSettings { max_in_flight: 1, ..settings("https://a.example.com/hook") };
        let webhook = world.create(one).await.view.webhook.id;
        world.receiver.forget();
        world.receiver.open(false);
        for _ in 0..3 {
            world.emit_at(LOST, EventType::ResultPublished).await;
        }
        let kept = world.emit_at(KEPT, EventType::AssignmentExpired).await;
        wait_until(async || world.receiver.in_flight() == 1 && world.deliveries(&webhook).await.len() == 4).await;
        if narrows_filter {
            let narrow = |now| Ok(WebhookSettings { types: vec!["assignment.*".to_owned()], ..now });
            world.gateway.update_webhook_now(&caller("lms"), &webhook, Box::new(narrow)).await.unwrap();
        } else {
            world.take_connections(&webhook);
        }
        world.receiver.open(true);
        world.wait_for_arrival("a", &[kept.to_string()]).await;
        // The first was under way when it was still to be sent.
        assert_eq!(sequences(&world.receiver.all()), [1, 4], "narrows the filter: {narrows_filter}");
        wait_until(async || world.deliveries(&webhook).await.iter().all(|it| it.state != DeliveryState::Pending)).await;
        let ends: Vec<_> = world.deliveries(&webhook).await.iter().map(|it| (it.reason, it.attempts.len())).collect();
        let excluded = (Some(DeliveryReason::Excluded), 0);
        assert_eq!(ends, [(None, 1), excluded, excluded, (None, 1)]);
    }
}

#[tokio::test]
async fn neither_a_retry_nor_a_replay_sends_what_a_webhook_no_longer_gets() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| respond(400));
    for connection in [LOST, KEPT] {
        world.emit_at(connection, EventType::ResultPublished).await;
    }
    let failed = async || {
        let all = world.deliveries(&webhook).await;
        all.len() == 2 && all.iter().all(|it| it.state == DeliveryState::Failed)
    };
    wait_until(failed).await;
    world.take_connections(&webhook);
    world.receiver.script(|_| respond(200));
    world.receiver.forget();
    let lost = world.deliveries(&webhook).await.remove(0);
    let refused = world.gateway.retry_delivery_now(&caller("another"), &lost.id).await.unwrap_err();
    assert_eq!(refused.code, Code::DeliveryExcluded);
    for only in [ReplayScope::Failed, ReplayScope::All] {
        let order = ReplayOrder { start: ReplayStart::After(0), until: None, types: Vec::new(), only };
        let accepted = world.gateway.replay_webhook(&caller("lms"), &webhook, order).await.unwrap();
        world.gateway.wait_for_operation(&caller("lms"), accepted.id(), PATIENCE).await.unwrap();
        let is_sent = async || world.deliveries(&webhook).await.iter().all(|it| it.state != DeliveryState::Pending);
        wait_until(is_sent).await;
    }
    assert!(!sequences(&world.receiver.all()).contains(&1), "{:?}", sequences(&world.receiver.all()));
    assert_eq!(sequences(&world.receiver.accepted("a")).iter().filter(|number| **number == 2).count(), 2);
    let now = world.deliveries(&webhook).await.remove(0);
    assert_eq!((now.state, now.version), (DeliveryState::Failed, lost.version), "it stays as it was");
}

#[tokio::test]
async fn a_caller_sees_only_deliveries_of_events_that_it_may_see() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    for connection in [LOST, KEPT] {
        world.emit_at(connection, EventType::ResultPublished).await;
    }
    world.emit_about(EventType::OperationCompleted, EventSubject::default(), Duration::ZERO).await;
    world.wait_for_delivered(&webhook, 3).await;
    let lost = world.deliveries(&webhook).await.remove(0);
    let page = Page { limit: 10, after: None };
    for (caller, seen) in [(caller("lms"), vec![3, 2, 1]), (restricted(), vec![3, 2])] {
        let filter = DeliveryFilter::default();
        let listed = world.gateway.deliveries(&caller, &webhook, &filter, &page).await.unwrap().items;
        assert_eq!(listed.iter().map(|it| it.sequence).collect::<Vec<_>>(), seen);
        let read = world.gateway.delivery(&caller, &lost.id).await.map_err(|error| error.code);
        assert_eq!(read.err(), (!seen.contains(&1)).then_some(Code::NotFound));
    }
    let retried = world.gateway.retry_delivery_now(&restricted(), &lost.id).await.unwrap_err();
    assert_eq!(retried.code, Code::NotFound);
}

#[tokio::test]
async fn a_caller_sees_the_exchanges_of_deliveries_that_it_may_see() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| respond(400));
    for connection in [LOST, KEPT] {
        world.emit_at(connection, EventType::ResultPublished).await;
    }
    world.emit_about(EventType::OperationCompleted, EventSubject::default(), Duration::ZERO).await;
    let failed = async || {
        let all = world.deliveries(&webhook).await;
        all.len() == 3 && all.iter().all(|it| it.state == DeliveryState::Failed)
    };
    wait_until(failed).await;
    let exchanges = |caller: &RequestContext| {
        let (views, more) = world.gateway.exchanges(caller, &ExchangeFilter::default(), 1_000);
        assert!(!more);
        let about = |view: &ExchangeView| match view.owner.clone().map(|owner| owner.cause) {
            Some(Cause::Delivery { resource, connection, .. }) if resource == webhook.path() => connection,
            cause => panic!("{cause:?}"),
        };
        views.iter().map(|view| (about(view), view.id.clone())).collect::<BTreeMap<_, _>>()
    };
    let all = exchanges(&caller("lms"));
    for (caller, seen) in [
        (caller("another"), vec![None, Some(KEPT), Some(LOST)]),
        (restricted(), vec![None, Some(KEPT)]),
        (RequestContext { client: "another".to_owned(), ..restricted() }, vec![]),
    ] {
        assert_eq!(exchanges(&caller).keys().map(Option::as_deref).collect::<Vec<_>>(), seen);
        let read = all.iter().filter(|(_, id)| world.gateway.exchange(&caller, id).is_ok());
        assert_eq!(read.map(|(about, _)| about.as_deref()).collect::<Vec<_>>(), seen);
    }
}

#[tokio::test]
async fn a_request_of_fewer_scopes_gets_no_full_payloads() {
    let world = World::new().await;
    let narrow = |scopes: &[Scope]| RequestContext { scopes: scopes.iter().copied().collect(), ..caller("lms") };
    let order = |types: &[&str]| {
        let types = types.iter().map(|it| (*it).to_owned()).collect();
        WebhookSettings { payload: WebhookPayload::Full, types, ..settings("https://a.example.com/hook") }
    };
    let create = async |scopes: &[Scope], settings: WebhookSettings| {
        let new = NewWebhook { settings, secret: None };
        world.gateway.create_webhook_now(&narrow(scopes), new).await.map_err(|error| (error.code, error.detail))
    };
    let (results, operations) = (Scope::ResultsRead, Scope::OperationsRead);
    for (scopes, types) in [(&[][..], &["result.*"][..]), (&[results], &[]), (&[results], &["result.*", "operation.*"])]
    {
        let (code, detail) = create(scopes, order(types)).await.unwrap_err();
        assert_eq!(code, Code::InsufficientScope);
        assert_eq!(detail.contains("`operations:read`"), types.len() != 1, "{detail}");
        assert_eq!(detail.contains("`results:read`"), scopes.is_empty(), "{detail}");
    }
    assert!(world.receiver.all().is_empty());
    let full = create(&[results, operations], order(&["result.*", "operation.*"])).await.unwrap().view.webhook;
    // The webhook would be the caller's, with all that the caller's client may read.
    for (scopes, change) in [(&[results][..], "description"), (&[operations], "types")] {
        let patch = move |now: WebhookSettings| {
            let types = if change == "types" { vec!["result.*".to_owned()] } else { now.types };
            Ok(WebhookSettings { description: Some("mine".to_owned()), types, ..now })
        };
        let refused = world.gateway.update_webhook_now(&narrow(scopes), &full.id, Box::new(patch)).await.unwrap_err();
        assert_eq!(refused.code, Code::InsufficientScope, "{change}");
    }
    let patch = |now| Ok(WebhookSettings { types: vec!["result.*".to_owned()], ..now });
    world.gateway.update_webhook_now(&narrow(&[results]), &full.id, Box::new(patch)).await.unwrap();
    let patch = |now| Ok(WebhookSettings { payload: WebhookPayload::Thin, types: Vec::new(), ..now });
    world.gateway.update_webhook_now(&narrow(&[]), &full.id, Box::new(patch)).await.unwrap();
}
