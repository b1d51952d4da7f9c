//! The store fails while a write is made: the caller gets `unknown`, and an event says once what became of it.

use super::*;
use crate::support::connections::client;
use crate::support::machine::{Disk, Machine};
use crate::support::postgres::Server;
use crate::support::relay::{Moment, Relay};
use crate::support::watch::wait_for_effect;

#[tokio::test]
async fn an_outcome_that_was_queued_while_the_disk_was_full_has_its_event() {
    let sandbox = sandbox().await;
    let machine = Machine::new();
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    let slow = json!({ "name": "delay_after_effect", "operation": "employees", "delayMs": 5_000, "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [slow] })).await;
    let registering = {
        let request = gateway.request(Method::POST, "/candidates");
        tokio::spawn(async move { request.json(&person("emp-a")).send().await })
    };
    wait_for_effect(sandbox.startexam(), "employees", "emp-a").await;
    machine.set_disk(Disk::Full);
    let unknown = registering.await.expect("a response");
    assert_eq!(unknown.problem(), (503, "store_unavailable", "unknown"), "{unknown:?}");
    machine.set_disk(Disk::Working);
    let event = wait_for_event(&gateway, "candidate.settled", unknown.text("/resource")).await;
    assert_eq!(json!([event["data"]["by"], event["data"]["outcome"]]), json!(["reconciler", "applied"]));
    assert_eq!(gateway.get(unknown.text("/resource")).await.text("/outcome"), "applied");
    assert_eq!(by_resource(&all_events(&gateway).await, "candidate.settled").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_beginning_was_in_doubt_has_one_event_when_it_is_known() {
    let sandbox = sandbox().await;
    let relay = Relay::to(&Server::shared().schema().await).await;
    let gateway = Gateway::replica(relay.url(), &startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    relay.cut_at_commit(Moment::ReplyLost, |transaction| transaction.contains("INSERT INTO intents"));
    let sent = {
        let request = gateway.request(Method::POST, "/candidates");
        tokio::spawn(async move { request.json(&person("emp-a")).send().await })
    };
    relay.wait_for_cuts(1).await;
    // The store is down until the caller has its response.
    let unknown = sent.await.expect("a response");
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    relay.restore();
    let event = wait_for_event(&gateway, "candidate.settled", unknown.text("/resource")).await;
    let shown = gateway.get(unknown.text("/resource")).await;
    assert_eq!(event["data"]["outcome"], shown.body["outcome"], "{shown:?}");
    assert_eq!(by_resource(&all_events(&gateway).await, "candidate.settled").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_in_doubt_is_not_reported_as_unknown_by_a_replica_that_dies_before_the_database_is_back() {
    let sandbox = sandbox().await;
    let url = Server::shared().schema().await;
    let relay = Relay::to(&url).await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::replica(relay.url(), &connections).await;
    relay.cut_at_commit(Moment::ReplyLost, |transaction| transaction.contains("DELETE FROM intents"));
    // Longer than the store waits for the reply.
    let request = gateway.request(Method::POST, "/candidates").header("Prefer", "wait=25");
    let sent = tokio::spawn(async move { request.json(&person("emp-a")).send().await });
    relay.wait_for_cuts(1).await;
    let accepted = sent.await.expect("a response");
    drop(gateway.kill().await);
    // No event tells of the outcome, so no response may have said that it is unknown: it is in the record.
    assert_eq!((accepted.status, accepted.text("/state")), (202, "pending"), "{accepted:?}");
    let other = Gateway::replica(&url, &connections).await;
    let shown = other.get(&format!("/candidates/{}", accepted.text("/id"))).await;
    assert_eq!((shown.text("/state"), shown.text("/outcome")), ("registered", "applied"), "{shown:?}");
    assert!(by_resource(&all_events(&other).await, "candidate.settled").is_empty());
}
