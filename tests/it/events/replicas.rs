//! Two gateways on one PostgreSQL database: a reader that follows one of them sees every event of both once, in order.

use std::sync::Arc;

use super::*;
use crate::support::postgres::Server;
use crate::support::relay::{Moment, Relay};

async fn start_two(sandbox: &Sandbox) -> [Arc<Gateway>; 2] {
    let url = Server::shared().schema().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    [Arc::new(Gateway::replica(&url, &connections).await), Arc::new(Gateway::replica(&url, &connections).await)]
}

/// Follows a gateway by long polling until it has seen so many events.
async fn follow(gateway: Arc<Gateway>, count: usize) -> Vec<Value> {
    let (mut seen, mut path) = (Vec::new(), "/events?limit=7".to_owned());
    while seen.len() < count {
        let page = gateway.request(Method::GET, &path).header("Prefer", "wait=30").send().await;
        seen.extend(items(&page));
        path = format!("/events?limit=7&after={}", page.text("/nextCursor"));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_one_replica_sees_every_event_of_both_in_order() {
    const EACH: usize = 15;
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox).await;
    let reader = tokio::spawn(follow(Arc::clone(&one), 2 * EACH));
    let mut stream = Stream::open(&other, "", None).await;
    let write = async |gateway: &Gateway, name: &str| {
        for number in 0..EACH {
            complete_operation(gateway, &format!("{name}{number}")).await;
        }
    };
    tokio::join!(write(&one, "a"), write(&other, "b"));
    let seen = reader.await.expect("it reads");
    assert_chain(&seen);
    assert_eq!(seen.len(), 2 * EACH);
    for event in &seen {
        assert_eq!(&stream.next().await.expect("an event").1, event);
    }
    assert_eq!(all_events(&other).await, seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_replica_that_dies_are_there_and_numbered_by_the_other() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox).await;
    for number in 0..5 {
        complete_operation(&one, &format!("a{number}")).await;
    }
    let one = Arc::into_inner(one).expect("the only one");
    drop(one.kill().await);
    complete_operation(&other, "b").await;
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(6);
    wait_until(&other, "/events?limit=200", complete).await;
    assert_eq!(all_events(&other).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_commit_was_in_doubt_is_there_once() {
    let sandbox = sandbox().await;
    let relay = Relay::to(&Server::shared().schema().await).await;
    let gateway = Gateway::replica(relay.url(), &startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    let ends_an_operation = |transaction: &str| transaction.contains("unnumbered_events");
    for number in 0..3 {
        relay.cut_at_commit(Moment::ReplyLost, ends_an_operation);
        let bulk = json!({ "connection": START, "items": [person(&format!("e{number}"))] });
        let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
        let accepted = request.json(&bulk).send().await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        relay.wait_for_cuts(number + 1).await;
        relay.restore();
        let id = accepted.text("/id").to_owned();
        wait_until(&gateway, &format!("/operations/{id}"), |shown| shown.text("/state") == "completed").await;
        wait_for_event(&gateway, "operation.completed", &format!("/operations/{id}")).await;
    }
    let events = all_events(&gateway).await;
    assert_eq!(events.len(), 3, "{events:?}");
}
