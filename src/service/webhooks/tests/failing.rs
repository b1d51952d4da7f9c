//! Receivers that are away, gone or slow to believe, and events that expire meanwhile.

use std::collections::BTreeSet;

use super::receiver::{respond, unreachable};
use super::*;
use crate::domain::ids::DeliveryId;
use crate::domain::webhook::{DeliveryAttempt, DisableReason};
use crate::store::WebhookScan;
use crate::transport::delivery::DeliveryError;

#[tokio::test]
async fn a_host_that_is_away_is_probed_by_one_attempt_at_a_time_and_others_are_unaffected() {
    let world = World::new().await;
    let away = world.webhook("away").await;
    world.webhook("other").await;
    let mut failures = 12;
    world.receiver.script(move |one| {
        if one.is_at("away") && failures > 0 {
            failures -= 1;
            return unreachable();
        }
        respond(200)
    });
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(world.emit(Some(number)).await.to_string());
    }
    for host in ["other", "away"] {
        world.wait_for_arrival(host, &ids).await;
    }
    let received = world.receiver.all();
    let failed: Vec<&Received> = received.iter().filter(|one| one.is_at("away") && !one.accepted).collect();
    assert_eq!(failed.len(), 12);
    // The first round may have as many as are allowed in flight; every further attempt is a probe of its own.
    assert!(failed.iter().skip(4).all(|one| one.in_flight == 1), "{failed:#?}");
    let mut delivered: Vec<String> = world.receiver.accepted("away").into_iter().map(|one| one.headers.id).collect();
    delivered.sort_unstable();
    ids.sort_unstable();
    assert_eq!(delivered, ids, "each event once, none lost");
    // No event is refused, so that none of them has used up a step.
    world.wait_for_delivered(&away, 100).await;
    assert!(world.deliveries(&away).await.iter().all(|delivery| delivery.step == 0));
    let attempts = world.deliveries(&away).await.iter().map(|delivery| delivery.attempts.len()).sum::<usize>();
    assert_eq!(attempts, 112);
    let reported = world.reported(EventType::WebhookFailing).await;
    assert_eq!(reported.iter().map(|data| data["resource"].clone()).collect::<Vec<_>>(), [json!(away.path())]);
    let news = |host: &str| {
        let mut found = world.receiver.accepted(host);
        found.retain(|one| one.json["type"] == "webhook.failing");
        found.len()
    };
    wait_until(async || news("other") == 1).await;
    assert_eq!(news("away"), 0, "a webhook is not sent the news of itself");
    world.wait_for_state(&away, WebhookState::Enabled).await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_webhook_which_keeps_its_place() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| respond(410));
    for _ in 0..5 {
        world.emit(None).await;
    }
    world.wait_for_state(&webhook, WebhookState::Disabled).await;
    assert_eq!(world.stored(&webhook).await.reason, Some(DisableReason::Gone));
    let reported = world.reported(EventType::WebhookDisabled).await;
    assert_eq!((reported.len(), &reported[0]["reason"]), (1, &json!("gone")));
    world.emit(None).await;
    world.receiver.script(|_| respond(200));
    world.gateway.resume_webhook_now(&caller("lms"), &webhook).await.unwrap();
    // The event about itself is none of them.
    wait_until(async || sequences(&world.receiver.accepted("a")).len() == 6).await;
    world.wait_for_delivered(&webhook, 6).await;
    assert_eq!(world.stored(&webhook).await.state, WebhookState::Enabled);
}

#[tokio::test]
async fn a_webhook_without_success_for_too_long_is_disabled() {
    let settings = DeliverySettings { disable_after: Duration::from_millis(50), ..delivery_settings() };
    let world = World::with(settings).await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|_| respond(503));
    world.emit(None).await;
    world.wait_for_state(&webhook, WebhookState::Disabled).await;
    assert_eq!(world.stored(&webhook).await.reason, Some(DisableReason::Failing));
    let delivery = &world.deliveries(&webhook).await[0];
    assert_eq!(delivery.state, DeliveryState::Pending);
}

#[tokio::test]
async fn an_event_that_is_refused_to_the_end_has_failed_and_the_webhook_goes_on() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|one| respond(if one.sequence == Some(1) { 400 } else { 200 }));
    world.emit(Some(1)).await;
    world.emit(Some(1)).await;
    world.wait_for_delivered(&webhook, 1).await;
    let all = world.deliveries(&webhook).await;
    assert_eq!((all[0].state, all[0].attempts.len()), (DeliveryState::Failed, 5), "the steps of the schedule");
    assert_eq!((all[1].state, all[1].attempts.len()), (DeliveryState::Delivered, 1));
}

