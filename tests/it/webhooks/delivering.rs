//! Deliveries from end to end, to a receiver that misbehaves, while gateways die: every event arrives, signed and in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use examgate::sandbox::{Sandbox, accounts};
use serde_json::{Value, json};

use crate::support::connections::startexam;
use crate::support::gateway::{Gateway, TIMEOUT, http, sandbox, set_faults};
use crate::support::people::person;
use crate::support::postgres::Server;

/// Events of many kinds come from registrations; these people are registered at once.
const BATCH: usize = 2;

/// Returns the configuration of a gateway with a webhook at the sandbox's LMS; `more` is added to the webhook.
fn configuration(sandbox: &Sandbox, more: &str) -> String {
    let (lms, secret) = (sandbox.lms(), accounts::lms::SECRET);
    startexam(&format!("http://{}", sandbox.startexam()), "")
        + &format!(
            "[delivery]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]\nallow_hosts = [\"127.0.0.1\"]\n\
             timeout = \"2s\"\nschedule = [\"0s\", \"10ms\", \"20ms\", \"50ms\", \"100ms\", \"100ms\", \"100ms\", \
             \"100ms\", \"100ms\", \"100ms\", \"100ms\", \"100ms\", \"100ms\", \"100ms\", \"100ms\", \"100ms\", \
             \"100ms\", \"100ms\", \"100ms\", \"100ms\"]\n\
             [webhooks.lms]\ntenant = \"lms\"\nurl = \"http://{lms}/hook/main\"\nsecret = \"plain:{secret}\"\n\
             types = [\"operation.*\"]\n{more}\n"
        )
}

/// Has an event made: a bulk that ends.
async fn make_event(gateway: &Gateway, number: usize) {
    let people: Vec<Value> = (0..BATCH).map(|row| person(&format!("e{number}-{row}"))).collect();
    let body = json!({ "items": people });
    let accepted = gateway.post_with_key("/candidates/bulk", &format!("bulk-{number}"), &body).await;
    assert!([200, 202, 207].contains(&accepted.status), "{accepted:?}");
}

/// Returns what the LMS received.
async fn ledger(lms: SocketAddr) -> Vec<Value> {
    let response = http().get(format!("http://{lms}/_ledger")).send().await.expect("the sandbox responds");
    let ledger: Value = response.json().await.expect("JSON");
    ledger["webhooks"].as_array().expect("a list").clone()
}

/// An event that was accepted.
struct Arrival {
    id: String,
    previous: Option<u64>,
    times: usize,
}

/// Returns the accepted events at a path, by their numbers.
async fn accepted(lms: SocketAddr, path: &str) -> BTreeMap<u64, Arrival> {
    let mut arrivals: BTreeMap<u64, Arrival> = BTreeMap::new();
    for one in ledger(lms).await {
        assert_eq!(one["verified"], true, "{one}");
        if let (true, Some(sequence)) =
            (one["accepted"] == true && one["path"] == path, one["body"]["sequence"].as_u64())
        {
            let id = one["webhookId"].as_str().expect("an id").to_owned();
            let previous = one["body"]["previous"].as_u64();
            let arrival = arrivals.entry(sequence).or_insert(Arrival { id: id.clone(), previous, times: 0 });
            assert_eq!((&arrival.id, arrival.previous), (&id, previous), "it is the same in every attempt");
            arrival.times += 1;
        }
    }
    arrivals
}

/// Waits until so many events were accepted at a path; there must not be more. Their chain must be unbroken.
async fn wait_for_accepted(lms: SocketAddr, path: &str, count: usize) -> BTreeMap<u64, Arrival> {
    let started = tokio::time::Instant::now();
    loop {
        let found = accepted(lms, path).await;
        if found.len() >= count {
            assert_eq!(found.len(), count, "none is invented");
            let mut before = None;
            for (sequence, arrival) in &found {
                assert_eq!(arrival.previous, before, "{sequence}");
                before = Some(*sequence);
            }
            return found;
        }
        assert!(started.elapsed() < TIMEOUT, "only {} of {count} events arrived", found.len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The faults of the receiver: each strikes a share of the attempts.
fn faults() -> Value {
    json!({ "faults": [
        { "name": "server_error", "probability": 0.1 },
        { "name": "rate_limited", "retryAfter": 0, "probability": 0.05 },
        { "name": "unavailable", "retryAfter": 0, "probability": 0.05 },
        { "name": "redirect", "location": "http://127.0.0.1:1/", "probability": 0.05 },
        { "name": "reset_before_effect", "probability": 0.05 },
        { "name": "reset_after_effect", "probability": 0.05 },
        { "name": "delay_after_effect", "delayMs": 3_000, "probability": 0.02 },
    ] })
}

#[tokio::test]
async fn every_event_arrives_over_kills_of_the_gateway_and_faults_of_the_receiver() {
    let sandbox = sandbox().await;
    set_faults(sandbox.lms(), faults()).await;
    let mut gateway = Gateway::start(&configuration(&sandbox, "")).await;
    for number in 0..24 {
        make_event(&gateway, number).await;
        if number % 4 == 3 {
            gateway = Gateway::start_in(gateway.kill().await).await;
        }
    }
    wait_for_accepted(sandbox.lms(), "/hook/main", 24).await;
}

#[tokio::test]
async fn an_event_that_no_kill_and_no_fault_touches_arrives_once() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&configuration(&sandbox, "")).await;
    for number in 0..10 {
        make_event(&gateway, number).await;
    }
    let arrived = wait_for_accepted(sandbox.lms(), "/hook/main", 10).await;
    assert!(arrived.values().all(|arrival| arrival.times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_replicas_sends_and_the_other_takes_over_when_it_dies() {
    let sandbox = sandbox().await;
    let (url, configuration) = (Server::shared().schema().await, configuration(&sandbox, ""));
    let one = Gateway::replica(&url, &configuration).await;
    let other = Gateway::replica(&url, &configuration).await;
    for number in 0..10 {
        make_event(if number % 2 == 0 { &one } else { &other }, number).await;
    }
    let arrived = wait_for_accepted(sandbox.lms(), "/hook/main", 10).await;
    assert!(arrived.values().all(|arrival| arrival.times == 1), "there is one sender");
    drop(one.kill().await);
    for number in 10..20 {
        make_event(&other, number).await;
    }
    wait_for_accepted(sandbox.lms(), "/hook/main", 20).await;
}

#[tokio::test]
async fn a_dead_receiver_does_not_keep_another_waiting_and_gets_everything_when_it_is_back() {
    let sandbox = sandbox().await;
    let (lms, secret) = (sandbox.lms(), accounts::lms::SECRET);
    let other = format!(
        "[webhooks.other]\ntenant = \"lms\"\nurl = \"http://{lms}/hook/other\"\nsecret = \"plain:{secret}\"\n\
         types = [\"operation.*\"]\n"
    );
    // Nothing listens there at first.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let dead = configuration(&sandbox, &other)
        .replace(&format!("http://{lms}/hook/main"), &format!("http://127.0.0.1:{port}/hook"));
    let gateway = Gateway::start(&dead).await;
    for number in 0..10 {
        make_event(&gateway, number).await;
    }
    wait_for_accepted(lms, "/hook/other", 10).await;
    let folder = gateway.kill().await;
    let file = folder.path().join("examgate.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let back = text.replace(&format!("http://127.0.0.1:{port}/hook"), &format!("http://{lms}/hook/main"));
    std::fs::write(&file, back).expect("a file");
    let _gateway = Gateway::start_in(folder).await;
    wait_for_accepted(lms, "/hook/main", 10).await;
}
