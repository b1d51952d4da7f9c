//! What arrives, and in which order.

use super::receiver::respond;
use super::*;
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::signature::sign;
use crate::service::webhooks::types::SecretRotation;

#[tokio::test]
async fn events_arrive_once_signed_and_in_an_unbroken_chain() {
    let world = World::new().await;
    world.emit(None).await;
    let created = world.create(settings("https://a.example.com/hook")).await;
    let secret = created.secret.expect("a generated secret");
    assert!(created.ping.expect("a ping").delivered);
    let ping = &world.receiver.all()[0];
    assert_eq!((&ping.json["type"], ping.sequence), (&json!("ping"), None));
    world.receiver.forget();
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(world.emit(Some(number % 7)).await.to_string());
    }
    let webhook = created.view.webhook.id;
    world.wait_for_delivered(&webhook, 300).await;
    let mut received = world.receiver.all();
    received.sort_by_key(|one| one.sequence);
    // The event before it was made belongs to another time.
    assert_eq!(sequences(&received), (2..=301).collect::<Vec<_>>());
    assert_eq!(received.iter().map(|one| one.headers.id.clone()).collect::<Vec<_>>(), ids);
    let previous: Vec<Option<u64>> = received.iter().map(|one| one.json["previous"].as_u64()).collect();
    assert_eq!(previous, (1..=300).map(Some).collect::<Vec<_>>());
    let key = [SigningKey::parse(secret.expose()).unwrap()];
    for one in &received {
        let at = Timestamp::from_second(one.headers.timestamp.parse().unwrap()).unwrap();
        assert_eq!(sign(&key, &one.headers.id, at, &one.body), one.headers);
    }
    let view = world.gateway.webhook(&caller("lms"), &webhook).await.unwrap();
    assert_eq!((view.position.delivered, view.position.latest, view.position.oldest_pending), (301, 301, None));
}

#[tokio::test]
async fn events_of_one_assignment_arrive_in_order_and_others_pass_them() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    let mut refusals = 4;
    world.receiver.script(move |one| {
        if one.sequence == Some(1) && refusals > 0 {
            refusals -= 1;
            return respond(500);
        }
        respond(200)
    });
    for assignment in [1, 1, 2, 1, 2, 2] {
        world.emit(Some(assignment)).await;
    }
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 7).await;
    let order = sequences(&world.receiver.accepted("a"));
    let of_assignment =
        |numbers: &[u64]| -> Vec<u64> { order.iter().copied().filter(|number| numbers.contains(number)).collect() };
    assert_eq!(of_assignment(&[1, 2, 4]), [1, 2, 4]);
    assert_eq!(of_assignment(&[3, 5, 6]), [3, 5, 6]);
    let all = world.deliveries(&webhook).await;
    assert_eq!(all.iter().map(|delivery| delivery.attempts.len()).collect::<Vec<_>>(), [5, 1, 1, 1, 1, 1, 1]);
    assert_eq!(all[0].attempts[0].error.as_deref(), Some("The receiver responded with status 500."));
}

#[tokio::test]
async fn a_webhook_gets_only_what_it_chose_and_its_owner_may_see() {
    let world = World::new().await;
    *world.owners.connections.lock().unwrap() = ConnectionAccess::Named(["other".to_owned()].into());
    let chosen = WebhookSettings { types: vec!["attempt.*".to_owned()], ..settings("https://chosen.example.com/") };
    let chosen = world.create(chosen).await.view.webhook.id;
    let every = world.webhook("every").await;
    let about = |connection: Option<&str>| EventSubject {
        connection: connection.map(str::to_owned),
        ..EventSubject::default()
    };
    for (event_type, connection) in [
        (EventType::ResultPublished, Some("exam")),
        (EventType::ResultPublished, Some("other")),
        (EventType::AttemptCompleted, Some("exam")),
        (EventType::AttemptCompleted, Some("other")),
        (EventType::OperationCompleted, None),
    ] {
        world.emit_about(event_type, about(connection), Duration::ZERO).await;
    }
    world.wait_for_delivered(&every, 3).await;
    world.wait_for_delivered(&chosen, 1).await;
    let at = |host: &str| {
        let mut found: Vec<_> =
            world.receiver.accepted(host).iter().map(|one| (one.sequence, one.json["previous"].as_u64())).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(at("every"), [(Some(2), None), (Some(4), Some(2)), (Some(5), Some(4))]);
    assert_eq!(at("chosen"), [(Some(4), None)]);
}

#[tokio::test]
async fn a_full_payload_holds_the_resource_as_the_owner_reads_it() {
    let world = World::new().await;
    let full = WebhookSettings { payload: WebhookPayload::Full, ..settings("https://a.example.com/hook") };
    let webhook = world.create(full).await.view.webhook.id;
    world.receiver.forget();
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 1).await;
    let data = &world.receiver.all()[0].json["data"];
    assert_eq!(data["object"], json!({ "path": "/results/res_1", "readFor": "lms" }));
    let event = world.store.event(TENANT, 1).await.unwrap().unwrap();
    assert_eq!(event.event.data.get("object"), None, "it is never stored");
}

#[tokio::test]
async fn both_secrets_sign_until_the_overlap_ends() {
    let world = World::new().await;
    let webhook = world.webhook("a").await;
    let rotate = async |overlap| {
        let rotation = SecretRotation { overlap, secret: None };
        world.gateway.rotate_webhook_secret_now(&caller("lms"), &webhook, rotation).await.unwrap().secret.unwrap()
    };
    let first = rotate(DAY).await;
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 1).await;
    let second = rotate(Duration::ZERO).await;
    world.emit(None).await;
    world.wait_for_delivered(&webhook, 2).await;
    let received = world.receiver.all();
    let signed_by = |at: usize, secret: &crate::secret::Secret| {
        let (one, key) = (&received[at], SigningKey::parse(secret.expose()).unwrap());
        let time = Timestamp::from_second(one.headers.timestamp.parse().unwrap()).unwrap();
        let alone = sign(&[key], &one.headers.id, time, &one.body).signature;
        one.headers.signature.split(' ').position(|signature| signature == alone)
    };
    assert_eq!(received[0].headers.signature.split(' ').count(), 2);
    assert_eq!(signed_by(0, &first), Some(0), "the current one is the first");
    assert_eq!((signed_by(1, &second), received[1].headers.signature.split(' ').count()), (Some(0), 1));
}

#[tokio::test]
async fn no_more_attempts_are_in_flight_than_allowed() {
    let world = World::new().await;
    let webhook = WebhookSettings { max_in_flight: 3, ..settings("https://a.example.com/hook") };
    let webhook = world.create(webhook).await.view.webhook.id;
    world.receiver.forget();
    world.receiver.open(false);
    for _ in 0..50 {
        world.emit(None).await;
    }
    wait_until(async || world.receiver.in_flight() == 3).await;
    world.receiver.open(true);
    world.wait_for_delivered(&webhook, 50).await;
    assert_eq!(world.receiver.all().iter().map(|one| one.in_flight).max(), Some(3));
}

#[tokio::test]
async fn no_more_attempts_are_made_in_a_second_than_allowed() {
    let world = World::new().await;
    let slow = WebhookSettings { requests_per_second: 20, ..settings("https://a.example.com/hook") };
    let webhook = world.create(slow).await.view.webhook.id;
    let began = tokio::time::Instant::now();
    for _ in 0..9 {
        world.emit(None).await;
    }
    world.wait_for_delivered(&webhook, 9).await;
    // A slow machine only makes it longer.
    assert!(began.elapsed() >= Duration::from_millis(8 * 50), "{:?}", began.elapsed());
}