#[tokio::test]
async fn a_webhook_that_was_paused_for_too_long_gets_what_is_kept_and_one_gap_is_reported() {
    let world = World::new().await;
    let (paused, other) = (world.webhook("paused").await, world.webhook("other").await);
    world.gateway.pause_webhook_now(&caller("lms"), &paused).await.unwrap();
    world.wait_for_state(&paused, WebhookState::Paused).await;
    world.finish_first_purge().await;
    // Ten days of events, of which seven are kept; at once, so that no other event comes between them.
    let subject = subject_of(Some(1));
    let ages = (0..10).rev().map(|day| day * DAY + Duration::from_hours(1));
    world.emit_all(ages.map(|age| (EventType::ResultPublished, subject.clone(), age))).await;
    world.wait_for_delivered(&other, 7).await;
    world.gateway.resume_webhook_now(&caller("lms"), &paused).await.unwrap();
    let arrived = || {
        // If the sender of the other one has begun late, that one has a gap, too, which is reported to this one.
        let mut numbers = sequences(&world.receiver.accepted("paused"));
        numbers.retain(|number| *number <= 10);
        numbers
    };
    wait_until(async || arrived().contains(&10)).await;
    assert_eq!(arrived(), [4, 5, 6, 7, 8, 9, 10]);
    let gaps = world.reported(EventType::WebhookGap).await;
    let of_paused: Vec<_> = gaps.iter().filter(|gap| gap["resource"] == json!(paused.path())).collect();
    assert_eq!(of_paused.len(), 1, "{gaps:?}");
    assert_eq!((&of_paused[0]["from"], &of_paused[0]["to"], &of_paused[0]["count"]), (&json!(1), &json!(3), &json!(3)));
}

#[tokio::test]
async fn retry_after_holds_back_the_webhook() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    let mut is_first = true;
    world.receiver.script(move |_| {
        if std::mem::take(&mut is_first) {
            let retry_after = Some("3600".to_owned());
            return Ok(crate::transport::delivery::DeliveryResponse { status: 429, retry_after });
        }
        respond(200)
    });
    world.emit(None).await;
    wait_until(async || world.stored(&webhook).await.resume_at.is_some()).await;
    let resume_at = world.stored(&webhook).await.resume_at.unwrap();
    assert!(resume_at.duration_since(now()) > SignedDuration::from_mins(50), "{resume_at}");
    // A client may have it tried at once.
    world.gateway.resume_webhook_now(&caller("lms"), &webhook).await.unwrap();
    world.wait_for_delivered(&webhook, 1).await;
}

#[tokio::test]
async fn any_number_of_assignments_that_are_held_up_keeps_no_other_event_waiting() {
    let pauses = [Duration::ZERO, Duration::from_hours(1)];
    let schedule = RetrySchedule::new(&pauses).unwrap();
    let world = World::with(DeliverySettings { schedule, ..delivery_settings() }).await;
    let webhook = world.webhook("a").await;
    world.receiver.open(false);
    let mut refused = BTreeSet::new();
    for assignment in 0..600 {
        refused.insert(world.emit(Some(assignment)).await.to_string());
    }
    world.receiver.script(move |one| respond(if refused.contains(&one.headers.id) { 400 } else { 200 }));
    world.receiver.open(true);
    for assignment in 0..600 {
        world.emit(Some(assignment)).await;
    }
    let free = [world.emit(Some(1_000)).await.to_string(), world.emit(Some(1_000)).await.to_string()];
    world.wait_for_arrival("a", &free).await;
    world.wait_for_delivered(&webhook, 2).await;
    let position = world.gateway.webhook(&caller("lms"), &webhook).await.unwrap().position;
    assert_eq!(position.oldest_pending, Some(1));
    let pending = world.deliveries(&webhook).await.iter().filter(|it| it.state == DeliveryState::Pending).count();
    assert_eq!(pending, 1_200, "those that are held up, too");
    // The first of one arrives: so does what has waited for it.
    world.receiver.script(|_| respond(200));
    world.receiver.forget();
    let all = world.deliveries(&webhook).await;
    assert_eq!(all[300].assignment, all[900].assignment);
    world.gateway.retry_delivery_now(&caller("lms"), &all[300].id).await.unwrap();
    wait_until(async || sequences(&world.receiver.accepted("a")).len() >= 2).await;
    assert_eq!(sequences(&world.receiver.accepted("a")), [300, 900].map(|number: usize| all[number].sequence));
}

