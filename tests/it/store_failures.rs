//! The store fails in the middle of a write: whatever the gateway says of it stays true, and every write and every operation
//! ends by itself once the store is back.

use std::sync::Arc;
use std::time::Duration;

use examgate::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, client, faults, sandbox, startexam};
use crate::support::machine::{Disk, Machine};
use crate::support::postgres::Server;
use crate::support::relay::{Moment, Relay};
use crate::support::watch::{bodies, changes, until, until_effect};

/// One write ahead of all others: the transaction that keeps its intent.
fn keeps_an_intent(transaction: &str) -> bool {
    transaction.contains("INSERT INTO intents")
}

fn person(id: &str) -> Value {
    json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } })
}

/// A gateway on PostgreSQL with a wire that can be cut, and its vendor.
struct House {
    sandbox: Sandbox,
    relay: Relay,
    gateway: Arc<Gateway>,
}

impl House {
    async fn new() -> Self {
        let sandbox = sandbox().await;
        let relay = Relay::to(&Server::shared().schema().await).await;
        let connection = startexam(&format!("http://{}", sandbox.startexam()), "timeout = \"5s\"");
        let gateway = Arc::new(Gateway::replica(relay.url(), &connection).await);
        Self { sandbox, relay, gateway }
    }

    /// Sends a request whose answer is waited for later.
    fn send(&self, method: Method, path: &str, key: Option<&str>, body: Value) -> tokio::task::JoinHandle<Answer> {
        let (gateway, path, key) = (Arc::clone(&self.gateway), path.to_owned(), key.map(str::to_owned));
        tokio::spawn(async move {
            let mut request = gateway.request(method, &path);
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            request.json(&body).send().await
        })
    }
}

/// The answer names where the state will appear, and claims nothing.
fn unknown_with_resource(answer: &Answer) -> String {
    let resource = if answer.status == 202 {
        answer.header("location").unwrap_or_default()
    } else {
        assert_eq!(answer.text("/outcome"), "unknown", "{answer:?}");
        answer.text("/resource")
    };
    // `Location` may be absolute.
    let place = ["/operations/", "/candidates/", "/assignments/"].iter().find_map(|root| resource.find(root));
    resource[place.unwrap_or_else(|| panic!("where the outcome will be is missing: {answer:?}"))..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_for_a_moment_is_answered_as_it_went() {
    let house = House::new().await;
    house.relay.cut_at_commit(Moment::AnswerLost, keeps_an_intent);
    let sent = house.send(Method::POST, "/candidates", None, person("emp-a"));
    house.relay.until_cut(1).await;
    house.relay.mend();
    let answer = sent.await.expect("an answer");
    assert_eq!((answer.status, answer.text("/outcome")), (201, "applied"), "{answer:?}");
    assert_eq!(bodies(house.sandbox.startexam(), "employees").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_is_slow_and_falls_silent_for_a_moment_changes_no_answer() {
    let house = House::new().await;
    house.relay.delay(Duration::from_millis(20));
    house.relay.silence();
    let sent = house.send(Method::POST, "/candidates", Some("k"), person("emp-a"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    house.relay.mend();
    let answer = sent.await.expect("an answer");
    assert_eq!((answer.status, answer.text("/outcome")), (201, "applied"), "{answer:?}");
    assert_eq!(house.relay.cuts(), 0);
    // A cut between two requests is not seen at all.
    house.relay.cut();
    house.relay.mend();
    let again = house.send(Method::POST, "/candidates", Some("k"), person("emp-a")).await.expect("an answer");
    assert_eq!((again.status, &again.body), (201, &answer.body), "{again:?}");
}

#[tokio::test]
async fn a_disk_that_fills_refuses_writes_before_anything_is_sent() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let machine = Machine::new();
    let connection = startexam(&format!("http://{port}"), "");
    let gateway = Gateway::start_under(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    assert_eq!(gateway.post("/candidates", &person("emp-a")).await.status, 201);
    for disk in [Disk::Full, Disk::Broken] {
        machine.set_disk(disk);
        let refused = gateway.post("/candidates", &person("emp-b")).await;
        assert_eq!(refused.problem(), (503, "store_unavailable", "not_applied"), "{disk:?}: {refused:?}");
        machine.set_disk(Disk::Fine);
    }
    assert_eq!(changes(port, "employees", "created").await, ["emp-a"], "what was refused was not sent");
    let done = gateway.post("/candidates", &person("emp-b")).await;
    assert_eq!((done.status, done.text("/outcome")), (201, "applied"), "{done:?}");
    assert_eq!(changes(port, "employees", "created").await, ["emp-a", "emp-b"]);
}

#[tokio::test]
async fn a_disk_that_fills_after_the_vendor_was_asked_leaves_an_unknown_write_that_settles() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let machine = Machine::new();
    let connection = startexam(&format!("http://{port}"), "");
    let gateway = Gateway::start_under(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    faults(port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 1500, "times": 1 }] })).await;
    let registering = {
        let request = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
        tokio::spawn(async move { request.json(&person("emp-a")).send().await })
    };
    until_effect(port, "employees", "emp-a").await;
    machine.set_disk(Disk::Full);
    let answer = registering.await.expect("an answer");
    let resource = unknown_with_resource(&answer);
    machine.set_disk(Disk::Fine);
    let settled = until(&gateway, &resource, |read| read.text("/state") == "registered").await;
    assert_eq!(settled.text("/outcome"), "applied");
    let again = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
    let again = again.json(&person("emp-a")).send().await;
    assert!(again.status < 300 && resource.ends_with(again.text("/id")), "{again:?}");
    assert_eq!(changes(port, "employees", "created").await, ["emp-a"]);
}
