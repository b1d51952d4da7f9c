//! Events are kept for a while.

use rusqlite::Connection;

use super::*;

/// Makes the first events of a stopped gateway two months older.
fn age(folder: &std::path::Path, count: u32) {
    let database = Connection::open(folder.join("store.db")).expect("the store");
    let older = 60_i64 * 86_400 * 1_000_000;
    let changed = database
        .execute("UPDATE events SET timestamp = timestamp - ?1 WHERE sequence <= ?2", (older, count))
        .expect("the events");
    assert_eq!(changed, usize::try_from(count).expect("few"));
}

#[tokio::test]
async fn what_is_no_longer_kept_is_gone_and_says_where_to_begin() {
    let (_sandbox, gateway) = start().await;
    for number in 0..5 {
        complete_operation(&gateway, &format!("e{number}")).await;
    }
    let cursor = gateway.get("/events?limit=1").await.text("/nextCursor").to_owned();
    let (folder, _) = gateway.finish().await;
    age(folder.path(), 3);
    let gateway = Gateway::start_in(folder).await;
    for after in ["0", "1", cursor.as_str()] {
        let gone = gateway.get(&format!("/events?after={after}")).await;
        assert_eq!(gone.problem(), (410, "cursor_expired", "not_applied"), "{gone:?}");
        assert_eq!(gone.body["retryable"], false);
        let oldest = gateway.get(&format!("/events?after={}", gone.text("/oldest"))).await;
        let numbers: Vec<_> = items(&oldest).into_iter().map(|event| event["sequence"].clone()).collect();
        assert_eq!(numbers, [4, 5]);
        assert!(items(&oldest)[0].get("previous").is_none(), "{oldest:?}");
    }
    let stream = gateway.request(Method::GET, "/events").header("accept", "text/event-stream");
    let gone = stream.header("last-event-id", "2").send().await;
    assert_eq!(gone.problem().0, 410, "{gone:?}");
    // One that has seen all that is gone misses nothing.
    assert_eq!(items(&gateway.get("/events?after=3").await).len(), 2);
    assert_eq!(items(&gateway.get("/events").await).len(), 2);
}

#[tokio::test]
async fn the_numbers_go_on_after_all_events_were_removed() {
    let (_sandbox, gateway) = start().await;
    for number in 0..2 {
        complete_operation(&gateway, &format!("e{number}")).await;
    }
    let (folder, _) = gateway.finish().await;
    age(folder.path(), 2);
    let gateway = Gateway::start_in(folder).await;
    assert_eq!(items(&gateway.get("/events").await), Vec::<Value>::new());
    complete_operation(&gateway, "late").await;
    let events = items(&gateway.get("/events?after=2").await);
    assert_eq!((events.len(), &events[0]["sequence"], events[0].get("previous")), (1, &json!(3), None));
}