#[tokio::test]
async fn more_deliveries_that_wait_than_fit_in_memory_keep_no_other_one_waiting() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.gateway.pause_webhook_now(&caller("lms"), &webhook).await.unwrap();
    world.wait_for_state(&webhook, WebhookState::Paused).await;
    world.wait_for_sender_end(&webhook).await;
    world.receiver.forget();
    // Three events of each of two thousand assignments, whose first ones wait; and one that waits for nothing.
    let (now, later) = (world.gateway.now(), world.gateway.now() + SignedDuration::from_hours(1));
    let assignment = |number: u64| AssignmentId::parse(&format!("asg_{number:032x}")).unwrap();
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    for number in 0..=6_000 {
        let subject = EventSubject {
            connection: Some("exam".to_owned()),
            assignment: Some(assignment(if number == 6_000 { 9_999 } else { number % 2_000 })),
            assessment_ref: None,
        };
        let (event_type, id) = (EventType::AttemptStarted, EventId::generate(&world.system));
        let (is_first, tenant) = (number < 2_000, TENANT.to_owned());
        let attempt = DeliveryAttempt { at: now, status: Some(500), duration_ms: 1, error: None };
        deliveries.push(Mutation::Delivery(Box::new(Delivery {
            id: DeliveryId::generate(&world.system),
            tenant: tenant.clone(),
            webhook: webhook.clone(),
            event: id.clone(),
            sequence: number + 1,
            event_type,
            assignment: subject.assignment.clone(),
            connection: subject.connection.clone(),
            state: DeliveryState::Pending,
            reason: None,
            version: 1,
            step: u32::from(is_first),
            due: Some(if is_first { later } else { now }),
            attempts: if is_first { vec![attempt] } else { Vec::new() },
            created: now,
        })));
        let event = NewEvent { id, tenant, event_type, timestamp: now, subject, data: Map::new() };
        events.push(Mutation::Event(Box::new(event)));
    }
    world.store.commit(events).await.unwrap();
    let Webhook { version, scanned: before, .. } = world.stored(&webhook).await;
    deliveries.push(Mutation::ScanWebhook(WebhookScan { id: webhook.clone(), version, before, scanned: 6_001 }));
    world.store.commit(deliveries).await.unwrap();
    world.gateway.resume_webhook_now(&caller("lms"), &webhook).await.unwrap();
    let new = world.emit(Some(10_000)).await.to_string();
    world.wait_for_arrival("a", &[new]).await;
    world.wait_for_delivered(&webhook, 2).await;
    let mut arrived = sequences(&world.receiver.accepted("a"));
    arrived.sort_unstable();
    assert_eq!(arrived, [6_001, 6_002]);
}

#[tokio::test]
async fn an_event_at_which_only_the_receiver_times_out_fails_and_the_others_arrive() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.receiver.script(|one| match one.sequence {
        Some(1) => Err(DeliveryError::TimedOut(Duration::from_secs(20))),
        _ => respond(200),
    });
    let (mut delivered, mut emitted) = (0, 0);
    let first = async || world.deliveries(&webhook).await.first().is_some_and(|it| it.state == DeliveryState::Failed);
    world.emit(Some(1)).await;
    while !first().await {
        world.emit(Some(2)).await;
        emitted += 1;
        assert!(emitted < 1_000, "{:?}", world.deliveries(&webhook).await.first());
        delivered += 1;
        world.wait_for_delivered(&webhook, delivered).await;
    }
    let failed = world.deliveries(&webhook).await.remove(0);
    assert_eq!((failed.step, failed.due), (5, None), "the steps of the schedule");
    assert_ne!(world.stored(&webhook).await.state, WebhookState::Disabled);
}

#[tokio::test]
async fn a_sender_that_has_panicked_is_started_again() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 1).await;
    for delivered in 2..5 {
        world.owners.panics.store(true, Ordering::SeqCst);
        world.gateway.0.webhooks.refresh(&webhook);
        wait_until(async || !world.owners.panics.load(Ordering::SeqCst)).await;
        world.emit(None).await;
        world.wait_for_delivered(&webhook, delivered).await;
    }
}

