//! The receiver and its inbox.

use super::*;
use crate::service::Refusal;

fn refusal<T>(result: &Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "taken",
        Err(Refusal::NotFound) => "not found",
        Err(Refusal::Busy) => "busy",
        Err(Refusal::WrongKey(401)) => "wrong key",
        Err(_) => "other",
    }
}

#[tokio::test]
async fn a_receiver_is_found_by_connection_and_token() {
    let world = World::with_receiver().await;
    let find = |connection: &str, token: &str| refusal(&world.gateway.find_receiver(connection, token));
    assert_eq!(find(CONNECTION, stub::TOKEN), "taken");
    for (connection, token) in [(CONNECTION, "wrong"), (CONNECTION, ""), ("other", stub::TOKEN), ("", "")] {
        assert_eq!(find(connection, token), "not found", "{connection} {token}");
    }
    let feed = World::with_feed().await;
    assert_eq!(refusal(&feed.gateway.find_receiver(CONNECTION, stub::TOKEN)), "not found");
}

#[tokio::test]
async fn any_of_the_keys_in_any_of_the_headers_is_right() {
    let world = World::with_receiver().await;
    let cases = [
        (Some(("x-key", stub::KEY)), "taken"),
        (Some(("key", "an-older-key")), "taken"),
        (Some(("other", stub::KEY)), "wrong key"),
        (Some(("key", "wrong")), "wrong key"),
        (None, "wrong key"),
    ];
    for (header, expected) in cases {
        let receiver = world.gateway.find_receiver(CONNECTION, stub::TOKEN).unwrap_or_else(|_| panic!());
        let key = |name: &str| header.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
        let taken = world.gateway.receive_webhook(receiver, None, key, b"{}".to_vec()).await;
        assert_eq!(refusal(&taken), expected, "{header:?}");
    }
    assert_eq!(world.store.received_webhooks(CONNECTION, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn r1_a_webhook_is_durable_before_it_is_acknowledged() {
    let mut world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.post(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert!(world.reports("lms").await.is_empty());
    world.restart().await;
    world.read_received().await;
    assert_eq!(given(&world.only_result("lms").await), Some(4.0));
    assert!(world.store.received_webhooks(CONNECTION, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn r2_a_webhook_that_comes_again_keeps_its_time() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    let first = world.only_report("lms").await;
    world.receive(Some("rust"), &webhook("a@example.org", 6.0)).await;
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    let reports = world.reports("lms").await;
    assert_eq!((reports.len(), reports[0].repeats, reports[0].as_of), (2, 1, first.as_of));
    let results = world.results("lms").await;
    assert_eq!(results.iter().map(given).collect::<Vec<_>>(), [Some(4.0), Some(6.0)]);
}

#[tokio::test]
async fn the_background_reads_what_has_come() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.gateway.spawn_report_readers();
    world.post(Some("rust"), &webhook("a@example.org", 4.0)).await;
    while world.results("lms").await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_background_reads_the_feed_at_start_and_when_it_is_asked_to() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    world.stub.last_page(&[started("p1", 10)], 100);
    world.gateway.spawn_report_readers();
    while world.results("lms").await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.stub.last_page(&[finished("p1", 10, 4.0)], 200);
    world.gateway.read_feed_now(&caller("lms"), CONNECTION).unwrap();
    while world.only_result("lms").await.version == 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