#[tokio::test]
async fn an_event_at_which_every_attempt_panics_takes_the_steps_of_the_schedule_and_fails() {
    let world = World::new().await;
    let full = WebhookSettings { payload: WebhookPayload::Full, ..settings("https://a.example.com/hook") };
    let webhook = world.create(full).await.view.webhook.id;
    *world.owners.panics_at.lock().unwrap() = Some(EventType::AttemptStarted);
    world.emit_about(EventType::AttemptStarted, subject_of(Some(1)), Duration::ZERO).await;
    world.emit(Some(1)).await;
    world.wait_for_delivered(&webhook, 1).await;
    let all = world.deliveries(&webhook).await;
    let errors: Vec<&str> = all[0].attempts.iter().filter_map(|attempt| attempt.error.as_deref()).collect();
    assert_eq!((all[0].state, errors), (DeliveryState::Failed, vec!["The attempt ended unexpectedly."; 5]));
    assert_eq!((all[1].state, all[1].attempts.len()), (DeliveryState::Delivered, 1), "it waited for the one before");
    assert!(world.reported(EventType::WebhookFailing).await.is_empty(), "it says nothing of the receiver");
}

#[tokio::test]
async fn an_attempt_that_panics_is_made_again_after_a_pause() {
    let schedule = RetrySchedule::new(&[Duration::ZERO, Duration::from_hours(1)]).unwrap();
    let world = World::with(DeliverySettings { schedule, ..delivery_settings() }).await;
    let full = WebhookSettings { payload: WebhookPayload::Full, ..settings("https://a.example.com/hook") };
    let webhook = world.create(full).await.view.webhook.id;
    *world.owners.panics_at.lock().unwrap() = Some(EventType::AttemptStarted);
    let before = world.owners.reads.load(Ordering::SeqCst);
    world.emit_about(EventType::AttemptStarted, subject_of(Some(1)), Duration::ZERO).await;
    wait_until(async || world.deliveries(&webhook).await.first().is_some_and(|it| it.step == 1)).await;
    for delivered in 1..4 {
        // Whatever else the sender does, and reads again.
        world.gateway.0.webhooks.refresh(&webhook);
        world.emit(None).await;
        world.wait_for_delivered(&webhook, delivered).await;
    }
    assert_eq!(world.owners.reads.load(Ordering::SeqCst) - before, 1 + 3);
    let first = world.deliveries(&webhook).await.remove(0);
    assert_eq!((first.state, first.attempts.len(), first.step), (DeliveryState::Pending, 1, 1));
}

#[tokio::test]
async fn what_retention_takes_from_a_webhook_that_nothing_is_sent_to_is_reported_at_once_and_counted_exactly() {
    for is_paused in [true, false] {
        let world = World::new().await;
        let narrow = WebhookSettings { types: vec!["assignment.*".to_owned()], ..settings("https://a.example.com/") };
        let webhook = world.create(narrow).await.view.webhook.id;
        if is_paused {
            world.gateway.pause_webhook_now(&caller("lms"), &webhook).await.unwrap();
        } else {
            world.owners.is_gone.store(true, Ordering::SeqCst);
            world.gateway.0.webhooks.notify(&webhook);
        }
        world.wait_for_sender_end(&webhook).await;
        let (other, wanted) = (EventType::ResultPublished, EventType::AssignmentExpired);
        world.finish_first_purge().await;
        let old = [other, wanted, other, wanted, other].map(|kind| (kind, EventSubject::default(), 8 * DAY));
        world.emit_all(old).await;
        let kept = world.emit_about(wanted, EventSubject::default(), Duration::ZERO).await;
        for _ in 0..2 {
            world.gateway.purge_events().await;
        }
        let gaps = world.reported(EventType::WebhookGap).await;
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(json!([gaps[0]["from"], gaps[0]["to"], gaps[0]["count"]]), json!([2, 4, 2]), "paused: {is_paused}");
        // It goes on where it was left.
        world.owners.is_gone.store(false, Ordering::SeqCst);
        world.gateway.resume_webhook_now(&caller("lms"), &webhook).await.unwrap();
        world.wait_for_arrival("a", &[kept.to_string()]).await;
        assert_eq!(world.reported(EventType::WebhookGap).await.len(), 1);
    }
}
